"""A fitted detector in a file comes back as it was, and what is not such a file is refused in words."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from blank_heads import blank
from safetensors.torch import load, save, save_file
from torch import Tensor

from gadkit.anomaly import fitted
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.anomaly.fitted import Fitting
from gadkit.anomaly.tiles import Tiled
from gadkit.backbones import OpenCLIP
from gadkit.protocols import Detector

pytestmark = pytest.mark.filterwarnings("ignore::gadkit.anomaly.detectors.saa.NothingFound")


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randint(0, 256, (4, 3, 50, 60), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def fitting(name: str) -> Fitting:
    """A file's facts, with numbers that JSON has to bring back to the last bit."""
    scores = tuple(torch.rand(3).tolist())
    return Fitting(
        *(name, "nut", "clip", "tiny", None, 3, 0, ((50, 60),), 12, 255.0), scores, scores[::-1], (0.1 + 0.2, 1 / 3)
    )


@pytest.fixture
def kept(placed: OpenCLIP, pictures: Tensor, tmp_path: Path) -> Path:
    """A file on the disk."""
    fitted.write(tmp_path / "nut.gad", build("patch-knn", placed).fit(pictures[:3]), fitting("patch-knn"))
    return tmp_path / "nut.gad"


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("name", DETECTORS)
def test_everything_comes_back(
    placed: OpenCLIP, small: Callable, pictures: Tensor, tmp_path: Path, name: str, tiled: bool
) -> None:
    def make() -> Detector:
        detector = build(name, placed, "nut", **blank(name))
        return Tiled(detector, 45) if tiled else detector

    row, facts, path = DETECTORS[name], fitting(name), tmp_path / "nut.gad"
    detector = make().fit(pictures[:3] if row.few_shot or row.batched else None)
    fitted.write(path, detector, facts)
    state, found = fitted.read(path)
    assert found == facts
    assert fitted.is_fitted(path)
    objects = blank(name) if row.objects else {}
    again = fitted.restore(state, found, placed, **objects)
    assert type(again) is type(detector)
    assert torch.equal(again.score(pictures).maps, detector.score(pictures).maps)
    assert torch.equal(again.score(pictures).scores, detector.score(pictures).scores)
    with pytest.raises(ValueError, match="made with this backbone, got one of other weights"):
        fitted.restore(state, found, small(seed=2), **objects)


def changed(path: Path, change: dict) -> Path:
    """The file with another header."""
    content = path.read_bytes()
    words = json.loads(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"][fitted.KEY])
    other = path.with_name("other.gad")
    other.write_bytes(save(load(content), {fitted.KEY: json.dumps(words | change)}))
    return other


def test_what_is_no_such_file_is_refused(kept: Path) -> None:
    content, other = kept.read_bytes(), kept.with_name("other.gad")
    with pytest.raises(ValueError, match="no such file"):
        fitted.read(other)
    for torn in (b"", b"\x00" * 8, content[:7], content[:100], b"path,score\n", b"\xff" * 50):
        other.write_bytes(torn)
        assert not fitted.is_fitted(other)
        with pytest.raises(ValueError, match="which is none or has been torn"):
            fitted.read(other)
    save_file({"x": torch.zeros(2)}, other)
    assert not fitted.is_fitted(other)
    with pytest.raises(ValueError, match="which is none or has been torn"):
        fitted.read(other)
    other.write_bytes(content[:-5])
    with pytest.raises(ValueError, match="torn or damaged"):
        fitted.read(other)
    flipped = bytearray(content)
    flipped[-5] ^= 1
    other.write_bytes(flipped)
    with pytest.raises(ValueError, match=r"as it was written, got .* damaged"):
        fitted.read(other)


def test_another_version_and_unknown_keys_are_refused(kept: Path) -> None:
    with pytest.raises(ValueError, match=r"expected format 1, .* got format 2 .*: fit the detector again"):
        fitted.read(changed(kept, {"format": 2}))
    with pytest.raises(ValueError, match=r"expected what is known here, got magic in .*other\.gad as well"):
        fitted.read(changed(kept, {"magic": 1}))
    with pytest.raises(ValueError, match="expected the file as it was written"):
        fitted.read(changed(kept, {"sha256": ""}))
    with pytest.raises(ValueError, match=r"expected all that `gadkit fit` writes, got .* without"):
        fitted.read(changed(kept, {"fitting": None}))
    assert fitted.is_fitted(changed(kept, {"format": 2})), "it is one of ours, and may be replaced"


def test_facts_that_make_no_sense_are_refused(placed: OpenCLIP, pictures: Tensor) -> None:
    state = build("patch-knn", placed).fit(pictures[:3]).state()
    whole = fitting("patch-knn")
    with pytest.raises(ValueError, match=r"fitted: detector: expected one of .*, got 'oracle'"):
        fitted.unpack(fitted.pack(state, replace(whole, detector="oracle")))
    with pytest.raises(ValueError, match="finite scores and as many peaks"):
        fitted.unpack(fitted.pack(state, replace(whole, peaks=(1.0,))))
    with pytest.raises(ValueError, match="finite scores"):
        fitted.unpack(fitted.pack(state, replace(whole, usual=(float("nan"), 1.0))))
