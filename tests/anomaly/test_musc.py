"""MuSc against a literal slow form, patch by patch, and the laws of a set that is compared with itself."""

import math

import pytest
import torch
import torch.nn.functional as F
from suite import textured
from torch import Tensor

from gadkit import factory, zoo
from gadkit.anomaly.detectors import build
from gadkit.anomaly.detectors.musc import MuSc, interval_mean, mutual, nearest, shared_scores
from gadkit.anomaly.metrics import auroc
from gadkit.backbones import OpenCLIP
from gadkit.protocols import AnomalyResult


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(7, 40, 40)


def literal(eyes: OpenCLIP, images: Tensor, layers: tuple[int, ...], radii: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Sections 3.2 and 3.3, one patch, one image and one neighbour at a time: maps (n, 5, 5) and highest values."""
    tokens = eyes.encode_image(eyes.preprocess(images), layers).patches
    n, maps = len(images), torch.zeros(len(images), 5, 5, dtype=torch.float64)
    for layer in tokens:
        layer = layer.double()
        deviation = layer.var((1, 2), unbiased=False, keepdim=True) + 1e-5
        grid = ((layer - layer.mean((1, 2), keepdim=True)) / deviation.sqrt()).view(n, 5, 5, -1)
        for r in radii:
            pooled = torch.zeros_like(grid)
            for i in range(n):
                for y in range(5):
                    for x in range(5):
                        for dy in range(-(r // 2), r // 2 + 1):
                            for dx in range(-(r // 2), r // 2 + 1):
                                if 0 <= y + dy < 5 and 0 <= x + dx < 5:  # beyond the edge the reference adds zeros
                                    pooled[i, y, x] += grid[i, y + dy, x + dx] / r**2
                        pooled[i, y, x] /= pooled[i, y, x].norm()
            for i in range(n):
                for y in range(5):
                    for x in range(5):
                        near = [
                            min(float((pooled[i, y, x] - p).norm()) for p in pooled[j].flatten(0, 1))
                            for j in range(n)
                            if j != i
                        ]
                        count = max(1, int(0.3 * len(near)))
                        maps[i, y, x] += sum(sorted(near)[:count]) / count / (len(tokens) * len(radii))
    return maps, maps.flatten(1).amax(1)


def literal_sharing(eyes: OpenCLIP, images: Tensor, own: Tensor, ks: tuple[int, ...]) -> Tensor:
    """Section 3.4 as the reference writes it: a matrix of similarities, all but the k largest of a row set to 0."""
    vectors = F.normalize(eyes.encode_image(eyes.preprocess(images), ()).pooled.double(), dim=-1)
    found = []
    for k in ks:
        weights = vectors @ vectors.T
        for row in weights:
            row[row.argsort()[: len(row) - k]] = 0
        found.append(torch.diag(1 / weights.sum(1)) @ weights @ own)
    return sum(found) / len(found)


@pytest.mark.parametrize(("layers", "radii"), [((1,), (1,)), ((0, 1), (1, 3, 5))])
@pytest.mark.parametrize("ks", [(), (1, 2, 3)])
def test_a_set_that_scores_itself_is_the_literal_form(
    backbone: OpenCLIP, pictures: Tensor, layers: tuple[int, ...], radii: tuple[int, ...], ks: tuple[int, ...]
) -> None:
    detector = MuSc(backbone, layers, radii=radii, neighbours=ks, chunk=3).fit(pictures)
    found = detector.score(pictures)
    maps, own = literal(backbone, pictures, layers, radii)
    expected = F.interpolate(maps[:, None], (40, 40), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(found.maps.double(), expected, atol=1e-6, rtol=0)
    scores = literal_sharing(backbone, pictures, own, ks) if ks else own
    torch.testing.assert_close(found.scores.double(), scores, atol=1e-6, rtol=0)
    torch.testing.assert_close(detector.scores_.double(), own, atol=1e-6, rtol=0)


def test_it_does_not_matter_in_which_batches_a_set_is_scored(backbone: OpenCLIP, pictures: Tensor) -> None:
    detector = MuSc(backbone).fit([pictures[:3], pictures[3:]])
    together = detector.score(pictures)
    for i in range(7):
        alone = detector.score(pictures[i : i + 1])
        torch.testing.assert_close(alone.maps, together.maps[i : i + 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(alone.scores, together.scores[i : i + 1], atol=1e-5, rtol=0)


def test_an_image_of_the_set_is_not_compared_with_itself_but_with_its_copy(
    backbone: OpenCLIP, pictures: Tensor
) -> None:
    once = MuSc(backbone, neighbours=(), lowest=0.01).fit(pictures)
    assert (once.score(pictures).scores > 1e-3).all()
    twice = MuSc(backbone, neighbours=(), lowest=0.01).fit(torch.cat([pictures, pictures[:1]]))
    scores = twice.score(pictures).scores
    assert scores[0] < 1e-2 < scores[1:].min()


def test_the_lowest_share_is_averaged_and_at_least_one() -> None:
    rows = torch.tensor([[4.0, 1.0, 3.0, 2.0, 9.0, 5.0, 8.0, 6.0, 7.0, 10.0]])
    assert [float(interval_mean(rows, share)) for share in (0.01, 0.1, 0.3, 0.39, 1.0)] == [1, 1, 2, 2, 5.5]


def test_similar_images_share_their_scores() -> None:
    similar = torch.tensor([[0.5, 0.9, -1.0]])  # the third is left out
    own, scores = torch.tensor([4.0]), torch.tensor([1.0, 2.0, 100.0])
    assert float(shared_scores(similar, own, scores, (1,))) == 4
    assert float(shared_scores(similar, own, scores, (2,))) == pytest.approx((4 + 0.9 * 2) / 1.9)
    everyone = (4 + 0.9 * 2 + 0.5) / 2.4
    assert float(shared_scores(similar, own, scores, (3, 9))) == pytest.approx(everyone)


def test_of_a_large_set_some_are_kept_by_lot(backbone: OpenCLIP, pictures: Tensor) -> None:
    detector = MuSc(backbone, most=4).fit(pictures)
    assert (len(detector.marks_), detector.shots) == (4, 7)
    assert len(set(detector.marks_.tolist())) == 4
    assert "drawn by lot" in " ".join(detector.remarks())
    again = MuSc(backbone, most=4).fit([pictures[:5], pictures[5:]])
    assert torch.equal(again.marks_, detector.marks_)
    kept = [i for i in range(7) if int(detector._encode(pictures[i : i + 1], True)["marks"]) in detector.marks_]
    small = MuSc(backbone).fit(pictures[kept])
    torch.testing.assert_close(small.score(pictures).maps, detector.score(pictures).maps, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("untyped")
def test_bad_arguments_are_named(backbone: OpenCLIP, pictures: Tensor) -> None:
    for arguments, message in (
        ({"radii": (2,)}, r"radii: expected odd numbers of patches, got \(2,\)"),
        ({"radii": ()}, r"radii: expected odd numbers of patches, got \(\)"),
        ({"lowest": 0.0}, r"lowest: expected a share in \(0, 1\]"),
        ({"neighbours": (0,)}, "neighbours: expected a whole number from 1, got int 0"),
        ({"most": 1}, "most: expected a whole number from 2"),
    ):
        with pytest.raises(ValueError, match=message):
            MuSc(backbone, **arguments)
    with pytest.raises(ValueError, match="needs at least 2, got 1"):
        MuSc(backbone).fit(pictures[:1])


def test_it_finds_defects_without_a_good_part() -> None:
    data = factory.test_set("leather", normal=12, per_defect=1, regime="fixture")
    detector = build("musc", zoo.load("efficientnet-lite0")).fit(data.images)
    found: AnomalyResult = detector.score(data.images)
    assert auroc(found.scores, data.labels) > 0.9
    assert auroc(found.maps, data.masks) > 0.9
    assert not math.isclose(float(found.scores.max()), float(found.scores.min()))


def test_a_set_compares_each_pair_once() -> None:
    images = F.normalize(torch.randn(7, 25, 16, generator=torch.Generator().manual_seed(0)), dim=2)
    torch.testing.assert_close(mutual(images, 3), nearest(images, images), atol=2e-3, rtol=0)  # 0 is the root of 1e-7
    others = ~torch.eye(7, dtype=torch.bool)[:, None].expand(-1, 25, -1)
    torch.testing.assert_close(mutual(images, 3)[others], nearest(images, images)[others], atol=1e-6, rtol=0)


def test_photographs_of_the_set_and_others_are_scored_side_by_side(backbone: OpenCLIP, pictures: Tensor) -> None:
    detector = MuSc(backbone, neighbours=()).fit(pictures[:5])
    mixed = detector.score(pictures[[6, 0, 5, 3]])
    for at, i in enumerate((6, 0, 5, 3)):
        alone = detector.score(pictures[i : i + 1])
        torch.testing.assert_close(mixed.maps[at : at + 1], alone.maps, atol=1e-6, rtol=0)
    with_all = MuSc(backbone, neighbours=()).fit(pictures[[0, 1, 2, 3, 4, 6]]).score(pictures[6:])
    torch.testing.assert_close(mixed.maps[:1], with_all.maps, atol=1e-5, rtol=0)
