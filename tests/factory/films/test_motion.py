"""Clips come from their seeds alone, move by exactly their flow, and never share a part between splits."""

import pytest
import torch
import torch.nn.functional as F

from gadkit.factory.films import mechanics, motion
from gadkit.factory.seeds import FIRST_TEST

COUNT = 24


@pytest.fixture(scope="module")
def clips() -> motion.Clips:
    return motion.clips(COUNT, seed=3)


def warped(frames: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """Frames (n, c, s, s) looked up where the flow leads: what each pixel will show one frame later."""
    side = torch.arange(frames.shape[-1]) + 0.5
    x, y = side + flow[:, 0], side[:, None] + flow[:, 1]
    grid = torch.stack([x, y], -1) / frames.shape[-1] * 2 - 1
    return F.grid_sample(frames, grid, mode="bicubic", padding_mode="border", align_corners=False)


def test_clips_have_the_promised_shapes(clips: motion.Clips) -> None:
    assert clips.frames.shape == (COUNT, 8, 3, 64, 64)
    assert clips.flow().shape == (COUNT, 7, 2, 64, 64)
    assert clips.cover.shape == (COUNT, 8, 64, 64)
    assert torch.equal(clips.actions, torch.arange(COUNT) % len(mechanics.ACTIONS))
    assert set(clips.columns()) == {"frames", "flow"}
    assert len(clips.parts.unique()) > 5
    assert torch.equal(clips.hits.isfinite().any(1), torch.isin(clips.actions, torch.tensor([4, 5, 6])))


def test_a_clip_does_not_depend_on_the_others_and_seeds_and_splits_differ(clips: motion.Clips) -> None:
    again = motion.clips(9, seed=3)
    assert (again.frames.int() - clips.frames[:9].int()).abs().max() <= 1  # rounding of vectorised arithmetic
    assert torch.allclose(again.places, clips.places[:9], atol=1e-3)
    for other in (motion.clips(4, seed=4), motion.clips(4, seed=3, split="test")):
        assert (other.frames.int() - clips.frames[:4].int()).abs().float().mean((1, 2, 3, 4)).min() > 2
        assert not set(other.seeds.tolist()) & set(clips.seeds.tolist())
    assert motion.clips(2, seed=65535).seeds.max() < FIRST_TEST <= motion.clips(2, split="test").seeds.min()


def test_the_flow_leads_every_pixel_of_the_part_to_itself(clips: motion.Clips) -> None:
    now, then = (clips.frames[:, s].flatten(0, 1).float() / 255 for s in (slice(0, -1), slice(1, None)))
    flow, cover = clips.flow().flatten(0, 1), clips.cover[:, :-1].flatten(0, 1)
    core = -F.max_pool2d(-cover[:, None].float(), 3, 1, 1) > 0.5  # without the rim, which mixes with the wall
    lands = torch.arange(64) + flow[:, 0], torch.arange(64)[:, None] + flow[:, 1]
    inside = core & ((lands[0] > 1) & (lands[0] < 62) & (lands[1] > 1) & (lands[1] < 62))[:, None]
    error = (warped(then, flow) - now).abs().mean(1, keepdim=True)[inside].mean()
    still = (then - now).abs().mean(1, keepdim=True)[inside].mean()
    assert error < 0.03  # interpolation, and noise of 0.015 in both frames
    assert error < 0.3 * still


def test_nothing_else_moves(clips: motion.Clips) -> None:
    change = (clips.frames[:, 1:].int() - clips.frames[:, :-1].int()).abs().float().mean(2)
    wall = ~(F.max_pool2d(clips.cover.float().flatten(0, 1)[:, None], 3, 1, 1).view_as(clips.cover) > 0.5)
    wall = wall[:, 1:] & wall[:, :-1]
    wall[..., int(0.8 * 64) :, :] = False  # on the table there is a shadow
    assert change[wall].mean() < 0.02 * 255
    assert (clips.flow().abs().sum(2)[~clips.cover[:, :-1]] == 0).all()


def test_flow_is_the_step_of_the_centre_and_the_turn_about_it(clips: motion.Clips) -> None:
    flow, step = clips.flow(), clips.places.diff(dim=1)
    slides = clips.actions == 0
    on_part = clips.cover[slides, :-1, None].expand(-1, -1, 2, -1, -1)
    told = step[slides][..., None, None].expand_as(flow[slides])
    assert torch.allclose(flow[slides][on_part], told[on_part], atol=1e-4)
    spins = clips.actions == 2
    fastest = flow[spins].square().sum(2).sqrt().amax((2, 3))
    rim = clips.radii[spins, None] * 2 * (clips.angles[spins].diff(dim=1).abs() / 2).sin()
    assert (fastest <= rim + 1e-3).all()
    assert (fastest > 0.9 * rim).all()


def test_the_cover_is_where_the_part_is_and_as_large_as_told(clips: motion.Clips) -> None:
    rows, columns = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    far = (columns - clips.places[..., 0, None, None]).square() + (rows - clips.places[..., 1, None, None]).square()
    far = (far.sqrt() - clips.radii[:, None, None, None])[clips.cover]
    assert far.max() < 1.0
    assert clips.cover.any(3).any(2).float().mean() > 0.95  # nearly always in sight


def test_parts_stand_on_the_table(clips: motion.Clips) -> None:
    lowest = torch.where(clips.cover.any(3), torch.arange(64), -1).amax(2) + 1  # (n, t)
    standing = torch.isin(clips.actions, torch.tensor([0, 1, 7]))
    assert (lowest[standing] - 64 * mechanics.TABLE).abs().max() < 1.5
    assert (lowest - 64 * mechanics.TABLE).max() < 1.5


def test_a_drifting_lamp_is_a_clock_and_a_steady_one_is_not() -> None:
    def brightening(drift: float) -> torch.Tensor:
        light = motion.clips(8, actions=("spin",), drift=drift).frames.float().mean((2, 3, 4))
        return (light[:, -1] - light[:, 0]) / light.mean(1)

    assert (brightening(0.1) > 0.03).all()
    assert brightening(0.0).abs().max() < 0.02


def test_colours_of_flow_tell_its_direction() -> None:
    flow = torch.zeros(1, 2, 2, 2)
    flow[0, :, 0, 0], flow[0, :, 0, 1] = torch.tensor([4.0, 0.0]), torch.tensor([-4.0, 0.0])
    colours = motion.flow_colours(flow, fastest=4.0)[0].permute(1, 2, 0)
    assert colours[0, 0].tolist() == [255, 0, 0]
    assert colours[0, 1].tolist() == [0, 255, 255]
    assert colours[1, 1].tolist() == [255, 255, 255]


def test_other_sizes_and_lengths_work() -> None:
    few = motion.clips(4, frames=5, size=96, parts=("nut",), actions=("fall",))
    assert few.frames.shape == (4, 5, 3, 96, 96)
    assert few.flow().shape == (4, 4, 2, 96, 96)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count"),
        ({"count": 4, "split": "seen"}, "split: expected one of train, test, got 'seen'"),
        ({"count": 4, "actions": ("fly",)}, "actions among slide"),
        ({"count": 4, "actions": ()}, "actions among slide"),
        ({"count": 4, "frames": 1}, "frames >= 2"),
        ({"count": 4, "size": 63}, "even size"),
        ({"count": 4, "parts": ("teapot",)}, "teapot"),
        ({"count": 4, "seed": 1 << 16}, "seed"),
    ],
)
def test_bad_arguments_are_told(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        motion.clips(**arguments)
