"""Classes as anomalies: InCTRL's two protocols, on digits and small photographs.

Of a set with classes, "one-vs-all" calls one class normal and all others anomalous; "multi-class" calls one class
anomalous and all others normal, so that normal itself has many faces.  Nothing is damaged here, and nothing has a
place: a detector has to know what a thing is.

scikit-learn's digits are always there.  MNIST and CIFAR-10 are read by torchvision where they have been downloaded
before; nothing is downloaded.

Source: Zhu and Pang, Toward Generalist Anomaly Detection via In-context Residual Learning with Few-shot Sample Prompts,
CVPR 2024, which names the two protocols.
Book: anomaly/benchmark
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from gadkit.checks import checked, one_of, whole
from gadkit.data.resampling import resample
from gadkit.protocols import TestSet

PROTOCOLS = ("one-vs-all", "multi-class")
REFERENCES = 32  # a class; normal images to draw from, none of which is tested
NUMBERS = tuple("0123456789")


@dataclass(frozen=True)
class Pool:
    """The images of a split, with their classes."""

    images: UInt8[Tensor, "n 3 h w"]
    labels: Int[Tensor, "n"]


@cache
def _digits(_: Path | None) -> tuple[Pool, Pool]:
    from sklearn.datasets import load_digits

    data = load_digits()
    labels = torch.from_numpy(data.target).long()
    grey = (torch.from_numpy(data.images) / 16 * 255).round().to(torch.uint8)
    images = grey[:, None].expand(-1, 3, -1, -1)
    rank = torch.stack([labels == c for c in range(10)]).cumsum(1)[labels, torch.arange(len(labels))]
    train = rank <= REFERENCES  # the first of each class
    return Pool(images[train], labels[train]), Pool(images[~train], labels[~train])


@cache
def _torchvision(kind: str, root: Path | None) -> tuple[Pool, Pool]:
    import torchvision

    where = root or Path.home() / ".cache" / "torchvision"
    pools = []
    for train in (True, False):
        try:
            data = getattr(torchvision.datasets, kind)(where, train=train, download=False)
        except RuntimeError as error:
            raise ValueError(
                f"--semantic: expected {kind} in {where}, as torchvision.datasets.{kind}(..., download=True) puts it "
                f"there, got nothing ({error})"
            ) from error
        values = torch.as_tensor(np.asarray(data.data))
        images = values[:, None].expand(-1, 3, -1, -1) if values.ndim == 3 else values.permute(0, 3, 1, 2)
        pools.append(Pool(images, torch.as_tensor(data.targets).long()))
    return pools[0], pools[1]


SOURCES: dict[str, tuple[tuple[str, ...], Callable[[Path | None], tuple[Pool, Pool]], str]] = {
    "digits": (NUMBERS, _digits, "digit"),
    "mnist": (NUMBERS, lambda root: _torchvision("MNIST", root), "digit"),
    "cifar10": (
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
        lambda root: _torchvision("CIFAR10", root),
        "",
    ),
}


@checked
def classes(source: str, root: Path | None = None) -> tuple[str, ...]:
    """The names of a source's classes.  Raises ValueError for another source, and for one that is not there."""
    names, load, _ = SOURCES[one_of("--semantic", source, SOURCES)]
    load(root)
    return names


@checked
def semantic_set(
    source: str, protocol: str, name: str, size: int = 96, each: int = 20, root: Path | None = None
) -> TestSet:
    """The test set in which the class `name` is normal ("one-vs-all") or the anomaly ("multi-class").

    Tested are the first `each` images of every class in the test split, enlarged to `size` pixels; a defect's name is
    its class.  References are the first 32 of every normal class in the training split, the classes in turn.  Masks are
    empty.  `root` is where torchvision's sets lie, by default `~/.cache/torchvision`.  Raises ValueError for another
    source, protocol or class, and for a source that is not there.
    """
    names, load, noun = SOURCES[one_of("--semantic", source, SOURCES)]
    one_of("protocol", protocol, PROTOCOLS), one_of("class", name, names), whole("size", size, 2), whole("each", each)
    chosen = names.index(name)
    normal = [c for c in range(len(names)) if (c == chosen) == (protocol == "one-vs-all")]
    train, test = load(root)
    rows = [(train.labels == c).nonzero()[:REFERENCES, 0] for c in normal]
    first = torch.stack(rows, 1).flatten()  # (32 * classes,), the classes in turn
    rest = torch.cat([(test.labels == c).nonzero()[:each, 0] for c in range(len(names))])
    defects = tuple("good" if c in normal else names[c] for c in test.labels[rest].tolist())
    what = f"{noun} {name}".strip() if protocol == "one-vs-all" else noun or "object"
    return TestSet(
        category=name,
        references=_enlarged(train.images[first], size),
        images=_enlarged(test.images[rest], size),
        masks=torch.zeros(len(rest), size, size, dtype=torch.bool),
        defects=defects,
        noun=what,
    )


def _enlarged(images: UInt8[Tensor, "n 3 h w"], size: int) -> UInt8[Tensor, "n 3 s s"]:
    return resample(images.float(), size).round().to(torch.uint8)
