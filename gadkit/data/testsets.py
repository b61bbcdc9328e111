"""Folders with labels as test sets: what the factory gives, from photographs of any known layout.

    >>> for data in folder_sets("mvtec", 240):              # doctest: +SKIP
    ...     print(data.category, len(data.references), data.labels.sum().item())

Book: anomaly/thresholds, anomaly/benchmark, intro/run-it
"""

import importlib.util
import logging
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor
from torch.nn import functional as F

from gadkit.checks import one_of, whole
from gadkit.data.folders import BrokenImage, Depth, Entry, ImageFolder, Photo, resize
from gadkit.protocols import TestSet

log = logging.getLogger(__name__)
KINDS = {  # of the data sets that everybody compares on: MVTec AD's and VisA's categories
    "texture": ("carpet", "grid", "leather", "tile", "wood"),
    "object": (
        *("bottle", "cable", "capsule", "hazelnut", "metal_nut", "pill", "screw", "toothbrush", "transistor", "zipper"),
        *("candle", "capsules", "cashew", "chewinggum", "fryum", "macaroni1", "macaroni2"),
        *("pcb1", "pcb2", "pcb3", "pcb4", "pipe_fryum"),
    ),
}
TEXTILES = "conformal_clip_data"  # the package; its project on PyPI is conformal-clip-data


def folder_sets(
    root: str | Path, size: int, depth: Depth | None = None, categories: Sequence[str] | None = None
) -> Iterator[TestSet]:
    """One test set after the other, a category each, read when its turn comes; images are squashed to `size` squared.

    `categories` are all of the folder's unless given.
    References are the normal images of the training split; where the layout has none, every second normal image is one.
    Images are those of the test split with a label, and defective ones without a mask have an empty one.  These, and
    files that cannot be read, are logged.  `depth` is as in `ImageFolder`.
    Raises ValueError for a folder without labels, for an unknown category, and for one without normal or without
    defective images.
    """
    whole("size", size, 2)
    folder = ImageFolder(root)
    if not folder.categories:
        raise ValueError(
            f"test sets: expected folders that say which parts are good (train/good and test/..., good and bad, or "
            f"masks beside photographs), got images without labels in {root}"
        )
    wanted = folder.categories if categories is None else categories
    for name in wanted:
        one_of("categories", name, folder.categories)
    return (_test_set(ImageFolder(root, category=name, depth=depth), name, size) for name in wanted)


def _test_set(folder: ImageFolder, category: str, size: int) -> TestSet:
    train = [entry for entry in folder.entries if entry.split == "train" and entry.label == 0]
    test = [entry for entry in folder.entries if entry.split in ("test", None) and entry.label is not None]
    if not train:
        normal = [entry for entry in test if entry.label == 0]
        train = normal[::2]
        test = [entry for entry in test if entry not in set(train)]
    if not {0, 1} <= {entry.label for entry in test}:
        raise ValueError(f"{folder.root}: expected normal and defective images of {category} to test on, got one kind")
    references = [image for _, image, _ in _read(folder, train, size)]
    found = [*_read(folder, test, size)]
    if not found:
        raise ValueError(f"{folder.root}: expected images of {category} to test on, got none that can be read")
    photos, images, masks = zip(*found, strict=True)
    defective = [i for i, photo in enumerate(photos) if photo.label == 1]
    if bare := [i for i in defective if photos[i].mask is None]:
        log.warning("%s: no mask for %d of %d photographs of defects", category, len(bare), len(defective))
    if lost := [i for i in defective if i not in bare and not masks[i].any()]:
        log.warning("%s: of %d defects nothing is left at %d pixels, or nothing was marked", category, len(lost), size)
    return TestSet(
        category=category,
        references=torch.stack(references) if references else torch.empty(0, 3, size, size, dtype=torch.uint8),
        images=torch.stack(images),
        masks=torch.stack(masks),
        defects=tuple(photo.defect for photo in photos),
    )


def _read(
    folder: ImageFolder, entries: Sequence[Entry], size: int
) -> Iterator[tuple[Photo, UInt8[Tensor, "3 s s"], Bool[Tensor, "s s"]]]:
    """Photographs that can be read, each with its image and its mask, squashed."""
    places = {entry: place for place, entry in enumerate(folder.entries)}
    for entry in entries:
        try:
            photo = folder[places[entry]]
        except BrokenImage as error:
            log.warning("skipped %s", error)
            continue
        mask = torch.zeros(photo.image.shape[1:], dtype=torch.bool) if photo.mask is None else photo.mask
        small = F.interpolate(mask[None, None].float(), (size, size), mode="nearest-exact")[0, 0].bool()
        yield photo, resize(photo.image, size), small


def kind_of(category: str) -> str | None:
    """Whether a category of MVTec AD or VisA is a "texture" or an "object"; None for all others."""
    return next((kind for kind, names in KINDS.items() if category.casefold() in names), None)


def textile_sets(source: str | Path | None = None, size: int = 224, each: int | None = None) -> tuple[TestSet, TestSet]:
    """Simulated textiles of PyPI's conformal-clip-data (MIT): "local" faults of a few pixels, and "global" ones.

    `source` is its wheel or the folder with `nominal`, `local` and `global`; None takes the installed package.  The two
    sets share references and normal images; of every kind the first `each` are tested, or all.  There are no masks.
    Raises ValueError where the images are not there.
    """
    if source is None:
        spec = importlib.util.find_spec(TEXTILES)
        if spec is None:
            raise ValueError(
                "textiles: expected `pip install conformal-clip-data`, or its wheel or folder, got neither"
            )
        source = Path(spec.origin).parent
    source = Path(source)
    if source.suffix == ".whl" and source.is_file():
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(source) as wheel:
            wheel.extractall(folder, [name for name in wheel.namelist() if name.endswith((".jpg", ".png"))])
            return textile_sets(folder, size, each)
    root = next((found.parent for found in sorted(source.rglob("nominal")) if found.is_dir()), source)
    (data,) = folder_sets(root, size)
    return _of_kind(data, "local", each), _of_kind(data, "global", each)


def _of_kind(data: TestSet, kind: str, each: int | None) -> TestSet:
    """The normal images and those of one defect, the first `each` of both."""
    rows = [i for name in ("good", kind) for i in [i for i, defect in enumerate(data.defects) if defect == name][:each]]
    if not any(data.defects[i] == kind for i in rows):
        raise ValueError(f"textiles: expected a folder {kind} beside nominal, got {', '.join(sorted({*data.defects}))}")
    chosen = replace(
        data, images=data.images[rows], masks=data.masks[rows], defects=tuple(data.defects[i] for i in rows)
    )
    return replace(chosen, category=f"textiles, {kind}", noun="woven textile")
