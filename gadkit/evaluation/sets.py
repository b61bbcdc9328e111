"""The images that every representation is asked about: the factory's parts, plates and clips, and real photographs.

What is learnt in an evaluation is learnt on other products, or other corners of a photograph, than it is tested on, and
all seeds lie where no training seed does.  Two sets are exceptions: `digits` and `faces` are random halves of one pool
that does not say who wrote a digit, or whose face or which photograph a crop is, so one writer or source may be on both
sides.

Book: selfsup/representations
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gadkit import factory
from gadkit.checks import checked, one_of, whole
from gadkit.data.resampling import resample
from gadkit.factory.films import motion
from gadkit.factory.seeds import FIRST_TEST

BACKGROUND, PART, DEFECT = range(3)
ON_PLATES = ("washer", "gear", "key", "bottle", "resistor", "leaf")  # told apart by their outline
PLATES = ("felt", "marble", "brushed_metal", "carpet")
PHOTOGRAPHS = (
    *("astronaut", "brick", "camera", "cell", "chelsea", "clock", "coffee", "coins", "grass", "gravel"),
    *("hubble_deep_field", "immunohistochemistry", "moon", "page", "retina", "rocket", "text"),
)
FILMS = 1000  # where the protocol's seeds of clips start
SPLITS = ("train", "test")
FRAMES = 4  # that are looked at of each
TILES = 4  # a side of a photograph is cut into as many


@dataclass(frozen=True)
class Labelled:
    """Images with one class each; `name` is its own in every set, so that features can be kept under it."""

    name: str
    images: UInt8[Tensor, "n 3 h w"]
    labels: Int[Tensor, "n"]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Masked:
    """Images with a class for every pixel: background, part or defect."""

    name: str
    images: UInt8[Tensor, "n 3 s s"]
    masks: Int[Tensor, "n s s"]


@dataclass(frozen=True)
class Plates:
    """Plates with parts on them: boxes (left, top, right, bottom, in pixels) and a class for each, image by image."""

    name: str
    images: UInt8[Tensor, "n 3 s s"]
    boxes: tuple[Float[Tensor, "_ 4"], ...]
    labels: tuple[Int[Tensor, "_"], ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Films:
    """Clips of t frames, and the motion that each shows."""

    name: str
    frames: UInt8[Tensor, "n t 3 s s"]
    labels: Int[Tensor, "n"]
    classes: tuple[str, ...]


@checked
def seeds(what: str, count: int) -> Int[Tensor, "count"]:
    """`count` factory seeds that belong to a purpose and to no other; training seeds are smaller than all of them.

    Raises ValueError for a count below 1.
    """
    whole("count", count)
    return FIRST_TEST + zlib.crc32(f"evaluation/{what}".encode()) * 4096 + torch.arange(count)


@checked
def generator(what: str) -> torch.Generator:
    """A random generator that belongs to a purpose."""
    return torch.Generator().manual_seed(zlib.crc32(what.encode()))


@checked
@cache
def parts(seed: int | None = None, products: int = 50, size: int = 96) -> Labelled:
    """Sound parts of the 27 seen categories, two photographs of each product in a row.

    Without a seed the set to learn from, with one a set to be tested on: all other products.
    """
    whole("products", products)
    name = f"parts/{'train' if seed is None else seed}"
    categories = factory.split("seen")
    variants = {c: seeds(f"{name}/{c}/products", products).repeat_interleave(2) for c in categories}
    images = [factory.render(c, seeds(f"{name}/{c}", 2 * products), v, size=size).images for c, v in variants.items()]
    labels = torch.arange(len(categories)).repeat_interleave(2 * products)
    return Labelled(f"{name}/{products}/{size}", torch.cat(images), labels, categories)


@checked
@cache
def defects(seed: int, split: str, per_category: int, size: int = 96) -> Masked:
    """Parts with a plain defect each, of kinds in turn, on products of their own; `split` is "train" or "test"."""
    one_of("split", split, SPLITS)
    whole("per_category", per_category)
    name, images, masks = f"defects/{split}/{seed}", [], []
    for category in factory.split("seen"):
        kinds = factory.CATEGORIES[category].defects
        for i, shot in enumerate(seeds(f"{name}/{category}", per_category)):
            kind = kinds[int(shot) % len(kinds)]
            product = seeds(f"{name}/{category}/products", per_category)[i : i + 1]
            shots = factory.render(category, shot[None], product, kind, 0.5 + 0.5 * i / per_category, size)
            images.append(shots.images)
            masks.append(torch.where(shots.masks, DEFECT, torch.where(shots.cover, PART, BACKGROUND)))
    return Masked(f"{name}/{per_category}/{size}", torch.cat(images), torch.cat(masks))


@checked
@cache
def plates(seed: int, split: str, count: int, size: int = 96) -> Plates:
    """Plates of a texture that carry one to four small parts, no two of which touch; all products differ."""
    one_of("split", split, SPLITS)
    whole("count", count), whole("size", size, 2 * 24)  # pixels in which the smallest part can still be drawn
    name = f"plates/{split}/{seed}"
    draw, cell = generator(name), size // 2
    images = _tables(name, count, size)
    taken = torch.rand(count, 4, generator=draw) < 0.6
    taken[torch.arange(count), torch.randint(4, (count,), generator=draw)] = True  # no empty plate
    kind = torch.randint(len(ON_PLATES), (count, 4), generator=draw)
    side = cell * torch.tensor([8, 10, 12])[torch.randint(3, (count, 4), generator=draw)] // 12
    slack = torch.rand(count, 4, 2, generator=draw)
    boxes, labels = [[] for _ in range(count)], [[] for _ in range(count)]
    for k, category in enumerate(ON_PLATES):
        for s in side.unique().tolist():
            where = (taken & (kind == k) & (side == s)).nonzero().tolist()
            for (plate, place), part, cover in _pieces(f"{name}/{category}/{s}", category, where, s):
                offset = torch.tensor(divmod(place, 2)) * cell + (slack[plate, place] * (cell - s)).long()
                y, x = offset.tolist()
                images[plate, :, y : y + s, x : x + s] = torch.where(
                    cover, part, images[plate, :, y : y + s, x : x + s]
                )
                rows, columns = cover.any(1).nonzero()[:, 0], cover.any(0).nonzero()[:, 0]
                low, high = torch.stack([columns[0], rows[0]]), torch.stack([columns[-1], rows[-1]]) + 1
                boxes[plate].append(torch.cat([low + offset.flip(0), high + offset.flip(0)]).float())
                labels[plate].append(k)
    found = tuple(torch.stack(b) for b in boxes), tuple(torch.tensor(row) for row in labels)
    return Plates(f"{name}/{count}/{size}", images, *found, ON_PLATES)


def _tables(name: str, count: int, size: int) -> UInt8[Tensor, "count 3 s s"]:
    each = -(-count // len(PLATES))
    tables = [
        factory.render(c, seeds(f"{name}/{c}", each), seeds(f"{name}/{c}/products", each), size=size) for c in PLATES
    ]
    return torch.stack([t.images for t in tables], 1).flatten(0, 1)[:count].clone()  # textures in turn


def _pieces(name: str, category: str, where: list[list[int]], size: int) -> Iterator[tuple]:
    """A small part and its outline for every place of a plate that wants one."""
    if where:
        shots = factory.render(category, seeds(name, len(where)), seeds(f"{name}/products", len(where)), size=size)
        yield from zip(where, shots.images, shots.cover, strict=True)


@checked
@cache
def clips(seed: int, split: str, count: int, frames: int = FRAMES) -> Films:
    """Videos of moving parts, eight kinds of motion in turn, each as so many frames evenly spread over its length.

    Both splits come from what the factory keeps for tests, so no method has been trained on either.
    """
    one_of("split", split, SPLITS)
    whole("frames", frames, 2)
    made = motion.clips(count, 2 * (FILMS + seed) + (split == "test"), "test")
    chosen = torch.linspace(0, made.frames.shape[1] - 1, frames).round().long()
    return Films(f"clips/{split}/{seed}/{count}/{frames}", made.frames[:, chosen], made.actions, tuple(motion.ACTIONS))


@checked
@cache
def digits(per_class: int = 60) -> Labelled:
    """scikit-learn's handwritten digits, 8 x 8 pixels; who wrote which is not known."""
    from sklearn.datasets import load_digits

    whole("per_class", per_class)
    data = load_digits()
    labels = torch.from_numpy(data.target).long()
    chosen = torch.cat([(labels == c).nonzero()[:per_class, 0] for c in range(10)])
    grey = (torch.from_numpy(data.images)[chosen] / 16 * 255).round().to(torch.uint8)
    images = grey[:, None].expand(-1, 3, -1, -1).contiguous()
    return Labelled(f"digits/{per_class}", images, labels[chosen], tuple("0123456789"))


@cache
def faces() -> Labelled:
    """scikit-image's subset of Labeled Faces in the Wild: 100 faces and 100 other things, 25 x 25 pixels, grey.

    What photographs they were cut from is not known.
    """
    from skimage import data

    grey = (torch.from_numpy(data.lfw_subset()) * 255).round().to(torch.uint8)
    images = grey[:, None].expand(-1, 3, -1, -1).contiguous()
    return Labelled("faces", images, torch.arange(2).repeat_interleave(100), ("face", "other"))


@checked
@cache
def photographs(size: int = 96) -> Labelled:
    """Tiles of the photographs in scikit-image's wheel, each photograph a class; 4 x 4 tiles, row-major."""
    whole("size", size, 2)
    tiles = [tile for name in PHOTOGRAPHS for tile in _tiles(name, size)]
    labels = torch.arange(len(PHOTOGRAPHS)).repeat_interleave(TILES * TILES)
    return Labelled(f"photographs/{size}", torch.stack(tiles), labels, PHOTOGRAPHS)


def _tiles(name: str, size: int) -> Iterator[UInt8[Tensor, "3 s s"]]:
    """The largest square in the middle of every cell of a 4 x 4 grid, so no two tiles share a pixel."""
    from skimage import data

    picture = torch.from_numpy(getattr(data, name)())
    picture = picture[..., None].expand(-1, -1, 3) if picture.ndim == 2 else picture[..., :3]
    picture = picture.permute(2, 0, 1)[None].float()  # (1, 3, h, w)
    height, width = (n // TILES for n in picture.shape[2:])
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    for row in range(TILES):
        for column in range(TILES):
            y, x = row * height + top, column * width + left
            tile = picture[..., y : y + side, x : x + side]
            yield resample(tile, size)[0].round().to(torch.uint8)


@checked
def halves(labels: Int[Tensor, "n"], seed: int) -> tuple[Int[Tensor, "_"], Int[Tensor, "_"]]:
    """Rows to learn from and rows to be tested on: half of every class, drawn by the seed."""
    draw = generator(f"halves/{seed}")
    learn, test = [], []
    for c in labels.unique():
        rows = (labels == c).nonzero()[:, 0]
        rows = rows[torch.randperm(len(rows), generator=draw)]
        learn.append(rows[: len(rows) // 2])
        test.append(rows[len(rows) // 2 :])
    return torch.cat(learn), torch.cat(test)


@checked
def sides(count: int, seed: int) -> tuple[Int[Tensor, "_"], Int[Tensor, "_"]]:
    """Rows of tiles to learn from and to be tested on: opposite halves of every photograph.

    Learnt from the left, the right, the upper and the lower half, as the seed goes on.
    """
    place = torch.arange(count) % (TILES * TILES)
    along = place % TILES if seed % 4 < 2 else place // TILES
    learn = (along < TILES // 2) == (seed % 2 == 0)
    return learn.nonzero()[:, 0], (~learn).nonzero()[:, 0]
