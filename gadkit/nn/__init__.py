"""The networks that the book trains: a vision transformer, heads, teachers.

Book: selfsup/representations
"""

from gadkit.nn.ema import cosine_momentum, ema_update, teacher_of
from gadkit.nn.heads import DINOHead, Prototypes, mlp
from gadkit.nn.patches import patchify, unpatchify
from gadkit.nn.vit import ViT, sincos_positions

__all__ = [
    "DINOHead",
    "Prototypes",
    "ViT",
    "cosine_momentum",
    "ema_update",
    "mlp",
    "patchify",
    "sincos_positions",
    "teacher_of",
    "unpatchify",
]
