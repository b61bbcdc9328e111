"""Frozen image and text encoders behind one contract, whatever library they come from.

Book: anomaly/winclip
"""

from gadkit.backbones.openclip import OpenCLIP, Preprocess, load_clip

__all__ = ["OpenCLIP", "Preprocess", "load_clip"]
