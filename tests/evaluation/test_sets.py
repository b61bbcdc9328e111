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


def test_seeds_and_draws_are_the_same_for_ever() -> None:
    """Whatever was measured before was measured on these."""
    assert sets.seeds("parts/train/gear", 3).tolist() == [8284066566144, 8284066566145, 8284066566146]
    draw = sets.generator("halves/0")
    assert torch.randint(1000, (4,), generator=draw).tolist() == [483, 303, 756, 540]


def asked(monkeypatch: pytest.MonkeyPatch, make: Callable, *arguments: object) -> tuple[object, list]:
    """What a set is, and the categories, kinds, severities and sizes that the factory is asked for, with its answer."""
    render, calls = factory.render, []

    def noted(category: str, seeds: torch.Tensor, variants: torch.Tensor, *more: object, **options: object):
        shots = render(category, seeds, variants, *more, **options)
        calls.append((category, more, options, shots))
        return shots

    monkeypatch.setattr(factory, "render", noted)
    return inspect.unwrap(make)(*arguments), calls


def test_defects_take_turns_and_are_from_half_as_severe_to_nearly_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factory, "split", lambda name: ("gear", "felt"))
    found, calls = asked(monkeypatch, sets.defects, 0, "test", 3, 16)
    for category, some in (("gear", calls[:3]), ("felt", calls[3:])):
        kinds = factory.CATEGORIES[category].defects
        turn = [kinds.index(more[0]) for _, more, *_ in some]
        assert turn == [(turn[0] + j) % len(kinds) for j in range(3)]
        assert [more[1] for _, more, *_ in some] == pytest.approx([1 / 2, 2 / 3, 5 / 6])
    for mask, (*_, shots) in zip(found.masks, calls, strict=True):
        assert torch.equal(mask == 2, shots.masks[0])
        assert torch.equal(mask == 0, ~shots.masks[0] & ~shots.cover[0])


def test_plates_are_drawn_alike_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """One to four parts, each in a quarter of its own, of two thirds, five sixths or all of a quarter's side."""
    plates, calls = asked(monkeypatch, sets.plates, 0, "train", 8, 48)
    expected = [[1, 2], [3, 4, 5], [2, 5], [1, 4], [0, 0, 2, 3], [4, 4], [4], [0, 2]]
    assert [row.tolist() for row in plates.labels] == expected
    assert plates.boxes[0].tolist() == [[10, 31, 21, 43], [29, 4, 41, 17]]
    assert plates.boxes[1].tolist() == [[27, 1, 44, 18], [30, 30, 43, 41], [4, 5, 15, 19]]
    assert {options["size"] for category, _, options, _ in calls if category in sets.ON_PLATES} == {16, 20, 24}
    assert {options["size"] for category, _, options, _ in calls if category in sets.PLATES} == {48}
    with pytest.raises(ValueError, match="size: expected a whole number from 48, got int 47"):
        sets.plates(0, "train", 1, 47)


def test_plates_are_of_four_textures_in_turn() -> None:
    name, first, second = "plates/test/5", torch.arange(1), torch.arange(2)
    tables = sets._tables(name, 5, 16)
    assert tables.shape == (5, 3, 16, 16)
    for i, (texture, count) in enumerate([("felt", second), ("marble", first), ("brushed_metal", first)]):
        each = factory.render(
            texture,
            sets.seeds(f"{name}/{texture}", 2)[count],
            sets.seeds(f"{name}/{texture}/products", 2)[count],
            size=16,
        )
        assert torch.equal(each.images, tables[[i, i + 4][: len(count)]])
    assert len(sets._tables(name, 4, 16)) == 4


def test_a_clip_has_two_frames_at_least() -> None:
    assert sets.clips(3, "test", 1, 2).frames.shape[1] == 2
    with pytest.raises(ValueError, match="frames: expected a whole number from 2, got int 1"):
        sets.clips(0, "train", 2, 1)


def test_digits_are_the_first_of_each_class_in_bytes() -> None:
    from sklearn.datasets import load_digits

    few, grey = sets.digits(2), load_digits().images
    assert few.labels.tolist() == [c for c in range(10) for _ in range(2)]
    assert few.images.shape == (20, 3, 8, 8)
    for row, number in ((0, 0), (1, 10), (2, 1)):  # the first ten are 0 to 9 in order
        expected = torch.from_numpy(grey[number] * 255 / 16).round()
        assert torch.equal(few.images[row].double(), expected.expand(3, -1, -1))
    with pytest.raises(ValueError, match="per_class: expected a whole number from 1"):
        sets.digits(0)


def test_the_first_hundred_are_faces() -> None:
    faces = sets.faces()
    assert faces.images.shape == (200, 3, 25, 25)
    assert faces.labels.tolist() == [0] * 100 + [1] * 100
    assert faces.classes == ("face", "other")


@pytest.mark.parametrize(
    ("name", "side", "row", "column", "top", "left"),
    [
        ("coffee", 100, 1, 1, 100, 150 + 25),  # 400 x 600: cells of 100 x 150
        ("coffee", 100, 3, 2, 300, 300 + 25),
        ("cell", 137, 1, 2, 165 + 14, 2 * 137),  # 660 x 550: cells of 165 x 137
        ("page", 47, 2, 3, 94, 3 * 96 + 24),  # 191 x 384: cells of 47 x 96
    ],
)
def test_a_tile_is_the_middle_of_its_cell(name: str, side: int, row: int, column: int, top: int, left: int) -> None:
    from skimage import data

    picture = torch.from_numpy(getattr(data, name)())
    cut = picture[top : top + side, left : left + side]
    expected = cut.permute(2, 0, 1)[:3] if cut.ndim == 3 else cut.expand(3, -1, -1)
    assert torch.equal(list(sets._tiles(name, side))[4 * row + column], expected)


def test_of_an_odd_number_the_larger_half_is_tested_on() -> None:
    learn, test = sets.halves(torch.tensor([0, 0, 0, 1, 1]), 0)
    assert sorted(learn.tolist() + test.tolist()) == [0, 1, 2, 3, 4]
    assert (len(learn), len(test)) == (2, 3)
    assert sorted((learn > 2).tolist()) == [False, True]


def test_sides_go_round_in_four_seeds() -> None:
    assert sets.sides(16, 3)[0].tolist() == [8, 9, 10, 11, 12, 13, 14, 15]
    for seed in range(4):
        learn, test = sets.sides(32, seed)
        assert torch.equal(sets.sides(32, seed + 4)[0], learn)
        assert learn.tolist() == [*learn[:8].tolist(), *(learn[:8] + 16).tolist()], "each photograph by itself"
        assert len(test) == 16
