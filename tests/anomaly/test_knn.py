"""Nearest-neighbour detectors against literal loops and scikit-learn, and the laws that memory banks obey."""

import itertools
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from sklearn.neighbors import NearestNeighbors
from suite import same, textured
from torch import Tensor

from gadkit import factory, zoo
from gadkit.anomaly import benchmark
from gadkit.anomaly.detectors import build
from gadkit.anomaly.detectors.knn import KNN, PatchKNN, distances
from gadkit.anomaly.detectors.patches import patch_vectors, top_mean, turned
from gadkit.anomaly.metrics import auroc
from gadkit.backbones import OpenCLIP
from gadkit.protocols import AnomalyResult


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(9)


def far(a: Tensor, b: Tensor) -> float:
    return 1 - float(torch.cosine_similarity(a.double(), b.double(), dim=0))


@pytest.mark.parametrize("k", [1, 3])
def test_image_scores_are_the_mean_distance_to_the_k_nearest(backbone: OpenCLIP, pictures: Tensor, k: int) -> None:
    normal, tested = pictures[:5], pictures[5:]
    result = KNN(backbone, k).fit(normal).score(tested)
    vectors = [backbone.encode_image(backbone.preprocess(p[None])).pooled[0] for p in pictures]
    expected = [sum(sorted(far(v, u) for u in vectors[:5])[:k]) / k for v in vectors[5:]]
    torch.testing.assert_close(result.scores, torch.tensor(expected), atol=1e-5, rtol=0)
    reference = NearestNeighbors(n_neighbors=k, metric="cosine").fit(torch.stack(vectors[:5]))
    theirs = reference.kneighbors(torch.stack(vectors[5:]))[0].mean(1)
    torch.testing.assert_close(result.scores, torch.from_numpy(theirs), atol=1e-5, rtol=0, check_dtype=False)
    assert torch.equal(result.maps, result.scores[:, None, None].expand(-1, 40, 56))


@pytest.mark.parametrize("arguments", [{}, {"layers": (0, 2)}, {"layers": (1,), "k": 3}, {"top": 0.2}], ids=str)
def test_patch_scores_are_a_literal_search(backbone: OpenCLIP, pictures: Tensor, arguments: dict) -> None:
    result = PatchKNN(backbone, **arguments).fit(pictures[:2]).score(pictures[2:4])
    layers, k = arguments.get("layers", (2,)), arguments.get("k", 1)
    tokens = backbone.encode_image(backbone.preprocess(pictures[:4]), layers).patches  # one (4, 25, 32) a layer
    bank = [(i, p) for i in (0, 1) for p in range(25)]
    for row, i in enumerate((2, 3)):
        scores = []
        for p in range(25):
            all_far = [sum(far(t[i, p], t[j, q]) for t in tokens) / len(tokens) for j, q in bank]
            scores.append(sum(sorted(all_far)[:k]) / k)
        grid = torch.tensor(scores).view(1, 1, 5, 5)
        expected = F.interpolate(grid, (40, 56), mode="bilinear", align_corners=False)[0, 0]
        torch.testing.assert_close(result.maps[row], expected, atol=1e-5, rtol=0)
        most = sorted(scores, reverse=True)[: 5 if arguments.get("top") else 1]  # 1 % of 25 patches: the largest
        assert float(result.scores[row]) == pytest.approx(sum(most) / len(most), abs=1e-5)


@pytest.mark.parametrize(("name", "layers"), [("mae", (-1,)), ("swin", (1,))])
def test_the_backbone_names_the_layers_that_describe_a_patch(name: str, layers: tuple[int, ...]) -> None:
    assert PatchKNN(zoo.load(name)).layers == layers
    assert PatchKNN(zoo.load(name), (0,)).layers == (0,)


@pytest.mark.parametrize("make", [KNN, PatchKNN, lambda b: PatchKNN(b, (0, 1), turns=3)], ids=["knn", "patch", "turns"])
def test_a_member_of_the_bank_scores_0(backbone: OpenCLIP, pictures: Tensor, make) -> None:
    result = make(backbone).fit(pictures[:4]).score(pictures[2:6])
    assert result.scores[:2].tolist() == pytest.approx([0, 0], abs=1e-5)
    assert result.maps[:2].abs().max() < 1e-5
    assert (result.scores[2:] > 1e-3).all()
    assert result.scores.min() >= 0
    assert result.maps.max() <= 2


@pytest.mark.parametrize("make", [KNN, PatchKNN], ids=["knn", "patch"])
def test_adding_to_the_bank_never_raises_a_score(backbone: OpenCLIP, pictures: Tensor, make) -> None:
    found = [make(backbone).fit(pictures[:n]).score(pictures[5:]) for n in (1, 2, 3, 5)]
    for fewer, more in itertools.pairwise(found):
        assert (more.scores <= fewer.scores + 1e-6).all()
        assert (more.maps <= fewer.maps + 1e-6).all()
    assert (found[-1].maps < found[0].maps - 1e-4).any()


@pytest.mark.parametrize("make", [KNN, PatchKNN], ids=["knn", "patch"])
def test_chunks_and_batches_change_nothing(backbone: OpenCLIP, pictures: Tensor, make) -> None:
    whole = make(backbone).fit(pictures[:4]).score(pictures[4:])
    same(make(backbone, chunk=2).fit(pictures[:4]).score(pictures[4:]), whole)
    one = make(backbone).fit(pictures[[3, 1, 0, 2]])
    same(one.score(pictures[6:7]), AnomalyResult(whole.maps[2:3], whole.scores[2:3]))


def test_encoded_once_scored_many_times(backbone: OpenCLIP, pictures: Tensor) -> None:
    detector = PatchKNN(backbone)
    encoded = detector.encode(pictures[4:])
    assert encoded.features["patches"].shape == (5, 5, 5, 32)
    for count in (1, 3):
        same(detector.fit(pictures[:count]).score(encoded), detector.score(pictures[4:]))


def test_a_thinner_bank_is_a_part_of_the_bank(backbone: OpenCLIP, pictures: Tensor) -> None:
    full, whole, thin = (PatchKNN(backbone, thin=thin).fit(pictures[:4]) for thin in (None, 1.0, 0.13))
    same(whole.score(pictures[4:]), full.score(pictures[4:]))
    assert full.bank_.shape == (100, 32)
    assert len(thin.bank_) == 13
    assert (torch.cdist(thin.bank_, full.bank_).amin(1) < 1e-3).all()
    assert (thin.score(pictures[4:]).maps >= full.score(pictures[4:]).maps - 1e-6).all()


def test_what_stays_in_a_thin_bank_is_spread_out(backbone: OpenCLIP, pictures: Tensor) -> None:
    full, thin = (PatchKNN(backbone, thin=t).fit(pictures[:4]).bank_ for t in (None, 0.2))
    draw = torch.Generator().manual_seed(0)
    by_chance = [full[torch.randperm(100, generator=draw)[:20]] for _ in range(20)]
    radius = [float(torch.cdist(full, some).amin(1).max()) for some in (thin, *by_chance)]
    assert radius[0] < min(radius[1:])


def test_a_turned_reference_recognises_a_turned_part(backbone: OpenCLIP, pictures: Tensor) -> None:
    square = pictures[..., :40]
    quarter = torch.rot90(square, 1, (2, 3))
    plain, wise = (PatchKNN(backbone, turns=n).fit(square[:2]) for n in (1, 4))
    assert wise.score(quarter[:2]).maps.max() < 1e-5 < 1e-3 < plain.score(quarter[:2]).maps.max()
    assert len(wise.bank_) == 4 * len(plain.bank_)


def test_turns_are_rotations(backbone: OpenCLIP) -> None:
    y, x = torch.meshgrid(torch.linspace(-1, 1, 41), torch.linspace(-1, 1, 41), indexing="ij")
    disc = (-4 * (x * x + y * y)).exp()[None, None].repeat(1, 3, 1, 1)
    for one in turned(disc, 8):
        inside = (x * x + y * y < 0.9).expand_as(disc)  # the corners are filled from elsewhere
        torch.testing.assert_close(one[inside], disc[inside], atol=0.02, rtol=0)
    ramp = x[None, None].repeat(1, 3, 1, 1)
    by_hand = [torch.rot90(ramp, i, (2, 3)) for i in range(4)]
    torch.testing.assert_close(list(turned(ramp, 4)), by_hand)
    middle = [t[0, 0, 15:26, 15:26] for t in turned(ramp, 8)]
    for i in range(8):  # bright to the right, turned i / 8 of a circle against the clock
        gy, gx = middle[i].diff(dim=0).mean(), middle[i].diff(dim=1).mean()
        angle = torch.atan2(-gy, gx) / (2 * torch.pi) % 1
        assert float(angle) == pytest.approx(i / 8, abs=0.01)


def test_distances_and_tails_at_their_ends() -> None:
    bank = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    queries = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [1.0, 1.0]])
    torch.testing.assert_close(distances(queries, bank), torch.tensor([0.0, 1.0, 1 - 0.5**0.5]))
    torch.testing.assert_close(distances(queries, bank, 2), torch.tensor([0.5, 1.5, 1 - 0.5**0.5]))
    ladder = torch.arange(300.0)[torch.randperm(300)][None]
    assert top_mean(ladder).tolist() == [298]
    assert top_mean(ladder[:, :99]).tolist() == [ladder[0, :99].max()]
    assert top_mean(ladder, 1.0).tolist() == [149.5]
    with pytest.raises(ValueError, match="at least k = 3 normal features, got 2"):
        distances(queries, bank, 3)


def test_it_finds_what_it_should_on_the_factory() -> None:
    clip = zoo.load("clip")
    data = factory.test_set("leather", normal=8, per_defect=2, regime="fixture")
    result = PatchKNN(clip).fit(data.references).score(data.images)
    assert auroc(result.scores, data.labels) > 0.9
    assert auroc(result.maps, data.masks) > 0.9


def test_the_benchmark_takes_them(backbone: OpenCLIP) -> None:
    for make in (lambda _: KNN(backbone), lambda _: PatchKNN(backbone, thin=0.5)):
        cases = benchmark.factory_cases(("felt",), variants=1, seeds=(0,), references=2, size=48)
        results = list(benchmark.run(make, cases, (1, 2), quiet=True))
        assert [r.shots for r in results] == [1, 2]
        assert all(0 <= r.image_auroc <= 1 for r in results)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda b: KNN("clip"), "expected one with preprocess and encode_image, got str 'clip'"),
        (lambda b: KNN(b, 0), "k: expected a whole number from 1, got int 0"),
        (lambda b: KNN(b, chunk=1.5), "chunk: expected a whole number from 1, got float 1.5"),
        (lambda b: PatchKNN(b, ()), r"layers: expected at least one block number, got \(\)"),
        (lambda b: PatchKNN(b, ("last",)), "layers: expected at least one block number"),
        (lambda b: PatchKNN(b, thin=0.0), r"thin: expected a share in \(0, 1\], got float 0.0"),
        (lambda b: PatchKNN(b, top=2), r"top: expected a share in \(0, 1\], got int 2"),
        (lambda b: PatchKNN(b, turns=0), "turns: expected a whole number from 1, got int 0"),
    ],
)
def test_bad_arguments_are_named(backbone: OpenCLIP, make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(backbone)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("kind", [KNN, PatchKNN])
def test_bad_images_are_named(backbone: OpenCLIP, pictures: Tensor, kind: type) -> None:
    detector = kind(backbone, k=2)
    with pytest.raises(RuntimeError, match=r"not fitted yet: call fit\(normal\)"):
        detector.score(pictures)
    with pytest.raises(ValueError, match="compares with normal images, so it needs some"):
        detector.fit()
    with pytest.raises(ValueError, match="normal images: expected dtype uint8"):
        detector.fit(pictures.float())
    with pytest.raises(ValueError, match="images: expected shape"):
        detector.fit(pictures[:3]).score(pictures[0])
    with pytest.raises(ValueError, match="expected at least k = 99"):
        kind(backbone, k=99).fit(pictures[:3])


def test_a_block_that_does_not_exist_is_named(backbone: OpenCLIP, pictures: Tensor) -> None:
    with pytest.raises(ValueError, match="from -3 to 2"):
        PatchKNN(backbone, (7,)).fit(pictures)


def test_the_image_finds_a_change_everywhere_and_the_worst_patch_a_spot(backbone: OpenCLIP, pictures: Tensor) -> None:
    plain, both = (PatchKNN(backbone, extent=extent).fit(pictures[:5]) for extent in (0.0, 0.7))
    whole = KNN(backbone).fit(pictures[:5]).score(pictures[5:])
    one, two = plain.score(pictures[5:]), both.score(pictures[5:])
    torch.testing.assert_close(two.scores, one.scores + 0.7 * whole.scores, atol=1e-5, rtol=0)
    assert torch.equal(one.maps, two.maps)
    for i, found in enumerate(both.leave_one_out(pictures[:5])):
        others = pictures[[j for j in range(5) if j != i]]
        expected = PatchKNN(backbone, extent=0.7).fit(others).score(pictures[i : i + 1])
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    assert "and the image as a whole" in both.explain()
    assert "whole" not in plain.explain()


@pytest.mark.parametrize("make", [KNN, PatchKNN, partial(PatchKNN, turns=3, extent=0.5)], ids=["knn", "patch", "turns"])
def test_what_fit_has_encoded_is_not_encoded_again(
    backbone: OpenCLIP, pictures: Tensor, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares, detector = ((0, 2), (2, 3), (3, 5)), make(backbone).fit(pictures[:5])
    without = [torch.cat([pictures[:first], pictures[last:5]]) for first, last in shares]
    expected = [make(backbone).fit(w).score(pictures[a:b]) for w, (a, b) in zip(without, shares, strict=True)]
    monkeypatch.setattr(OpenCLIP, "encode_image", lambda *_: pytest.fail("it was encoded by fit"))
    found = list(detector.leave_one_out(pictures[:5], [2, 1, 2]))
    for one, other in zip(found, expected, strict=True):
        same(one, other)


@pytest.mark.parametrize("thin", [None, 0.4])
def test_a_thinned_bank_leaves_the_image_out_too(backbone: OpenCLIP, pictures: Tensor, thin: float | None) -> None:
    detector = PatchKNN(backbone, thin=thin, extent=50.0).fit(pictures[:6])
    whole = list(KNN(backbone).fit(pictures[:6]).leave_one_out(pictures[:6]))
    for found, image in zip(detector.leave_one_out(pictures[:6]), whole, strict=True):
        assert float(found.scores - 50 * image.scores) < 2.001, "the rest is a patch's distance"


def test_finer_layers_are_averaged_within_a_patch_or_joined() -> None:
    eyes = zoo.load("efficientnet-lite0")
    images = factory.render("gear", torch.arange(2)).images
    x = eyes.preprocess(images)
    _, maps = eyes.model.forward_intermediates(x, indices=[1, 2, 3, 4], output_fmt="NCHW")
    on_grid = [F.interpolate(m, (14, 14), mode="bilinear") if m.shape[2] < 14 else m for m in maps]
    averaged = [F.normalize(F.adaptive_avg_pool2d(m, 14), dim=1) for m in on_grid]
    expected = (torch.cat(averaged, 1) / 2).permute(0, 2, 3, 1)
    found = PatchKNN(eyes, (1, 2, 3, 4)).encode(images).features["patches"]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    joined = PatchKNN(eyes, (1, 2, 3, 4), finer="join").encode(images).features["patches"]
    assert joined.shape[-1] == 24 * 16 + 40 * 4 + 112 + 320
    torch.testing.assert_close(joined.norm(dim=-1), torch.ones(2, 14, 14))
    ramp = torch.arange(8.0).view(1, 1, 8)  # two channels of 2 x 2
    torch.testing.assert_close(patch_vectors([ramp], [2])[0, 0], F.normalize(torch.tensor([1.5, 5.5]), dim=0))


def test_the_detector_of_the_table_has_what_was_settled_and_the_caller_the_last_word(backbone: OpenCLIP) -> None:
    assert build("patch-knn", backbone).extent == 1
    assert build("patch-knn", backbone, extent=0.25).extent == 0.25
    assert PatchKNN(backbone).extent == 0
    assert PatchKNN(backbone).finer == "average"


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"extent": -0.1}, "extent: expected a weight from 0, got -0.1"),
        ({"extent": float("nan")}, "extent: expected a weight from 0, got nan"),
        ({"finer": "max"}, "finer: expected one of join, average, got 'max'"),
    ],
)
def test_what_makes_no_score(backbone: OpenCLIP, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PatchKNN(backbone, **arguments)
