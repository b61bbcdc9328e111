"""The protocol's images: nothing that is tested on was learnt from, and boxes and masks say what is there."""

import inspect
from collections.abc import Callable
from itertools import combinations

import pytest
import torch

from gadkit import factory
from gadkit.evaluation import sets
from gadkit.factory.films import motion
from gadkit.factory.seeds import FIRST_TEST

Rendered = tuple[set[tuple[str, int]], set[tuple[str, int]]]


@pytest.fixture
def rendered(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Rendered]:
    """What the factory is asked for while a set is made: all products, and all seeds of photographs, by category."""
    render = factory.render

    def while_making(make: Callable, *arguments: object) -> Rendered:
        products, shots = set(), set()

        def noted(category: str, seeds: torch.Tensor, variants: torch.Tensor, *more: object, **options: object):
            products.update((category, product) for product in variants.tolist())
            shots.update((category, seed) for seed in seeds.tolist())
            return render(category, seeds, variants, *more, **options)

        with monkeypatch.context() as patch:
            patch.setattr(factory, "render", noted)
            inspect.unwrap(make)(*arguments)  # past the cache, which would answer without a word to the factory
        return products, shots

    return while_making


SPLITS = {
    "parts": (sets.parts, [(None, 3, 16), (0, 3, 16), (1, 3, 16)], 27 * 3),
    "defects": (
        sets.defects,
        [(0, "train", 2, 16), (0, "test", 2, 16), (1, "train", 2, 16), (1, "test", 2, 16)],
        27 * 2,
    ),
    "plates": (sets.plates, [(0, "train", 8, 48), (0, "test", 8, 48), (1, "train", 8, 48), (1, "test", 8, 48)], 16),
}


@pytest.mark.parametrize("name", SPLITS)
def test_no_product_is_in_two_splits_nor_in_any_training(rendered: Callable[..., Rendered], name: str) -> None:
    make, splits, least = SPLITS[name]
    found = [rendered(make, *arguments) for arguments in splits]
    for kind in zip(*found, strict=True):  # products, then photographs
        assert all(len(some) >= least for some in kind)
        assert not any(one & other for one, other in combinations(kind, 2))
        assert min(number for some in kind for _, number in some) >= FIRST_TEST, "no training seed is that large"


def test_no_clip_is_in_two_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    make, found = motion.clips, []

    def noted(*arguments: object) -> motion.Clips:
        clips = make(*arguments)
        found.append({*clips.seeds.tolist()})
        return clips

    monkeypatch.setattr(motion, "clips", noted)
    for seed in (0, 1):
        for split in ("train", "test"):
            inspect.unwrap(sets.clips)(seed, split, 8)
    assert [len(some) for some in found] == [8] * 4
    assert not any(one & other for one, other in combinations(found, 2))
    assert min(map(min, found)) >= FIRST_TEST


def test_seeds_of_different_purposes_are_far_apart() -> None:
    names = [f"parts/{s}/{c}{what}" for s in ("train", 0, 1) for c in ("gear", "key") for what in ("", "/products")]
    drawn = torch.cat([sets.seeds(name, 100) for name in names])
    assert len(drawn.unique()) == len(drawn)
    assert int(drawn.min()) >= FIRST_TEST, "no training seed is that large"


def test_parts_to_learn_from_and_parts_to_be_tested_on_are_other_products() -> None:
    learn, test, other = sets.parts(None, 2, 16), sets.parts(0, 2, 16), sets.parts(1, 2, 16)
    assert len(learn.classes) == 27
    assert learn.labels.bincount().tolist() == [4] * 27
    assert sets.parts(0, 2, 16) is test, "rendered once"
    rows = torch.cat([s.images for s in (learn, test, other)]).flatten(1)
    assert len(rows.unique(dim=0)) == len(rows), "no photograph twice"
    assert len({s.name for s in (learn, test, other, sets.parts(0, 3, 16))}) == 4


def test_two_photographs_in_a_row_show_one_product() -> None:
    x = sets.parts(None, 6, 24).images.float().flatten(1).unflatten(0, (27, 6, 2))
    within = (x[:, :, 0] - x[:, :, 1]).square().mean()
    across = (x[:, :, 0] - x[:, :, 1].roll(1, dims=1)).square().mean()
    assert within < 0.6 * across


def test_masks_tell_background_part_and_defect() -> None:
    learn, test = sets.defects(0, "train", 2, 32), sets.defects(0, "test", 1, 32)
    assert learn.images.shape == (54, 3, 32, 32)
    assert len(test.images) == 27
    shares = learn.masks.flatten().bincount(minlength=3) / learn.masks.numel()
    assert (shares > 0.01).all()
    assert (learn.masks == sets.DEFECT).flatten(1).any(1).float().mean() > 0.8
    assert not {*map(bytes, learn.images.numpy())} & {*map(bytes, test.images.numpy())}


def test_boxes_fit_the_parts_on_a_plate() -> None:
    plates = sets.plates(0, "train", 12)
    bare = sets._tables("plates/train/0", 12, 96)
    assert {len(b) for b in plates.boxes} <= {1, 2, 3, 4}
    for image, table, boxes, labels in zip(plates.images, bare, plates.boxes, plates.labels, strict=True):
        assert len(boxes) == len(labels) > 0
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert boxes.min() >= 0
        assert boxes.max() <= 96
        covered = torch.zeros(96, 96, dtype=torch.bool)
        for left, top, right, bottom in boxes.int().tolist():
            assert not covered[top:bottom, left:right].any(), "no two parts touch"
            covered[top:bottom, left:right] = True
            changed = (image != table).any(0)[top:bottom, left:right]  # nearly every pixel of the part
            assert changed[0].any()
            assert changed[-1].any()
            assert changed[:, 0].any()
            assert changed[:, -1].any()
        assert torch.equal(image[:, ~covered], table[:, ~covered]), "a box holds all of its part"


def test_plates_and_their_seeds() -> None:
    one, two = sets.plates(0, "train", 4), sets.plates(1, "train", 4)
    assert not torch.equal(one.images, two.images)
    sets.plates.__wrapped__.cache_clear()
    again = sets.plates(0, "train", 4)
    assert torch.equal(one.images, again.images)
    assert all(torch.equal(a, b) for a, b in zip(one.boxes, again.boxes, strict=True))


def test_clips_are_spread_over_their_motion_and_never_seen_before() -> None:
    learn, test = sets.clips(0, "train", 8), sets.clips(0, "test", 8)
    assert learn.frames.shape == (8, 4, 3, 64, 64)
    assert sorted(learn.labels.tolist()) == list(range(8))
    assert len(learn.classes) == 8
    assert not torch.equal(learn.frames, test.frames)
    whole = motion.clips(8, 2 * sets.FILMS, "test").frames
    assert torch.equal(learn.frames, whole[:, [0, 2, 5, 7]])


def test_tiles_of_a_photograph_share_no_pixel_between_the_two_sides() -> None:
    from skimage import data

    tiles = sets.photographs(32)
    assert tiles.images.shape == (16 * len(sets.PHOTOGRAPHS), 3, 32, 32)
    for seed in range(4):
        learn, test = sets.sides(len(tiles.images), seed)
        assert sorted([*learn.tolist(), *test.tolist()]) == list(range(len(tiles.images)))
        assert tiles.labels[learn].bincount().tolist() == [8] * len(sets.PHOTOGRAPHS)
    left, right = sets.sides(16, 0)[0].tolist(), sets.sides(16, 1)[0].tolist()
    assert left == [0, 1, 4, 5, 8, 9, 12, 13]
    assert right == [2, 3, 6, 7, 10, 11, 14, 15]
    assert sets.sides(16, 2)[0].tolist() == list(range(8))
    brick = torch.from_numpy(data.brick()).float()  # 512 x 512, so a tile is 128 x 128 and its mean the picture's there
    of_brick = tiles.images[tiles.labels == sets.PHOTOGRAPHS.index("brick")].float().mean((1, 2, 3))
    expected = brick.unfold(0, 128, 128).unfold(1, 128, 128).mean((2, 3)).flatten()
    torch.testing.assert_close(of_brick, expected, atol=1.0, rtol=0)


@pytest.mark.parametrize("data", [sets.digits, sets.faces])
def test_real_images_are_halved_by_class(data) -> None:
    whole = data()
    for seed in (0, 1):
        learn, test = sets.halves(whole.labels, seed)
        assert sorted([*learn.tolist(), *test.tolist()]) == list(range(len(whole.labels)))
        assert torch.equal(whole.labels[learn].bincount(), whole.labels[test].bincount())
    assert not torch.equal(sets.halves(whole.labels, 0)[0], learn)
    assert whole.images.amax() > 250
    assert len(whole.classes) == len(whole.labels.unique())
