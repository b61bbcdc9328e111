"""The gallery of the experiment on embeddings, and the networks that encode it.

Book: multimodal/embeddings
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from experiments.sides import SIDES
from gadkit import factory, weights, zoo
from gadkit.checks import one_of
from gadkit.cli import spaces
from gadkit.data.resampling import resample
from gadkit.evaluation import sets
from gadkit.evaluation.features import encode
from gadkit.multimodal.conse import ConSE
from gadkit.protocols import Backbone, TestSet, Tokens

HISTOGRAM, CONSE = "colour histogram", spaces.CONSE
PRODUCTS, PHOTOGRAPHS, TILES, CLOTHS = 8, 3, 8, 20
SIDE = 96  # of the factory's photographs and of tiles, in pixels
WORDS = {  # what tiles of scikit-image's photographs show, where most of them show it
    "brick": "a brick wall",
    "grass": "grass",
    "gravel": "gravel",
    "coffee": "a cup of coffee",
    "chelsea": "a cat",
    "coins": "coins",
    "hubble_deep_field": "stars and galaxies",
    "page": "a page of text",
}


@dataclass(frozen=True)
class Gallery:
    """Photographs by `sources` (0 parts, 1 tiles of real photographs, 2 textiles), `kinds` and `things`.

    A thing is a product, or a photograph that was cut into tiles; `learn` marks the half that a classifier learns from.
    `nouns` and `words` name kinds of parts and of real photographs.
    """

    images: UInt8[Tensor, "n 3 s s"]
    sources: Int[Tensor, "n"]
    kinds: Int[Tensor, "n"]
    things: Int[Tensor, "n"]
    learn: Bool[Tensor, "n"]
    nouns: dict[int, str]
    words: dict[int, str]


def build(textiles: TestSet | None, products: int = PRODUCTS) -> Gallery:
    """Parts of the development categories, tiles of scikit-image's photographs, and textiles."""
    names = factory.split("development")
    images, kinds, things, nouns = [], [], [], {}
    for k, name in enumerate(names):
        variants = sets.seeds(f"gallery/{name}/products", products).repeat_interleave(PHOTOGRAPHS)
        images.append(factory.render(name, sets.seeds(f"gallery/{name}", len(variants)), variants, size=SIDE).images)
        kinds += [k] * len(variants)
        things += [k * products + i // PHOTOGRAPHS for i in range(len(variants))]
        nouns[k] = f"a photo of a {factory.CATEGORIES[name].nouns[0]}"
    parts, first = len(kinds), len(names)
    tiles = sets.photographs(SIDE)
    some = torch.arange(len(tiles.labels)).view(-1, 16)[:, : 2 * TILES : 2].flatten()  # of each every other tile
    images.append(tiles.images[some])
    labels = tiles.labels[some]
    kinds += (labels + first).tolist()
    things += (labels + len(names) * products).tolist()
    cloths = 0
    if textiles is not None:
        images.append(resample(textiles.images[:CLOTHS].float(), SIDE).round().clamp(0, 255).to(torch.uint8))
        cloths = len(images[-1])
        kinds += [first + len(tiles.classes)] * cloths
        things += [max(things) + 1] * cloths
    sources = torch.tensor([0] * parts + [1] * len(some) + [2] * cloths)
    place = torch.arange(len(kinds))
    learn = torch.where(sources == 0, torch.tensor(things) % products < products // 2, place % TILES < TILES // 2)
    words = {first + tiles.classes.index(name): text for name, text in WORDS.items()}
    return Gallery(torch.cat(images), sources, torch.tensor(kinds), torch.tensor(things), learn, nouns, words)


def fewer(data: TestSet, references: int) -> TestSet:
    """A test set with the first references only."""
    return replace(data, references=data.references[:references])


class Histogram:
    """The sceptic's baseline: how many pixels have which of 512 colours, and each patch's mean and spread of colour."""

    image_size, patch_size, grid, embed_dim, depth = 96, 8, (12, 12), 512, 1
    strides, patch_layers, device = (8,), (-1,), torch.device("cpu")

    def preprocess(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Pixels in [0, 1]."""
        return resample(images.float(), self.image_size).clamp(0, 255) / 255

    def encode_image(self, images: Float[Tensor, "b 3 s s"], layers: Sequence[int] = (-1,)) -> Tokens:
        """Square roots of the shares of colours, so that a cosine is Bhattacharyya's; patches for each layer asked."""
        levels = (images * 8).long().clamp(max=7)
        bins = (levels[:, 0] * 64 + levels[:, 1] * 8 + levels[:, 2]).flatten(1)  # (b, pixels)
        shares = torch.zeros(len(bins), 512).scatter_add_(1, bins, torch.full(bins.shape, 1 / bins.shape[1]))
        mean = F.avg_pool2d(images, 8)
        spread = (F.avg_pool2d(images.square(), 8) - mean.square()).clamp(min=0).sqrt()
        patches = torch.cat([mean, spread], 1).flatten(2).transpose(1, 2)  # (b, n, 6)
        return Tokens(shares.sqrt(), (patches,) * len(tuple(layers)), self.grid)


@dataclass(frozen=True)
class Network:
    """Vectors of photographs, perhaps of texts, and the backbone where it has patches; `megabytes` as shipped."""

    name: str
    encode: Callable[[UInt8[Tensor, "n 3 h w"]], Float[Tensor, "n d"]]
    encode_text: Callable[[Sequence[str]], Float[Tensor, "n d"]] | None
    backbone: Backbone | None
    megabytes: float


def every() -> tuple[str, ...]:
    """All that can be measured, in the table's order."""
    return HISTOGRAM, *zoo.list(zoo.IMAGE, "tiny"), *SIDES, CONSE


def check(names: Sequence[str]) -> None:
    """Raise ValueError for a name that is no network of the experiment."""
    for name in names:
        one_of("names", name, every())


def weights_of(name: str) -> str:
    """Which weights a network has today."""
    return "none" if name == HISTOGRAM else spaces.weights_of(name, "tiny")


def load(name: str) -> Network:
    """A network on the CPU, under `tiny`."""
    if name == CONSE:
        conse = ConSE(*(zoo.load(one, "tiny", "cpu") for one in (spaces.EYES, spaces.READER)))
        size = sum(zoo.find(one, "tiny").size for one in (spaces.EYES, spaces.READER))
        return Network(
            name, lambda x: torch.cat([conse.encode_image(p) for p in x.split(8)]), conse.encode_text, None, size
        )
    if name == HISTOGRAM:
        eyes, read = Histogram(), None
    elif name in SIDES:
        eyes = SIDES[name]()
        read = eyes.encode_text
    else:
        eyes = zoo.load(name, "tiny", "cpu")
        read = eyes.encode_text if zoo.TEXT in zoo.row(name).gives else None
    return Network(name, lambda x: encode(eyes, x).pooled, read, eyes, sum(f.stat().st_size for f in files(name)) / 1e6)


def files(name: str) -> list[Path]:
    """The shipped files that a network is read from: its own, and those that its header says it stands on."""
    own = weights.ASSETS / f"{name}.safetensors"
    if not own.is_file():
        return []
    held = weights.header(own)
    below = ["clip"] if held.keys() & {"clip", "start"} else []
    below += [zoo.REAL] if f'"{zoo.REAL}"' in " ".join(held.values()) else []
    return [own, *(weights.ASSETS / f"{one}.safetensors" for one in below)]
