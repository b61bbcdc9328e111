"""How pretext tasks leak their answer, how each leak is closed, and solvers that live off the leaks alone.

A shortcut is a trace of the answer that has nothing to do with what the image shows.  A solver that reads only the
trace, and beats chance, proves that the leak is there; at chance, it proves nothing but that this leak is closed.

Book: pretext/context, pretext/generation
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit.checks import checked

Images = Float[Tensor, "b 3 h w"]

GREEN_MAGENTA = (-1.0, 2.0, -1.0)  # the axis along which a lens pulls colours apart, Doersch et al. 2015, section 3.1


# ------------------------------------------------------------------------------------------------ leaks


@checked
def lens(images: Images, strength: float = 0.04) -> Images:
    """Photographs through a cheap lens: green is imaged smaller than red and blue, by the share `strength`.

    The fringes point away from the optical axis, so each of them gives away where in the photograph it was.
    """
    b, _, h, w = images.shape
    scale = torch.eye(2, 3, device=images.device) / (1 - strength)
    where = F.affine_grid(scale.expand(b, 2, 3), [b, 1, h, w], align_corners=False)
    green = F.grid_sample(images[:, 1:2], where, padding_mode="border", align_corners=False)
    return torch.cat([images[:, :1], green, images[:, 2:]], 1)


@checked
def mosaic(images: Images) -> Float[Tensor, "b 1 h w"]:
    """The record of a camera's sensor: one colour a pixel, in Bayer's pattern red green / green blue.

    It looks like a grey image, but coloured surfaces have a fine checkerboard that gives their colour away.
    """
    h, w = images.shape[-2:]
    y, x = torch.arange(h, device=images.device)[:, None], torch.arange(w, device=images.device)
    return torch.gather(images, 1, (y % 2 + x % 2).expand(len(images), 1, h, w))  # 0 red, 1 green, 2 blue


@checked
def pivot(images: Images, quarters: int) -> Images:
    """Quarter turns by resampling about the pixel (n/2, n/2), which lies half a pixel beside the centre of n x n.

    Every pixel still lands on a pixel, but one row, one column or both find nothing to show and stay black: the first
    row after one turn, row and column after two, the column after three.  Raises ValueError for a side that is odd.
    """
    n, m = images.shape[-2:]
    if n != m or n % 2:
        raise ValueError(f"images: expected squares with an even side, got {n} x {m}")
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[quarters % 4]
    turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=images.dtype, device=images.device)
    centre = torch.full((2,), 1 / n, dtype=images.dtype, device=images.device)  # of that pixel, from -1 to 1
    where = torch.cat([turn, (centre - turn @ centre)[:, None]], 1).expand(len(images), 2, 3)
    grid = F.affine_grid(where, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="nearest", align_corners=False)


# ------------------------------------------------------------------------------------------------ closing them


@checked
def project_colour(images: Float[Tensor, "*batch 3 h w"]) -> Float[Tensor, "*batch 3 h w"]:
    """Take the green-magenta axis a = (-1, 2, -1) out of every pixel: x - (x . a) a / (a . a).

    Doersch et al. 2015, section 3.1.  Fringes between green and magenta vanish, and so does a third of the colour.
    """
    axis = torch.tensor(GREEN_MAGENTA, dtype=images.dtype, device=images.device)[:, None, None]
    return images - (images * axis).sum(-3, keepdim=True) * axis / (axis * axis).sum()


@checked
def drop_colour(images: Float[Tensor, "b 3 h w"], generator: torch.Generator | None = None) -> Images:
    """Keep one channel of each image, drawn at random, and put faint noise into the two others.

    The noise has a hundredth of the standard deviation of the channel that stays, round the channel's mean.
    Doersch et al. 2015, section 3.1.
    """
    b, where = len(images), images.device
    kept = torch.randint(3, (b,), generator=generator).to(where)
    channel = images[torch.arange(b, device=where), kept][:, None]  # (b, 1, h, w)
    noise = torch.randn(images.shape, generator=generator, dtype=images.dtype).to(where)
    mean, spread = channel.mean((2, 3), keepdim=True), channel.std((2, 3), keepdim=True)
    is_kept = F.one_hot(kept, 3).bool()[:, :, None, None]
    return torch.where(is_kept, images, mean + 0.01 * spread * noise)


@checked
def standardise(tiles: Float[Tensor, "*batch 3 t t"]) -> Float[Tensor, "*batch 3 t t"]:
    """Give each tile mean 0 and deviation 1, so that neighbours are not known by their brightness.

    Noroozi and Favaro 2016, section 3.3.
    """
    mean = tiles.mean((-3, -2, -1), keepdim=True)
    return (tiles - mean) / (tiles.std((-3, -2, -1), keepdim=True) + 0.02)  # 0.02: an even tile stays even


# ------------------------------------------------------------------------------------------------ living off them


@checked
def read_border(images: Images) -> Int[Tensor, "b"]:
    """The number of quarter turns, 0 to 3, from which of first row and first column is one even colour."""
    row, column = images[:, :, 0].flatten(1), images[:, :, :, 0].flatten(1)
    row, column = ((line.amax(1) - line.amin(1)) < 1e-3 for line in (row, column))
    return torch.where(row, 1 + column.long(), 3 * column.long())


@checked
def read_lens(tiles: Float[Tensor, "b n 3 t t"]) -> Float[Tensor, "b n 2"]:
    """How far (x, y, in pixels) green is displaced against red and blue in each tile.

    Least squares, tile by tile: green = gain * m + offset - dx * m_x - dy * m_y, with m the mean of red and blue.  On
    small noisy tiles it underestimates.
    """
    m = (tiles[:, :, 0] + tiles[:, :, 2]) / 2  # (b, n, t, t)
    inner = (..., slice(1, -1), slice(1, -1))
    m_x, m_y = (m[..., 1:-1, 2:] - m[..., 1:-1, :-2]) / 2, (m[..., 2:, 1:-1] - m[..., :-2, 1:-1]) / 2
    a = torch.stack([m_x, m_y, m[inner], torch.ones_like(m_x)], -1).flatten(2, 3)  # (b, n, pixels, 4)
    green = tiles[:, :, 1][inner].flatten(2)[..., None]
    ridge = 1e-3 * torch.eye(4, device=tiles.device) * a.shape[2]
    return -torch.linalg.solve(a.mT @ a + ridge, a.mT @ green)[..., :2, 0]


@checked
def match_edges(tiles: Float[Tensor, "b n 3 t t"], permutations: Int[Tensor, "p n"]) -> Int[Tensor, "b"]:
    """The permutation whose seams fit best, which takes no look at what the picture shows.

    A seam costs the mean absolute difference of the two lines of pixels that meet there.
    """
    n = tiles.shape[1]
    side = round(n**0.5)
    left, right, top, bottom = tiles[..., 0], tiles[..., -1], tiles[..., 0, :], tiles[..., -1, :]  # (b, n, 3, t)
    beside = torch.cdist(right.flatten(2), left.flatten(2), p=1)  # (b, i, j): i with j to its right
    below = torch.cdist(bottom.flatten(2), top.flatten(2), p=1)
    place = permutations.argsort(1).view(-1, side, side)  # where the tile that belongs here lies now
    cost = beside[:, place[:, :, :-1], place[:, :, 1:]].sum((2, 3))  # (b, p)
    return (cost + below[:, place[:, :-1], place[:, 1:]].sum((2, 3))).argmin(1)


@checked
def diffuse(images: Images, hole: Bool[Tensor, "b 1 h w"], steps: int = 200) -> Images:
    """Fill a hole by heat conduction from its rim: each pixel becomes the mean of its neighbours, again and again."""
    filled = torch.where(hole, images.mean((2, 3), keepdim=True), images)
    if not hole.any():
        return filled
    box = (..., _span(hole.any(3).flatten(0, 1)), _span(hole.any(2).flatten(0, 1)))  # beyond it nothing changes
    x, inside, still = filled[box], hole[box], images[box]
    for _ in range(steps):
        before, padded = x, F.pad(x, (1, 1, 1, 1), mode="replicate")
        rows = padded[..., :-2, :] + padded[..., 1:-1, :] + padded[..., 2:, :]
        x = torch.where(inside, (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9, still)
        if torch.equal(x, before):  # it rests
            break
    filled[box] = x
    return filled


def _span(lines: Bool[Tensor, "b n"]) -> slice:
    """From a line before the first that any image marks, to a line behind the last."""
    marked = lines.any(0).nonzero()
    return slice(max(int(marked[0]) - 1, 0), int(marked[-1]) + 2)


@checked
def read_mosaic(raw: Float[Tensor, "b 1 h w"]) -> Images:
    """Colours out of a sensor's raw image, by what every camera does: 2 x 2 pixels make one colour.

    Raises ValueError for sides that are not even.
    """
    if not raw.numel() or raw.shape[2] % 2 or raw.shape[3] % 2:
        raise ValueError(f"raw: expected images of even sides, got shape {tuple(raw.shape)}")
    red, blue = raw[..., ::2, ::2], raw[..., 1::2, 1::2]
    green = (raw[..., ::2, 1::2] + raw[..., 1::2, ::2]) / 2
    return F.interpolate(torch.cat([red, green, blue], 1), scale_factor=2, mode="nearest")
