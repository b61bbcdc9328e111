"""Frozen image and text encoders behind one contract, whatever library they come from.

Book: anomaly/winclip
"""

from gadkit.backbones.encoder import Encoder, load_encoder
from gadkit.backbones.loading import load_clip
from gadkit.backbones.openclip import OpenCLIP, Preprocess
from gadkit.backbones.timm_models import Timm, load_timm, tiny_model

__all__ = ["Encoder", "OpenCLIP", "Preprocess", "Timm", "load_clip", "load_encoder", "load_timm", "tiny_model"]
