"""Frozen image and text encoders behind one contract, whatever library they come from.

Book: anomaly/winclip
"""

from gadkit.backbones.loading import load_clip
from gadkit.backbones.openclip import OpenCLIP, Preprocess

__all__ = ["OpenCLIP", "Preprocess", "load_clip"]
