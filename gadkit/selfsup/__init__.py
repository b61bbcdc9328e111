"""Self-supervised methods, each a class that reads like its paper.

Book: selfsup/comparison
"""

from gadkit.selfsup.byol import BYOL
from gadkit.selfsup.dino import DINO
from gadkit.selfsup.mae import MAE
from gadkit.selfsup.mocov3 import MoCoV3
from gadkit.selfsup.simclr import SimCLR
from gadkit.selfsup.swav import SwAV

__all__ = ["BYOL", "DINO", "MAE", "MoCoV3", "SimCLR", "SwAV"]
