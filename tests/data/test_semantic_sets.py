"""Classes as anomalies: which are normal, which images are tested, and sources that are not there."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from gadkit.data.resampling import resample
from gadkit.data.semantic import PROTOCOLS, REFERENCES, SOURCES, classes, semantic_set


def test_one_class_is_normal_or_one_is_not() -> None:
    alone, among = (semantic_set("digits", protocol, "3", size=16, each=5) for protocol in PROTOCOLS)
    assert torch.equal(alone.images, among.images), "the same images, five of each class"
    assert (len(alone.images), len(alone.references), len(among.references)) == (50, REFERENCES, 9 * REFERENCES)
    assert torch.equal(alone.labels, ~among.labels)
    assert alone.defects[10:20] == ("2",) * 5 + ("good",) * 5
    assert among.defects[10:20] == ("good",) * 5 + ("3",) * 5
    assert (alone.object_name, among.object_name) == ("digit 3", "digit")
    assert not alone.masks.any()


def test_references_and_tests_are_different_digits_of_the_right_class() -> None:
    data, found = load_digits(), semantic_set("digits", "multi-class", "0", size=8, each=4)
    by_class = [np.flatnonzero(data.target == c) for c in range(10)]

    def images(rows: list[int]) -> torch.Tensor:
        grey = torch.from_numpy(data.images[rows] / 16 * 255).round()[:, None].expand(-1, 3, -1, -1)
        return resample(grey.float(), 8).round().to(torch.uint8)

    first = [by_class[c][i] for i in range(REFERENCES) for c in range(1, 10)]
    rest = [i for c in range(10) for i in by_class[c][REFERENCES : REFERENCES + 4]]
    assert torch.equal(found.references, images(first)), "the classes in turn"
    assert torch.equal(found.images, images(rest))


def test_cifar10_is_read_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torchvision

    names = SOURCES["cifar10"][0]
    with pytest.raises(ValueError, match=r"--semantic: expected CIFAR10 in .*download=True.* got nothing"):
        classes("cifar10", tmp_path)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (400, 3, 32, 32), dtype=np.uint8)
    batch = pickle.dumps({"data": pixels.reshape(400, -1), "labels": [i % 10 for i in range(400)]})
    for split in ("train_list", "test_list"):  # the layout of its files, without their sums
        listed = [(name, None) for name, _ in getattr(torchvision.datasets.CIFAR10, split)[:1]]
        monkeypatch.setattr(torchvision.datasets.CIFAR10, split, listed)
        (folder / listed[0][0]).write_bytes(batch)
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [*names]}))
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", {**torchvision.datasets.CIFAR10.meta, "md5": None})
    assert classes("cifar10", tmp_path) == names
    data = semantic_set("cifar10", "one-vs-all", "cat", 32, 2, tmp_path)
    assert data.object_name == "cat"
    assert torch.equal(data.references[1], torch.from_numpy(pixels[13])), "the second cat, in colour"
    assert torch.equal(data.images[:2], torch.from_numpy(pixels[[0, 10]]))


def test_what_is_not_there(untyped: None) -> None:
    with pytest.raises(ValueError, match="--semantic: expected one of digits, mnist, cifar10, got 'letters'"):
        semantic_set("letters", "one-vs-all", "a")
    with pytest.raises(ValueError, match="protocol: expected one of one-vs-all, multi-class, got 'both'"):
        semantic_set("digits", "both", "3")
    with pytest.raises(ValueError, match=r"class: expected one of 0, 1, .*, got 'a'"):
        semantic_set("digits", "one-vs-all", "a")
