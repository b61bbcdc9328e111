"""What evaluators find in features made by hand: the answers are known, whatever the pictures are."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gadkit.evaluation import protocol, sets
from gadkit.evaluation.downstream import Boxes, _targets
from gadkit.evaluation.features import Features, ImageFeatures

SIZES = protocol.Sizes(12, (4, 2), (1, 1), (6, 5), (8, 8))


class ByHand(Features):
    """Features that are known beforehand, by the name of their set."""

    def __init__(self, known: dict[str, ImageFeatures]) -> None:
        self.known, self._kept = known, {}

    def __call__(self, name: str, images: Tensor, blocks: bool = False, patches: bool = False) -> ImageFeatures:
        return self.known[name]


def vectors(x: Tensor, *blocks: Tensor) -> ImageFeatures:
    return ImageFeatures(x, blocks, None, (1, 1))


def pictures(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.uint8)


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three classes of `products` products, two photographs of each in a row."""

    def make(seed: int | None, products: int, size: int) -> sets.Labelled:
        labels = torch.arange(3).repeat_interleave(2 * products)
        return sets.Labelled(
            "learn" if seed is None else "test", pictures(len(labels), 3, size, size), labels, (*"abc",)
        )

    monkeypatch.setattr(sets, "parts", make)


@pytest.mark.usefixtures("parts")
def test_parts_that_say_their_class_and_blocks_of_which_the_second_does() -> None:
    rows, same = torch.eye(3).repeat_interleave(8, 0), torch.ones(24, 3)
    other = torch.eye(3).repeat_interleave(4, 0)
    known = {"learn": vectors(rows, same, rows), "test": vectors(other, same[:12], other)}
    names = ["knn", "linear", "labels/1%", "labels/10%", "labels/100%"]
    assert list(protocol.parts(ByHand(known), 0, SIZES)) == [(name, 1.0) for name in names]
    found = dict(protocol.blocks(ByHand(known), 0, SIZES))
    assert list(found) == ["0/knn", "0/linear", "1/knn", "1/linear"]
    assert found["0/linear"] == pytest.approx(1 / 3), "of features that are all alike the first class is guessed"
    assert (found["1/knn"], found["1/linear"]) == (1, 1)


@pytest.mark.usefixtures("parts")
def test_health_is_that_of_half_of_the_products() -> None:
    known = {"learn": vectors(torch.eye(24))}  # twelve products of two photographs, all at right angles
    found = dict(protocol.health(ByHand(known), 0, SIZES))
    assert found["effective_rank"] == pytest.approx(11)  # twelve rows without their mean
    assert found["alignment"] == pytest.approx(2)
    assert found["uniformity"] == pytest.approx(-4)
    pairs = ByHand({"learn": vectors(torch.eye(12).repeat_interleave(2, 0))})
    assert dict(protocol.health(pairs, 0, SIZES))["alignment"] == 0, "two photographs of one product"


def test_pixels_that_say_their_class_are_segmented(monkeypatch: pytest.MonkeyPatch, generator: torch.Generator) -> None:
    masks = {split: torch.randint(3, (2, 12, 12), generator=generator) for split in sets.SPLITS}
    monkeypatch.setattr(
        sets, "defects", lambda seed, split, count, size: sets.Masked(split, pictures(2, 3, 12, 12), masks[split])
    )
    tokens = {split: F.one_hot(mask, 3).float().flatten(1, 2) for split, mask in masks.items()}
    known = {split: ImageFeatures(x[:, 0], (), x, (12, 12)) for split, x in tokens.items()}
    assert dict(protocol.segmentation(ByHand(known), 0, SIZES)) == dict.fromkeys(
        ("miou", "iou/background", "iou/part", "iou/defect"), 1.0
    )
    known["test"] = ImageFeatures(tokens["test"][:, 0], (), torch.zeros_like(tokens["test"]), (12, 12))
    blind = dict(protocol.segmentation(ByHand(known), 0, SIZES))
    assert blind["miou"] == pytest.approx(sum(v for name, v in blind.items() if name != "miou") / 3)
    assert sorted(blind.values())[:2] == [0, 0], "one class everywhere misses the two others"


def test_patches_that_say_where_the_parts_are_detect_them(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = torch.tensor([[0.0, 0, 5, 6], [6, 5, 12, 12]])
    rows = {"train": [(0, 1), (1, 0), (2, 1), (0, 2), (1, 2), (2, 0)], "test": [(0, 1), (1, 2), (2, 0), (1, 0), (0, 2)]}

    def make(seed: int, split: str, count: int, size: int) -> sets.Plates:
        assert (count, size) == (len(rows[split]), 12)
        labels = tuple(torch.tensor(row) for row in rows[split])
        return sets.Plates(split, pictures(count, 3, size, size), (boxes,) * count, labels, (*"abc",))

    monkeypatch.setattr(sets, "plates", make)
    known = {}
    for split, labels in rows.items():
        kinds, reach = zip(
            *(_targets(Boxes(boxes, torch.tensor(row)), (6, 6), (12, 12), 3) for row in labels), strict=True
        )
        kind = torch.stack(kinds)
        tokens = torch.cat([F.one_hot(kind, 4), torch.where(kind[..., None] < 3, torch.stack(reach), 0.0)], 2)
        known[split] = ImageFeatures(tokens[:, 0], (), tokens, (6, 6))
    assert dict(protocol.detection(ByHand(known), 0, SIZES)) == {"ap50": pytest.approx(1)}


def test_motions_that_only_the_order_tells_are_lost_on_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.arange(8)
    monkeypatch.setattr(
        sets, "clips", lambda seed, split, count: sets.Films(split, pictures(8, 4, 3, 4, 4), labels, (*"abcdefgh",))
    )
    bits = torch.stack([labels // 4, labels // 2 % 2, labels % 2], 1) * 2.0 - 1  # (8, 3), and the mean of a clip is 0
    frames = torch.stack([bits, bits, -bits, -bits], 1).flatten(0, 1)  # (32, 3)
    tokens = frames[:, None].expand(-1, 9, -1)
    known = {split: ImageFeatures(frames, (), tokens, (3, 3)) for split in sets.SPLITS}
    assert dict(protocol.actions(ByHand(known), 0, SIZES)) == {"linear": 1.0, "still": 1 / 8}
