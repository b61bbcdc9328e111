"""Defects planted on real photographs: the surfaces that scikit-image carries, cut into tiles.

    >>> data = planted_set("gravel")
    >>> len(data.references), data.defects.count("good"), data.defects[-3:]
    (4, 6, ('scratch', 'stain', 'hole'))

The photographs are real and the defects are painted, so that their masks are known to the pixel.  No network of this
project has learnt from these photographs or from these defects.

Book: anomaly/winclip
"""

from functools import cache

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from gadkit.checks import checked, one_of, whole
from gadkit.protocols import TestSet

SURFACES = {"brick": "brick wall", "grass": "grass", "gravel": "gravel"}  # photographs of 512 x 512, and their nouns
PLANTED = ("scratch", "stain", "hole")
REFERENCES = 4


@checked
def plant(tile: UInt8[Tensor, "s s"], kind: str, seed: int) -> tuple[UInt8[Tensor, "s s"], Bool[Tensor, "s s"]]:
    """Paint a pale "scratch", a dark "stain" or a nearly black "hole" on a grey tile; the seed draws place and turn.

    Returns the painted tile and the mask of what was painted.  Raises ValueError for another kind.
    """
    one_of("kind", kind, PLANTED)
    draw = torch.rand(3, generator=torch.Generator().manual_seed(seed))
    across, down, turn = draw * torch.tensor([0.4, 0.4, 3])
    x = torch.arange(len(tile)) / len(tile) - 0.3
    x, y = x[None] - across, x[:, None] - down
    x, y = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    mask, tone = {
        "scratch": ((y.abs() < 0.015) & (x.abs() < 0.3), 0.35 * tile + 150),
        "stain": (x.hypot(1.6 * y) < 0.2, 0.6 * tile),
        "hole": (x.hypot(y) < 0.1, 0.1 * tile),
    }[kind]
    return torch.where(mask, tone, tile.float()).round().to(torch.uint8), mask


@checked
@cache
def planted_set(surface: str, tiles: int = 4) -> TestSet:
    """One photograph, "brick", "grass" or "gravel", cut into `tiles` x `tiles` that share no pixel.

    Four tiles, drawn by lot, are references.  Of the others about half stay sound, and the last get the three kinds of
    defect in turn: 6 of 12 for 4 x 4 tiles of 128 pixels, 9 of 21 for 5 x 5 of 102.  Raises ValueError for another
    photograph, for less than 4 tiles a side and for more than 16.
    """
    from skimage import data

    one_of("surface", surface, SURFACES), whole("tiles", tiles, 4, 16)
    photo = torch.from_numpy(getattr(data, surface)())  # (512, 512)
    side = len(photo) // tiles
    cut = photo.unfold(0, side, side).unfold(1, side, side).flatten(0, 1)  # (tiles^2, s, s)
    cut = cut[torch.randperm(len(cut), generator=torch.Generator().manual_seed(0))]
    known, tested = cut[:REFERENCES], cut[REFERENCES:].clone()
    bad = len(tested) // 2 // len(PLANTED) * len(PLANTED)
    kinds, masks = PLANTED * (bad // len(PLANTED)), torch.zeros(tested.shape, dtype=torch.bool)
    for i, kind in enumerate(kinds):
        at = len(tested) - bad + i
        tested[at], masks[at] = plant(tested[at], kind, i)
    names = ("good",) * (len(tested) - bad) + kinds
    known, tested = (grey[:, None].repeat(1, 3, 1, 1) for grey in (known, tested))
    return TestSet(surface, known, tested, masks, names, SURFACES[surface])
