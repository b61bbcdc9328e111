"""Frozen image and text encoders behind one contract, whatever library they come from.

Book: anomaly/winclip
"""

from gadkit.backbones.encoder import Encoder
from gadkit.backbones.openclip import OpenCLIP
from gadkit.backbones.preprocess import Preprocess
from gadkit.backbones.sentences import Sentences
from gadkit.backbones.timm_models import Timm

__all__ = ["Encoder", "OpenCLIP", "Preprocess", "Sentences", "Timm"]
