"""SubspaceAD against a literal PCA in numpy, and the laws that a plane obeys."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from suite import joined, same, textured, through_files
from torch import Tensor

from gadkit import factory, zoo
from gadkit.anomaly.detectors import build, subspace
from gadkit.anomaly.detectors.knn import KNN
from gadkit.anomaly.detectors.subspace import Moments, Pieces, SubspaceAD
from gadkit.anomaly.metrics import auroc
from gadkit.backbones import OpenCLIP
from gadkit.backbones.timm_models import Timm
from gadkit.protocols import AnomalyResult, Backbone


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(9)


def literal(
    eyes: Backbone, normal: Tensor, tested: Tensor, layers: tuple[int, ...], explained: float, merge: str
) -> AnomalyResult:
    """The paper's section 3, step by step: centre, decompose, keep the fewest axes, square what is left."""

    def rows(images: Tensor) -> np.ndarray:
        tokens = [x.double().numpy() for x in eyes.encode_image(eyes.preprocess(images), layers).patches]
        if merge == "mean":
            return sum(tokens) / len(tokens)
        return np.concatenate([x / np.linalg.norm(x, axis=-1, keepdims=True) for x in tokens], -1) / len(tokens) ** 0.5

    x = rows(normal)
    x = x.reshape(-1, x.shape[-1])
    mean = x.mean(0)
    _, singular, axes = np.linalg.svd(x - mean, full_matrices=False)
    share = np.cumsum(singular**2) / np.sum(singular**2)
    k = next(i for i, reached in enumerate(share, 1) if reached >= explained - 1e-12)
    energies = []
    for patches in rows(tested):
        energies.append([])
        for patch in patches:
            rest = patch - mean - axes[:k].T @ (axes[:k] @ (patch - mean))
            energies[-1].append(float(rest @ rest))
    grid = torch.tensor(energies, dtype=torch.float64).view(len(tested), 1, *eyes.grid)
    maps = F.interpolate(grid, tested.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    most = max(1, int(0.01 * grid[0].numel()))
    scores = torch.tensor([sum(sorted(e, reverse=True)[:most]) / most for e in energies], dtype=torch.float64)
    return AnomalyResult(maps.float(), scores.float())


@pytest.mark.parametrize("merge", ["join", "mean"])
@pytest.mark.parametrize(("layers", "explained"), [((2,), 0.99), ((0, 2), 0.99), ((0, 1, 2), 0.6), ((1,), 1.0)])
def test_scores_are_those_of_a_literal_pca(
    backbone: OpenCLIP, pictures: Tensor, layers: tuple[int, ...], explained: float, merge: str
) -> None:
    found = SubspaceAD(backbone, layers, explained=explained, merge=merge).fit(pictures[:2]).score(pictures[2:5])
    expected = literal(backbone, pictures[:2], pictures[2:5], layers, explained, merge)
    same(found, expected, atol=1e-6 * max(1.0, float(expected.maps.max())))


@pytest.mark.slow
def test_scores_of_a_large_transformer_are_those_of_a_literal_pca(pictures: Tensor) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model("vit_large_patch14_dinov2", img_size=224)
    eyes = Timm(
        network, {"input_size": (3, 224, 224), "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic"}
    )
    for layers, merge in (((17, 20), "join"), (tuple(range(14, 21)), "mean")):
        found = SubspaceAD(eyes, layers, merge=merge).fit(pictures[:2]).score(pictures[2:4])
        expected = literal(eyes, pictures[:2], pictures[2:4], layers, 0.99, merge)
        same(found, expected, atol=1e-6 * max(1.0, float(expected.maps.max())))


def test_a_wider_plane_leaves_less_and_all_axes_leave_nothing_of_normal_patches(
    backbone: OpenCLIP, pictures: Tensor
) -> None:
    found = [SubspaceAD(backbone, explained=e).fit(pictures[:3]) for e in (0.5, 0.9, 0.99, 1.0)]
    widths = [len(detector.axes_) for detector in found]
    assert widths == sorted(set(widths))
    left = [detector.score(pictures[3:]).maps.mean() for detector in found]
    assert left == sorted(left, reverse=True)
    assert found[-1].score(pictures[:3]).maps.max() < 1e-6
    eyes = torch.eye(widths[1])
    torch.testing.assert_close(found[1].axes_ @ found[1].axes_.T, eyes, atol=1e-5, rtol=0)


def test_what_one_picture_explains_is_the_share_that_was_asked_for() -> None:
    spread = torch.tensor([3.0, 2.0, 1.0, 0.0])  # variances 9, 4, 1, 0
    rows = torch.cat([torch.diag(spread), -torch.diag(spread)])
    moments = Moments().add(rows[:5]).add(rows[5:])
    assert [len(moments.axes(e)[0]) for e in (9 / 14 - 1e-9, 9 / 14 + 1e-9, 13 / 14 + 1e-9, 1.0)] == [1, 2, 3, 3]
    axes, mean = moments.axes(0.9)
    torch.testing.assert_close(axes.abs(), torch.eye(4)[:2], atol=1e-6, rtol=0)
    torch.testing.assert_close(mean, torch.zeros(4))
    both = Moments.of([Moments().add(rows[:3]), Moments().add(rows[3:])])
    torch.testing.assert_close(both.axes(0.9), moments.axes(0.9))
    assert (both.count, moments.count) == (8, 8)


def test_pieces_hold_one_image_each_while_there_are_few_and_then_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subspace, "PIECES", 4)
    rows = torch.randn(11, 5, 3, generator=torch.Generator().manual_seed(0))
    pieces = Pieces()
    sizes = []
    for batch in rows.split(3):
        pieces.add(batch)
        sizes.append(pieces.images)
    assert sizes == [1, 2, 4, 4]
    assert [list(pieces.touched(i, i + 1)) for i in (0, 3, 4, 10)] == [[0], [0], [1], [2]]
    assert list(pieces.touched(3, 9)) == [0, 1, 2]
    expected = Moments().add(torch.cat([rows[:4], rows[8:]]).flatten(0, 1))
    torch.testing.assert_close(pieces.without(range(1, 2)).axes(0.9), expected.axes(0.9))
    with pytest.raises(ValueError, match="parts: expected some images of other parts among 11, got none"):
        pieces.without(range(3))


def test_pieces_take_bounded_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subspace, "ROOM", 6 * 8 * 3**2)  # six pieces of three dimensions
    pieces = Pieces()
    pieces.add(torch.ones(100, 1, 3))
    assert len(pieces.moments) <= 6
    assert Moments.of(pieces.moments).count == 100


def test_leaving_one_out_encodes_nothing_again_and_a_loaded_detector_can_do_it_too(
    backbone: OpenCLIP, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = SubspaceAD(backbone, turns=4).fit(pictures[:4])
    loaded = SubspaceAD(backbone).load_state(through_files(detector.state()))
    once_more = joined(list(loaded.leave_one_out(pictures[:4])))
    monkeypatch.setattr(SubspaceAD, "_rows", None)
    same(joined(list(detector.leave_one_out(pictures[:4]))), once_more)


def test_a_constant_set_is_a_point(backbone: OpenCLIP, pictures: Tensor) -> None:
    axes, mean = Moments().add(torch.ones(5, 3)).axes(0.99)
    assert axes.shape == (1, 3)
    torch.testing.assert_close(mean, torch.ones(3))


def test_the_image_vector_joins_with_its_weight(backbone: OpenCLIP, pictures: Tensor) -> None:
    plain, both = (SubspaceAD(backbone, extent=e).fit(pictures[:4]).score(pictures[4:]) for e in (0.0, 0.7))
    whole = KNN(backbone).fit(pictures[:4]).score(pictures[4:])
    torch.testing.assert_close(both.scores, plain.scores + 0.7 * whole.scores, atol=1e-5, rtol=0)
    assert torch.equal(plain.maps, both.maps)


def test_turned_parts_enter_the_plane(backbone: OpenCLIP, pictures: Tensor) -> None:
    square = pictures[..., :40]
    quarter = torch.rot90(square, 1, (2, 3))
    wise = SubspaceAD(backbone, explained=1.0, turns=4).fit(square[:1])
    plain = SubspaceAD(backbone, explained=1.0).fit(square[:1])
    assert wise.score(quarter[:1]).maps.max() < 1e-5 < plain.score(quarter[:1]).maps.max()


@pytest.mark.usefixtures("untyped")
def test_bad_arguments_are_named(backbone: OpenCLIP, pictures: Tensor) -> None:
    with pytest.raises(ValueError, match=r"explained: expected a share in \(0, 1\], got int 0"):
        SubspaceAD(backbone, explained=0)
    with pytest.raises(ValueError, match="merge: expected one of join, mean, got 'sum'"):
        SubspaceAD(backbone, merge="sum")
    lite = zoo.load("efficientnet-lite0")
    with pytest.raises(ValueError, match='merge: "mean" expects layers of one width, got 24, 40, 112, 320'):
        SubspaceAD(lite, merge="mean").fit(pictures[:2])


def test_it_finds_what_it_should_on_the_factory() -> None:
    data = factory.test_set("leather", normal=8, per_defect=2, regime="fixture")
    result = build("subspace", zoo.load("efficientnet-lite0")).fit(data.references).score(data.images)
    assert auroc(result.scores, data.labels) > 0.9
    assert auroc(result.maps, data.masks) > 0.9
