"""Test sets of the factory as a folder in MVTec AD's layout, which any tool can read.

An export that was killed goes on where it was.  The manifest in the folder says what was asked for, so that a category
is kept when it comes from the same request, and images of two requests never stand side by side.

Book: intro/factory
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import gadkit
from gadkit.checks import checked, one_of, whole
from gadkit.factory.catalogue import lookup, split
from gadkit.factory.render import NUISANCE
from gadkit.factory.sets import test_set
from gadkit.files import claimed, replacing, replacing_folder, write_json
from gadkit.protocols import TestSet
from gadkit.runtime import progress

MANIFEST = ".gadkit-export.json"


@checked
def export(
    root: Path | str,
    categories: str | tuple[str, ...] = "held-out",
    regime: str = "loose",
    seed: int = 0,
    per_class: int = 20,
    size: int = 240,
) -> int:
    """Write test sets under `root` in MVTec AD's layout and return the number of their images, masks not counted.

    `categories` names a split or lists categories; each gets `per_class` sound images to train on, as many to test, and
    a third of that of each defect, at least one.  Both `per_class` and `size`, in pixels, go up to 2048.
    A category appears when it is complete, and stays as it is when the same request comes again.  Raises ValueError,
    and writes nothing, where the folder holds one of another request or of another origin, and where another export is
    at work there.
    """
    root = Path(root)
    names = split(categories) if isinstance(categories, str) else tuple(dict.fromkeys(categories))
    for name in names:
        lookup(name)
    request = {
        "regime": one_of("regime", regime, NUISANCE),
        "seed": whole("seed", seed, 0),
        "per_class": whole("per_class", per_class, 1, 2048),  # more would take the next set's seeds
        "size": whole("size", size, 16, 2048),
        "gadkit": gadkit.__version__,  # another version may draw other pixels
    }
    with claimed(root, "export"):
        _begin(root, names, request)
        for name in progress([n for n in names if not (root / n).exists()], "export"):
            _write(root, test_set(name, 0, seed, regime, per_class, max(1, per_class // 3), per_class, size))
    return sum(len(list((root / name).glob("t*/*/*.png"))) for name in names)  # train and test


def _begin(root: Path, names: tuple[str, ...], request: dict[str, Any]) -> None:
    """Write down what is asked for, if it goes together with what the folder holds."""
    known = _read(root / MANIFEST) or {"request": request, "categories": []}
    if different := [key for key in request if known["request"].get(key) != request[key]]:
        held, asked = (
            ", ".join(f"{key} {content.get(key)}" for key in different) for content in (known["request"], request)
        )
        raise ValueError(
            f"export: expected {held}, as {root} was begun with, got {asked}: take another folder; nothing was written"
        )
    if there := [name for name in names if name not in known["categories"] and os.path.lexists(root / name)]:
        raise ValueError(
            f"export: expected a folder without {there[0]}, but {root / there[0]} exists; nothing was written"
        )
    known["categories"] = list(dict.fromkeys([*known["categories"], *names]))
    write_json(root / MANIFEST, known)


def _read(manifest: Path) -> dict[str, Any] | None:
    """The manifest of an earlier export; None where there was none."""
    if not manifest.exists():
        return None
    try:
        known = json.loads(manifest.read_text(encoding="utf-8"))
        return {"request": dict(known["request"]), "categories": list(known["categories"])}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{manifest}: expected what an export wrote down, got something else: take another folder"
        ) from error


def _write(root: Path, data: TestSet) -> None:
    """Write one category beside its place, then give it its name."""
    from PIL import Image  # imported late: rendering needs no image library

    def save(array: Tensor, *path: str) -> None:
        file = part.joinpath(*path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as file_part:
            Image.fromarray(array.numpy()).save(file_part, "PNG")

    with replacing_folder(root / data.category) as part:
        for i, image in enumerate(data.references):
            save(image.permute(1, 2, 0), "train", "good", f"{i:03d}.png")
        written: dict[str, int] = {}
        for image, mask, defect in zip(data.images, data.masks, data.defects, strict=True):
            i = written[defect] = written.get(defect, -1) + 1
            save(image.permute(1, 2, 0), "test", defect, f"{i:03d}.png")
            if defect != "good":
                save(mask.to(torch.uint8) * 255, "ground_truth", defect, f"{i:03d}_mask.png")
