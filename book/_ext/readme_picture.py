"""The README's picture: `python book/_ext/readme_picture.py` writes book/_static/readme.png.

One part of every held-out category, by a fixed rule (the third image of the category's first kinds of defect in turn),
and tiles of scikit-image's photographs of surfaces, the first tile in a shuffled order with a defect planted and the
second as it is: nothing is chosen by how well it came out.
"""

from pathlib import Path

import torch
from torch import Tensor

from gadkit import factory, viz, zoo
from gadkit.anomaly.detectors import build, default
from gadkit.anomaly.thresholds import held_out
from gadkit.protocols import Backbone

SHOTS = 16  # good parts or tiles to compare with
TILE = 102  # pixels; 25 tiles of a photograph
COLUMNS = 5


def show(eyes: Backbone, good: Tensor, image: Tensor) -> Tensor:
    """The map of one image by the default detector, in units of what its good parts show."""
    detector = build(default(normal=True), eyes).fit(good)
    scale = viz.anomaly_scale(held_out(detector, good).maps)  # each product's own parts set its colours
    return scale.relative(detector.score(image[None]).maps)[0]


def tiles(name: str) -> Tensor:
    """A photograph of scikit-image, grey and 512 pixels a side, as shuffled colour tiles (25, 3, s, s)."""
    from skimage import data

    photo = torch.from_numpy(getattr(data, name)()).unfold(0, TILE, TILE).unfold(1, TILE, TILE)
    order = torch.randperm(25, generator=torch.Generator().manual_seed(0))
    return photo.reshape(25, 1, TILE, TILE)[order].repeat(1, 3, 1, 1)


def plant(tile: Tensor, kind: str) -> Tensor:
    """A defect in the middle of a tile: a bright scratch, a dark stain or a black hole."""
    y, x = torch.meshgrid(*2 * [torch.arange(TILE) - TILE / 2], indexing="ij")
    mask, tone = {
        "scratch": (((x + y).abs() < 2) & (x.abs() < 20), 0.3 * tile + 160),
        "stain": (torch.hypot(x, 1.6 * y) < 18, 0.55 * tile),
        "hole": (torch.hypot(x, y) < 8, 0.1 * tile),
    }[kind]
    return torch.where(mask, tone, tile.float()).to(torch.uint8)


def main() -> None:
    """Detect in the fixture regime and on the tiles, and draw."""
    eyes, rows = zoo.load("efficientnet-lite0"), []
    for turn, name in enumerate(factory.split("held-out")):
        data = factory.test_set(name, regime="fixture", size=192, references=SHOTS)
        image = data.images[data.defects.index(factory.CATEGORIES[name].defects[turn % 6]) + 2]
        rows.append((name, image, show(eyes, data.references, image)))
    planted = dict(zip(("brick", "grass", "gravel"), ("scratch", "stain", "hole"), strict=True))
    sound = dict.fromkeys(("brick", "gravel"))
    for name, kind in (*planted.items(), *sound.items()):
        few = tiles(name)
        image = few[1] if kind is None else plant(few[0], kind)
        rows.append((f"{name}, {kind or 'sound'}", image, show(eyes, few[2 : 2 + SHOTS], image)))
    titles, images, maps = zip(*rows, strict=True)
    big = [torch.nn.functional.interpolate(i[None].float(), (192, 192), mode="bilinear")[0] for i in images]
    maps = [torch.nn.functional.interpolate(m[None, None], (192, 192), mode="bilinear")[0, 0] for m in maps]
    pictures = torch.stack(big).round().to(torch.uint8)
    figure = viz.show_detections(pictures, torch.stack(maps), scale=viz.Scale(0, 1), titles=titles, columns=COLUMNS)
    figure.savefig(Path(__file__).parents[1] / "_static" / "readme.png", dpi=130, facecolor="white")


if __name__ == "__main__":
    main()
