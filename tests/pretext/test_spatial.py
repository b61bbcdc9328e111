"""Rotation, jigsaw and relative position: exact turns, far-apart permutations, tiles with gaps, closed shortcuts."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gadkit.pretext.shortcuts import lens, match_edges, project_colour, read_border, read_lens, standardise
from gadkit.pretext.spatial import Jigsaw, RelativePosition, Rotation, cut, permutation_set, rotate

# -------------------------------------------------------------------------------------------------- rotation


def test_the_four_rotations_differ_and_four_quarters_are_none(parts) -> None:
    images = parts[:4].float()
    turned = [rotate(images, torch.full((4,), k)) for k in range(4)]
    for a, b in itertools.combinations(turned, 2):
        assert (a != b).flatten(1).any(1).all()
    again = images
    for _ in range(4):
        again = rotate(again, torch.ones(4, dtype=torch.long))
    assert torch.equal(again, images)
    assert torch.equal(turned[2], images.flip(2, 3))


def test_each_photograph_is_shown_at_different_turns_with_their_answers(parts, small) -> None:
    method = Rotation(small(), turns=4)
    views, quarters = method.views({"images": parts[:48:8]})
    assert views.shape == (24, 3, 64, 64)
    for i in range(6):
        own = torch.arange(4) * 6 + i
        assert sorted(quarters[own].tolist()) == [0, 1, 2, 3]
        upright = [torch.rot90(views[j], -int(quarters[j]), (1, 2)) for j in own]
        assert all(torch.equal(upright[0], other) for other in upright)


def test_resampling_about_a_pixel_loses_lines_and_nothing_else(parts) -> None:
    images = parts[:1, :, :64, :64].float().expand(4, -1, -1, -1)
    turned = rotate(images, torch.arange(4), "resampling")
    assert torch.equal(turned[0], images[0])
    for k, (row, column) in {1: (1, 0), 2: (1, 1), 3: (0, 1)}.items():
        exact = torch.rot90(images[k], k, (1, 2))
        assert torch.equal(turned[k][:, row:, column:], exact[:, : 64 - row, : 64 - column])
        assert (turned[k][:, :row] == 0).all()
        assert (turned[k][:, :, :column] == 0).all()


def test_a_glance_at_the_border_tells_resampled_turns_and_not_exact_ones(parts, small) -> None:
    views, quarters = Rotation(small(), by="resampling").views({"images": parts})
    assert (read_border(views) == quarters).float().mean() == 1.0
    views, quarters = Rotation(small()).views({"images": parts})
    assert (read_border(views) == quarters).float().mean() < 0.35  # chance is a quarter


def test_a_network_takes_the_shortcut_where_there_is_one(parts, small, learn) -> None:
    _, open_ = learn(Rotation(small(), turns=2, by="resampling", size=32), parts)
    _, closed = learn(Rotation(small(), turns=2, size=32), parts)
    assert open_ + 0.4 < closed


# -------------------------------------------------------------------------------------------------- permutations


def hamming(a, b) -> int:
    """In how many places two sequences differ."""
    return sum(x != y for x, y in zip(a, b, strict=True))


def test_permutations_are_chosen_by_max_min_hamming_distance() -> None:
    everything = list(itertools.permutations(range(4)))
    chosen = [tuple(p) for p in permutation_set(4, 12).tolist()]
    assert chosen[0] == (0, 1, 2, 3)
    for i in range(1, 12):  # each next one is as far from its nearest predecessor as any permutation is
        best = max(min(hamming(p, c) for c in chosen[:i]) for p in everything)
        assert min(hamming(chosen[i], c) for c in chosen[:i]) == best


def test_four_permutations_of_four_can_differ_everywhere() -> None:
    chosen = permutation_set(4, 4).tolist()
    assert all(hamming(a, b) == 4 for a, b in itertools.combinations(chosen, 2))


@given(st.integers(2, 5), st.integers(2, 120), st.integers(0, 5))
def test_permutations_are_permutations_and_all_differ(n: int, count: int, seed: int) -> None:
    count = min(count, math.factorial(n))
    chosen = permutation_set(n, count, torch.Generator().manual_seed(seed))
    assert torch.equal(chosen.sort(1).values, torch.arange(n).expand(count, n))
    assert len(chosen.unique(dim=0)) == count


def test_sixty_four_permutations_of_nine_tiles_differ_in_at_least_seven_places() -> None:
    chosen = permutation_set(9, 64)
    assert torch.equal(chosen, permutation_set(9, 64))
    differ = (chosen[:, None] != chosen).sum(2) + 9 * torch.eye(64, dtype=torch.long)
    assert differ.min() >= 7


# -------------------------------------------------------------------------------------------------- tiles


def coordinates(side: int, count: int = 40) -> torch.Tensor:
    """Images whose channels hold a pixel's row, its column and its row again."""
    at = torch.arange(side).float()
    return torch.stack([at[:, None].expand(side, side), at.expand(side, side), at[:, None].expand(side, side)]).expand(
        count, -1, -1, -1
    )


def test_tiles_lie_at_random_in_their_cells_and_never_touch_for_certain(generator) -> None:
    tiles = cut(coordinates(96), 3, 24, 8, generator=generator)  # (40, 9, 3, 24, 24)
    row, column = tiles[:, :, 0, :, 0], tiles[:, :, 1, 0]  # (40, 9, 24)
    assert ((row.diff(dim=2) == 1) & (column.diff(dim=2) == 1)).all()  # a tile is a piece of the image, not resampled
    cell = torch.arange(9)
    for start, first in ((row[..., 0], cell // 3 * 32), (column[..., 0], cell % 3 * 32)):
        jitter = start - first
        assert jitter.min() == 0
        assert jitter.max() == 8
        assert len(jitter.unique()) == 9
    between = column[:, 1::3, 0] - column[:, 0::3, -1] - 1  # pixels between neighbours
    assert between.min() >= 0
    assert between.max() <= 16
    assert 6 < between.mean() < 10


def test_without_a_gap_the_tiles_make_up_the_image() -> None:
    image = coordinates(72, 1)
    tiles = cut(image, 3, 24, 0)
    whole = tiles.view(1, 3, 3, 3, 24, 24).permute(0, 3, 1, 4, 2, 5).reshape(1, 3, 72, 72)
    assert torch.equal(whole, image)


def test_channels_are_shifted_by_themselves_and_stay_in_their_cell(generator) -> None:
    tiles = cut(coordinates(96), 3, 24, 8, 2, generator)
    apart = tiles[:, :, 0, 0, 0] - tiles[:, :, 2, 0, 0]  # both hold rows
    assert apart.abs().max() == 4
    assert (apart == 0).float().mean() < 0.5
    assert torch.equal(tiles[:, :, 0, 0, 0] // 32, (torch.arange(9) // 3).float().expand(40, -1))


def test_images_that_do_not_divide_into_cells_are_refused() -> None:
    with pytest.raises(ValueError, match="96 pixels"):
        cut(torch.zeros(1, 3, 90, 90))


def test_a_jigsaw_is_shuffled_as_its_answer_says(parts, small) -> None:
    method = Jigsaw(small(), permutations=6, even=False, colour="keep")
    torch.manual_seed(3)
    shuffled, which = method.views({"images": parts[:10]})
    torch.manual_seed(3)
    tiles = method.tiles(parts[:10])
    for i in range(10):
        assert torch.equal(shuffled[i], tiles[i, method.permutations[which[i]]])


def test_seams_solve_a_puzzle_without_gaps_and_a_gap_and_even_tiles_stop_that(parts, small) -> None:
    rates = {}
    for label, options in {
        "open": {"gap": 0, "even": False, "colour": "keep"},
        "gap": {"gap": 8, "even": False, "colour": "keep"},
        "closed": {"gap": 8, "even": True, "colour": "shift"},
    }.items():
        method = Jigsaw(small(), permutations=64, **options)
        tiles, which = method.views({"images": parts})
        rates[label] = (match_edges(tiles, method.permutations) == which).float().mean().item()
    assert rates["open"] > 0.9 > 0.6 > rates["gap"] > rates["closed"]
    assert rates["closed"] < 0.1


# -------------------------------------------------------------------------------------------------- relative position


def by_lens(tiles: torch.Tensor) -> float:
    """How often fringes alone tell which of eight places a tile has; the lens pulls green towards the middle."""
    away = -read_lens(tiles)
    away = away - away[:, 4:5]
    away = torch.cat([away[:, :4], away[:, 5:]], 1)
    places = torch.tensor([(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if x or y]).float()
    guess = (away @ torch.nn.functional.normalize(places, dim=1).T).argmax(-1)
    return (guess == torch.arange(8)).float().mean().item()


def test_a_displacement_is_read_with_its_sign(parts) -> None:
    grey = parts[:, :, 30:62, 29:62].float().mean(1) / 255
    moved = torch.stack([grey[..., 1:], grey[..., :-1], grey[..., 1:]], 1)  # green a pixel to the right
    right, down = read_lens(moved[:, None])[:, 0].median(0).values
    assert 0.2 < right < 1.5
    assert abs(down) < 0.1


def test_turns_that_do_not_occur_are_not_made(parts) -> None:
    upright = parts[:2].float()
    assert torch.equal(rotate(upright, torch.tensor([0, 0]), "resampling"), upright)


def test_a_lens_tells_where_tiles_were_until_its_colours_go(parts, small) -> None:
    seen = {"images": parts}
    rates = {
        colour: by_lens(RelativePosition(small(), colour=colour, aberration=0.04, even=False).views(seen)[0])
        for colour in ("keep", "shift", "project", "drop")
    }
    no_lens = by_lens(RelativePosition(small(), colour="keep", even=False).views({"images": parts})[0])
    assert rates["keep"] > 0.4
    assert no_lens < 0.22
    assert max(rates["shift"], rates["project"], rates["drop"]) < 0.3


def test_a_network_takes_the_fringes_where_they_are_left(parts, small, learn) -> None:
    _, open_ = learn(RelativePosition(small(), colour="keep", aberration=0.06), parts, 30, 24)
    _, closed = learn(RelativePosition(small(), colour="project", aberration=0.06), parts, 30, 24)
    assert open_ < closed - 0.05


def test_the_lens_leaves_red_and_blue_alone_and_green_at_the_centre() -> None:
    image = coordinates(65, 2)
    seen = lens(image, 0.1)
    assert torch.equal(seen[:, ::2], image[:, ::2])
    assert torch.allclose(seen[:, 1, :, 32], image[:, 1, :, 32], atol=1e-3)
    assert torch.allclose(seen[:, 1, :, 41], torch.tensor(42.0), atol=1e-3)  # 9 from the axis shows 10 from it


def test_projection_takes_out_the_green_magenta_axis_and_leaves_grey(images) -> None:
    x = images.float() / 255
    once = project_colour(x)
    assert torch.allclose(project_colour(once), once, atol=1e-6)
    assert (2 * once[:, 1] - once[:, 0] - once[:, 2]).abs().max() < 1e-6
    grey = x.mean(1, keepdim=True).expand_as(x)
    assert torch.allclose(project_colour(grey), grey, atol=1e-6)


def test_standardised_tiles_forget_brightness_and_contrast(images) -> None:
    tiles = images[:, None, :, :48, :48].float() / 255
    assert torch.allclose(standardise(tiles), standardise(0.5 * tiles + 0.2), atol=0.1)
    assert standardise(torch.ones(2, 3, 4, 4)).abs().max() == 0
