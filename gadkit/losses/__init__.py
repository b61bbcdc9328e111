"""Every objective of the book as a pure function: their equations on a few pages.

Book: selfsup/comparison
"""

from gadkit.losses.clustering import dino_loss, ibot_loss, koleo, next_centre, sinkhorn, swav_loss
from gadkit.losses.contrastive import balanced_sigmoid, clip_loss, info_nce, nt_xent, siglip_loss
from gadkit.losses.regression import byol_loss, mae_loss

__all__ = [
    "balanced_sigmoid",
    "byol_loss",
    "clip_loss",
    "dino_loss",
    "ibot_loss",
    "info_nce",
    "koleo",
    "mae_loss",
    "next_centre",
    "nt_xent",
    "siglip_loss",
    "sinkhorn",
    "swav_loss",
]
