"""Context in space: which way is up, and where does this tile belong.

Book: pretext/context
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from gadkit.checks import checked, one_of
from gadkit.data.views import normalise
from gadkit.nn.vit import ViT
from gadkit.pretext.base import Pretext, init_small
from gadkit.pretext.shortcuts import drop_colour, lens, pivot, project_colour, standardise
from gadkit.protocols import Recipe

Tiles = Float[Tensor, "b n 3 t t"]


class Rotation(Pretext):
    """By how many quarter turns has a photograph been rotated (Gidaris et al. 2018)?  `collapse` is log 4.

    Every photograph is shown at `turns` of the four rotations, all four in the paper.  `by="rot90"` moves pixels and
    changes none; "resampling" opens the shortcut: after a turn about a pixel beside the centre, a dark line at the
    border gives the angle away.
    """

    def __init__(self, encoder: ViT | None = None, turns: int = 4, by: str = "rot90", size: int = 64) -> None:
        super().__init__(encoder, size)
        if not 1 <= turns <= 4:
            raise ValueError(f"turns: expected 1 to 4 rotations a photograph, got {turns}")
        self.turns, self.by = turns, one_of("by", by, ("rot90", "resampling"))
        self.head = init_small(nn.Linear(self.encoder.width, 4))

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """The turned photographs, (turns * b, 3, s, s), and by how many quarters each was turned, (turns * b)."""
        (images,) = self.columns(batch)
        upright = self.photographs(images)
        first = torch.randint(4, (len(upright),), device=upright.device)  # where each photograph's turns begin
        quarters = torch.cat([(first + i) % 4 for i in range(self.turns)])  # (turns * b)
        return [normalise(rotate(upright.repeat(self.turns, 1, 1, 1), quarters, self.by)), quarters]

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy over the four angles."""
        turned, quarters = views
        return F.cross_entropy(self.head(self.features(turned)), quarters)

    def collapse(self, batch_size: int) -> float:
        """Log 4: all angles alike."""
        return math.log(4)


@checked
def rotate(images: Float[Tensor, "b 3 s s"], quarters: Int[Tensor, "b"], by: str = "rot90") -> Tensor:
    """Turn each image anticlockwise by its own number of quarters."""
    turn = pivot if by == "resampling" else lambda x, k: torch.rot90(x, k, (2, 3))
    out = torch.empty_like(images)
    for k in quarters.unique().tolist():  # those that occur: a grid of no images cannot be made
        out[quarters == k] = turn(images[quarters == k], k)
    return out


class Puzzle(Pretext):
    """The base of jigsaw and relative position: photographs cut into `grid` x `grid` tiles that do not touch.

    A tile of `tile` pixels lies at random in a cell that is `gap` pixels larger, so tiles are 0 to 2 * gap pixels
    apart, `gap` on average; `gap=0` opens the shortcut of lines that run on from tile to tile.  `aberration` puts a
    lens before the camera, and its fringes give away where in the photograph a tile was.  `colour` closes that:
    "project" or "drop" take away the colours of the fringes, "shift" moves each channel of each tile by up to `spread`
    pixels on its own; "keep" leaves it open.  `even` standardises each tile's brightness.
    """

    recipe = Recipe(lr=2e-3)
    spread = 2

    def __init__(
        self,
        encoder: ViT | None = None,
        grid: int = 3,
        tile: int = 24,
        gap: int = 8,
        colour: str = "shift",
        even: bool = True,
        aberration: float = 0.0,
    ) -> None:
        super().__init__(encoder, tile)
        if gap < 0 or grid < 2:
            raise ValueError(f"puzzle: expected a gap of at least 0 in a grid of at least 2, got {gap} and {grid}")
        self.grid, self.tile, self.gap, self.even, self.aberration = grid, tile, gap, even, aberration
        self.colour = one_of("colour", colour, ("keep", "shift", "project", "drop"))

    def tiles(self, images: UInt8[Tensor, "b 3 h w"]) -> Tiles:
        """A crop of each photograph, seen through the lens, in tiles, row by row, ready for the encoder."""
        photographs = self.photographs(images, self.grid * (self.tile + self.gap))
        if self.aberration:
            photographs = lens(photographs, self.aberration)
        spread = self.spread if self.colour == "shift" else 0
        tiles = cut(normalise(photographs), self.grid, self.tile, self.gap, spread)
        if self.colour == "project":
            tiles = project_colour(tiles)
        if self.colour == "drop":
            tiles = drop_colour(tiles.flatten(0, 1)).view_as(tiles)
        return standardise(tiles) if self.even else tiles

    def encode(self, tiles: Tiles) -> Float[Tensor, "b n e"]:
        """Every tile by itself: no tile sees another before the head does."""
        return self.features(tiles.flatten(0, 1)).unflatten(0, tiles.shape[:2])


class Jigsaw(Puzzle):
    """In which order do the tiles lie?  One of `permutations` far-apart ones (Noroozi and Favaro 2016).

    `collapse` is the logarithm of their number.  For the other options see `Puzzle`.
    """

    def __init__(self, encoder: ViT | None = None, permutations: int = 16, hidden: int = 96, **options: object) -> None:
        super().__init__(encoder, **options)
        self.register_buffer("permutations", permutation_set(self.grid**2, permutations))
        side_by_side = self.grid**2 * self.encoder.width
        self.head = init_small(
            nn.Sequential(nn.Linear(side_by_side, hidden), nn.GELU(), nn.Linear(hidden, permutations))
        )

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """The tiles (b, n, 3, t, t) out of order, and which permutation it was: tile i was number perm[i] before."""
        (images,) = self.columns(batch)
        tiles = self.tiles(images)
        which = torch.randint(len(self.permutations), (len(tiles),), device=tiles.device)
        rows = torch.arange(len(tiles), device=tiles.device)[:, None]
        return [tiles[rows, self.permutations[which]], which]

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy over the permutations, from all tiles' features side by side."""
        tiles, which = views
        return F.cross_entropy(self.head(self.encode(tiles).flatten(1)), which)

    def collapse(self, batch_size: int) -> float:
        """The logarithm of the number of permutations: all alike."""
        return math.log(len(self.permutations))


class RelativePosition(Puzzle):
    """Where does a tile lie, seen from the one in the middle (Doersch et al. 2015)?  `collapse` is log 8.

    Each photograph asks for all eight neighbours.  For the options see `Puzzle`; the paper drops or projects colour.
    """

    def __init__(
        self, encoder: ViT | None = None, hidden: int = 128, colour: str = "project", **options: object
    ) -> None:
        super().__init__(encoder, 3, colour=colour, **options)
        self.head = init_small(
            nn.Sequential(nn.Linear(2 * self.encoder.width, hidden), nn.GELU(), nn.Linear(hidden, 8))
        )

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """The nine tiles, (b, 9, 3, t, t); number 4 is the one in the middle."""
        (images,) = self.columns(batch)
        return [self.tiles(images)]

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy over the eight places, from the features of the middle tile and of another one."""
        tiles = self.encode(views[0])  # (b, 9, w)
        around = torch.cat([tiles[:, :4], tiles[:, 5:]], 1)
        pairs = torch.cat([tiles[:, 4:5].expand_as(around), around], 2)  # (b, 8, 2w)
        places = torch.arange(8, device=pairs.device).repeat(len(pairs))
        return F.cross_entropy(self.head(pairs).flatten(0, 1), places)

    def collapse(self, batch_size: int) -> float:
        """Log 8: all places alike."""
        return math.log(8)


@checked
def cut(
    images: Float[Tensor, "b 3 s s"],
    grid: int = 3,
    tile: int = 24,
    gap: int = 8,
    spread: int = 0,
    generator: torch.Generator | None = None,
) -> Tiles:
    """Tiles of grid x grid cells of tile + gap pixels, each at random in its cell, row by row.

    `spread` moves the channels of a tile apart, each by up to so many pixels either way, as far as the cell allows.
    Raises ValueError for images of another side than grid * (tile + gap).
    """
    b, _, s, width = images.shape
    cell, n, where = tile + gap, grid * grid, images.device
    if not s == width == grid * cell:
        raise ValueError(f"images: expected {grid * cell} pixels a side, got {s} x {width}")
    corner = torch.randint(gap + 1, (b, n, 1, 2), generator=generator).to(where)
    apart = torch.randint(-spread, spread + 1, (b, n, 3, 2), generator=generator).to(where)
    corner = (corner + apart).clamp(0, gap)[..., None] + torch.arange(tile, device=where)  # (b, n, 3, 2, t)
    cells = images.view(b, 3, grid, cell, grid, cell).permute(0, 2, 4, 1, 3, 5).reshape(b, n, 3, cell, cell)
    rows = corner[:, :, :, 0, :, None].expand(-1, -1, -1, -1, cell)
    columns = corner[:, :, :, 1, None].expand(-1, -1, -1, tile, -1)
    return cells.gather(3, rows).gather(4, columns)


@checked
def permutation_set(n: int, count: int, generator: torch.Generator | None = None) -> Int[Tensor, "count n"]:
    """`count` permutations of n tiles that differ from each other in as many places as can be.

    Greedy: the identity, then always the one whose nearest neighbour among those chosen is farthest in Hamming
    distance (Noroozi and Favaro 2016, section 3.2); ties are broken at random, the same way every time unless a
    generator is given.  Raises ValueError for fewer than 2 or more than n! permutations, or more than 9 tiles.
    """
    if not (2 <= n <= 9 and 2 <= count <= math.factorial(n)):
        raise ValueError(f"permutations: expected 2 to n! of at most 9 tiles, got {count} of {n}")
    every = torch.zeros(1, 1, dtype=torch.uint8)
    for new in range(1, n):  # put tile `new` into every place of the permutations of the tiles before it
        tile = torch.full((len(every), 1), new, dtype=torch.uint8)
        every = torch.cat([torch.cat([every[:, :i], tile, every[:, i:]], 1) for i in range(new, -1, -1)])
    generator = generator or torch.Generator().manual_seed(0)
    order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(len(every) - 1, generator=generator)])
    every, chosen = every[order], [0]  # row 0 is the identity
    places = every.T.contiguous()  # (n, n!): sums over rows of bytes are fast
    nearest = torch.full((len(every),), n + 1, dtype=torch.uint8)
    for _ in range(count - 1):
        differs = places != every[chosen[-1]][:, None]
        nearest = torch.minimum(nearest, differs.sum(0, dtype=torch.uint8))
        chosen.append(int(nearest.argmax()))
    return every[chosen].long()
