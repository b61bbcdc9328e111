"""Tiles: they cover every pixel once in all, cost no promise of the detector inside, and find what squashing loses."""

import itertools
from dataclasses import replace

import pytest
import torch
from blank_heads import blank
from hypothesis import given
from hypothesis import strategies as st
from suite import same, textured, through_files
from torch import Tensor

from gadkit import zoo
from gadkit.anomaly.detectors import DETECTORS, PatchKNN, build
from gadkit.anomaly.thresholds import held_out
from gadkit.anomaly.tiles import Tiled
from gadkit.backbones import OpenCLIP
from gadkit.protocols import AnomalyResult, Detector

pytestmark = pytest.mark.filterwarnings("ignore::gadkit.anomaly.detectors.saa.NothingFound")
every = pytest.mark.parametrize("name", DETECTORS)
COMPARE = [name for name, row in DETECTORS.items() if row.few_shot or row.batched]  # with images that `fit` is given
SIDE = 40


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(5, 70, 95)


@given(st.integers(2, 50), st.integers(0, 300), st.floats(0, 0.9))
def test_weights_add_up_to_1_at_every_pixel_and_fall_to_the_edges(size: int, more: int, overlap: float) -> None:
    tiled = Tiled(PatchKNN(zoo.load("random")), size, overlap)
    length = size + more
    starts, weights = tiled.starts(length), tiled.weights(length)
    total = torch.zeros(length)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + size] += weight
    torch.testing.assert_close(total, torch.ones(length))
    assert (weights > 0).all()
    assert (starts[0], starts[-1]) == (0, more)
    steps = [b - a for a, b in itertools.pairwise(starts)]
    assert all(0 < step <= max(1, size * (1 - overlap)) + 1 for step in steps)
    assert len(starts) <= more / max(1, int(size * (1 - overlap))) + 2, "linear in the pixels"
    if len(starts) > 2 and size > 4 and min(steps) >= size / 2:
        assert weights[1][0] <= weights[1][size // 2]


@every
def test_an_image_of_one_tile_is_scored_as_without(placed: OpenCLIP, pictures: Tensor, name: str) -> None:
    images = pictures[:, :, :SIDE, :SIDE]
    plain, tiled = (build(name, placed, "nut", **blank(name)) for _ in range(2))
    tiled = Tiled(tiled)
    assert isinstance(tiled, Detector)
    normal = images[:3] if name in COMPARE else None
    same(tiled.fit(normal).score(images[3:]), plain.fit(normal).score(images[3:]))


def test_maps_are_blended_and_the_score_is_the_highest(placed: OpenCLIP, pictures: Tensor) -> None:
    """Against a literal loop: every pixel the weighted mean of the tiles that show it."""
    tiled = Tiled(PatchKNN(placed), overlap=0.5).fit(pictures[:2])
    image, found = pictures[4], tiled.score(pictures[4:])
    rows, columns = tiled.starts(70), tiled.starts(95)
    assert (rows, columns) == ([0, 15, 30], [0, 18, 37, 55])
    total, weight, scores = torch.zeros(70, 95), torch.zeros(70, 95), []
    for top in rows:
        for left in columns:
            tile = tiled.detector.score(image[None, :, top : top + SIDE, left : left + SIDE])
            scores.append(float(tile.scores))
            for y in range(SIDE):
                for x in range(SIDE):
                    w = min(y + 1, SIDE - y) * min(x + 1, SIDE - x)
                    total[top + y, left + x] += w * tile.maps[0, y, x]
                    weight[top + y, left + x] += w
    # the sum of products is the product of sums: tiles lie on a grid
    torch.testing.assert_close(found.maps[0], total / weight, atol=1e-5, rtol=0)
    assert float(found.scores) == pytest.approx(max(scores), abs=1e-6)


@every
def test_it_keeps_the_promises_of_the_detector_inside(placed: OpenCLIP, pictures: Tensor, name: str) -> None:
    row = DETECTORS[name]
    for normal in [None] * bool(row.zero_shot) + [pictures[:3]] * bool(row.few_shot or row.batched):
        tiled = Tiled(build(name, placed, "nut", **blank(name)), 44)
        assert tiled.fit(normal) is tiled
        assert tiled.shots == (0 if normal is None else 3)
        result = tiled.score(pictures[3:])
        assert result.maps.shape == (2, 70, 95)
        same(tiled.score(tiled.encode(pictures[3:])), result)
        same(tiled.score(pictures[4:]), AnomalyResult(result.maps[1:], result.scores[1:]))
        assert "tiles of 44 x 44 pixels" in tiled.explain()
        assert tiled.map_range == tiled.detector.map_range
        state = tiled.state()
        again = through_files(state)
        other = Tiled(build(name, placed, "nut", **blank(name))).load_state(again)
        assert (other.size, other.overlap, other.shots) == (44, 0.25, tiled.shots)
        same(other.score(pictures[3:]), result, 0)


@pytest.mark.parametrize(("name", "parameters"), [*((name, {}) for name in COMPARE), ("patch-knn", {"thin": 0.2})])
def test_all_tiles_of_a_part_are_left_out_together(
    placed: OpenCLIP, pictures: Tensor, name: str, parameters: dict
) -> None:
    make = lambda: Tiled(build(name, placed, "nut", **blank(name) | parameters))  # noqa: E731
    tiled = make().fit(pictures[:3])
    found = list(tiled.leave_one_out(pictures[:3]))
    assert len(found) == 3
    for i, result in enumerate(found):
        same(result, make().fit(pictures[[j for j in range(3) if j != i]]).score(pictures[i : i + 1]))


def test_good_parts_of_several_sizes(placed: OpenCLIP, pictures: Tensor) -> None:
    batches = [pictures[:1], pictures[1:3, :, :50], pictures[3:4, :, :, :61]]
    tiled = Tiled(PatchKNN(placed)).fit(batches)
    assert tiled.shots == 4
    assert [tuple(r.maps.shape) for r in tiled.leave_one_out(batches)] == [
        (1, 70, 95),
        *[(1, 50, 95)] * 2,
        (1, 70, 61),
    ]
    assert (held_out(Tiled(PatchKNN(placed)).fit(pictures[:3]), pictures[:3]).scores > 0).all()


@pytest.mark.usefixtures("untyped")
def test_what_does_not_fit_is_named(placed: OpenCLIP, pictures: Tensor) -> None:
    tiled = Tiled(PatchKNN(placed), 80)
    for call in (tiled.fit, tiled.encode):
        with pytest.raises(ValueError, match="expected at least the 80 x 80 pixels of a tile, got 70 x 95"):
            call(pictures)
    with pytest.raises(ValueError, match=r"overlap: expected a share in \[0, 1\), got 1"):
        Tiled(PatchKNN(placed), overlap=1.0)
    with pytest.raises(ValueError, match="detector: expected"):
        Tiled(placed)
    with pytest.raises(RuntimeError, match="not fitted yet"):
        Tiled(PatchKNN(placed)).score(pictures)
    with pytest.raises(RuntimeError, match="not fitted yet"):
        next(Tiled(PatchKNN(placed)).leave_one_out(pictures))
    state = Tiled(PatchKNN(placed)).fit(pictures[:2]).state()
    with pytest.raises(ValueError, match="expected Tiled, version 1, got Tiled, version 2"):
        tiled.load_state(replace(state, version=2))
    with pytest.raises(ValueError, match="state: expected detector, overlap"):
        tiled.load_state(replace(state, parameters={**state.parameters, "magic": 1}))


def weave(height: int, width: int, shift: int = 0) -> Tensor:
    """A plain weave of threads 12 pixels wide, without noise: uint8 (3, h, w)."""
    y, x = torch.meshgrid(torch.arange(height) + shift, torch.arange(width) + 2 * shift, indexing="ij")
    over = ((y // 12 + x // 12) % 2).bool()
    light = torch.where(over, (y % 12 - 5.5).abs(), (x % 12 - 5.5).abs())
    return (190 - 14 * light).round().to(torch.uint8).expand(3, -1, -1).clone()


@pytest.mark.parametrize("side", [1000, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_spot_of_four_pixels_in_a_large_photograph_is_found(side: int) -> None:
    eyes, part = zoo.load("efficientnet-lite0"), weave(side, side, 3)
    spotted = part.clone()
    spotted[:, side // 2 : side // 2 + 4, side // 3 : side // 3 + 4] = 20
    tiled = Tiled(PatchKNN(eyes)).fit([weave(400, 400, s)[None] for s in (0, 5)])
    clean, found = (tiled.score(image[None]) for image in (part, spotted))
    assert found.scores > 1.5 * clean.scores
    row, column = divmod(int(found.maps[0].argmax()), side)
    assert max(abs(row - side // 2 - 2), abs(column - side // 3 - 2)) < 24
