"""Places as words: what is lost on the way to a bin and back, and what the library's processor makes of it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gadkit.losses.masks import mask_iou
from gadkit.multimodal import location
from gadkit.multimodal.florence import EXACT
from gadkit.multimodal.florence_network import FlorenceConfig, processor_for
from gadkit.multimodal.florence_words import PROMPTS, learn_words


@pytest.fixture(scope="module")
def processor():
    return processor_for(FlorenceConfig(), learn_words(["a red gear", *PROMPTS]))


def disc(size: int, x: float, y: float, radius: float) -> Tensor:
    t = torch.arange(size) + 0.5
    return torch.hypot(t - x, t[:, None] - y) < radius


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.integers(1, 3000), st.integers(1, 3000))
def test_a_place_comes_back_within_a_bin(shares: list[float], width: int, height: int) -> None:
    places = torch.tensor(shares) * torch.tensor([width, height, width, height])
    bins = location.quantise(places, (width, height))
    assert 0 <= bins.min() <= bins.max() < 1000
    far = (location.dequantise(bins, (width, height)) - places).abs() / torch.tensor([width, height] * 2)
    assert (far <= 0.5 / 1000 + 1e-6).all()
    assert torch.equal(location.quantise(location.dequantise(bins, (width, height)), (width, height)), bins)


def test_bins_are_those_of_the_library(processor) -> None:
    boxes = torch.rand(50, 4) * torch.tensor([137.0, 91, 137, 91])
    theirs = processor.post_processor.quantize(boxes, (137, 91))
    assert torch.equal(location.quantise(boxes, (137, 91)), theirs.long())
    points = torch.tensor([[0.0, 0], [136.99, 90.99], [137, 91], [200, -5]])
    assert location.quantise(points, (137, 91)).tolist() == [[0, 0], [999, 999], [999, 999], [999, 0]]
    assert location.spell([0, 42]) == "<loc_0><loc_42>"


def test_boxes_come_back_through_the_librarys_parser(processor) -> None:
    boxes = torch.tensor([[12.0, 8, 96, 64], [0, 50, 128, 128]])
    text = "".join("red gear" + location.spell(row) for row in location.quantise(boxes, (128, 128)).tolist())
    found = processor.post_process_generation(text=text, task="<OD>", image_size=EXACT)["<OD>"]
    assert found["labels"] == ["red gear"] * 2
    back = torch.tensor(found["bboxes"]) / 2000 * 128
    assert (back - boxes).abs().max() <= 128 / 2000 + 1e-5  # exactly the middles of the bins, whatever the image's size
    assert torch.allclose(back, location.dequantise(location.quantise(boxes, (128, 128)), (128, 128)))


@pytest.mark.parametrize("points", [6, 12, 24])
def test_outlines_come_back_as_masks(processor, points: int) -> None:
    bracket = torch.zeros(128, 128, dtype=torch.bool)
    bracket[20:100, 30:50], bracket[80:100, 30:110] = True, True
    for mask, least in ((disc(128, 60, 70, 30), {6: 0.6, 12: 0.85, 24: 0.95}[points]), (bracket, 0.97)):
        (outline,) = location.trace(mask, points)
        assert len(outline) <= points
        assert outline[0, 1] == outline[:, 1].min()
        text = location.spell(location.quantise(outline.flatten(), (128, 128)).tolist())
        task = "<REFERRING_EXPRESSION_SEGMENTATION>"
        found = processor.post_process_generation(text=text, task=task, image_size=EXACT)[task]
        (corners,) = found["polygons"][0]
        again = location.fill([[number * 128 / 2000 for number in corners]], (128, 128))
        assert mask_iou(again[None], mask[None]).item() > least


def test_outlines_run_clockwise_and_name_the_large_pieces(processor) -> None:
    mask = disc(64, 20, 20, 12) | disc(64, 48, 48, 8) | disc(64, 60, 4, 1.5)
    large, small = location.trace(mask)
    assert large.mean(0).tolist() == pytest.approx([20, 20], abs=1.5)
    assert small.mean(0).tolist() == pytest.approx([48, 48], abs=1.5)
    (x, y) = large.T
    assert (x * y.roll(-1) - x.roll(-1) * y).sum() > 0  # y runs downwards
    assert location.trace(torch.zeros(8, 8, dtype=torch.bool)) == []
    touching = torch.zeros(8, 8, dtype=torch.bool)
    touching[:, :4] = True
    (edge,) = location.trace(touching)
    assert (edge.min().item(), edge[:, 0].max().item(), edge[:, 1].max().item()) == (0, 4, 8)


def test_boxes_are_read_from_left_to_right() -> None:
    boxes = torch.tensor([[5.0, 5, 9, 9], [0, 7, 4, 9], [5, 1, 9, 4]])
    assert location.reading_order(boxes) == [1, 2, 0]
    assert location.reading_order(torch.zeros(0, 4)) == []


def test_a_mask_is_filled_by_pixel_middles() -> None:
    filled = location.fill([[1, 1, 4, 1, 4, 3, 1, 3], [6, 6, 7, 7]], (8, 5))
    assert filled.nonzero().tolist() == [[y, x] for y in (1, 2) for x in (1, 2, 3)]


@pytest.mark.usefixtures("untyped")
def test_bad_places_are_named() -> None:
    with pytest.raises(ValueError, match=r"places: expected x, y, x, y, \.\.\., an even number, got 3"):
        location.quantise(torch.rand(2, 3), (8, 8))
    with pytest.raises(ValueError, match="size: expected a whole number from 1, got int 0"):
        location.quantise(torch.rand(2, 4), (0, 8))
    with pytest.raises(ValueError, match="bin: expected a whole number from 0 to 999, got int 1000"):
        location.spell([1000])
    with pytest.raises(ValueError, match="points: expected a whole number from 3, got int 2"):
        location.trace(torch.ones(4, 4, dtype=torch.bool), 2)
