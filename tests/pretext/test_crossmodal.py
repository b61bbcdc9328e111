"""Two senses: what belongs together does, and what gives it away without sense is there or closed."""

import math

import pytest
import torch
from films import everything, landing

from gadkit.factory.films import mechanics, motion, sound
from gadkit.pretext.crossmodal import RGBAndFlow, SightAndSound, scaled
from gadkit.pretext.video import read_gain, read_place


def matched(scores: torch.Tensor) -> float:
    """How often a row's own column beats another one: 0.5 is chance."""
    own = scores.diagonal()[:, None]
    better = (own > scores).float() + 0.5 * (own == scores).float()
    return float(better[~torch.eye(len(scores), dtype=torch.bool)].mean())


def test_film_and_sound_are_of_one_moment_and_the_other_sound_of_another(small) -> None:
    method = SightAndSound(small(), size=64, level=False)
    clock = torch.arange(8.0)[:, None, None, None].expand(8, 3, 64, 64)
    data = {
        "frames": (clock * 10).to(torch.uint8).expand(200, -1, -1, -1, -1),
        "sound": torch.arange(64.0).expand(200, 1, 64, 64) // 8,  # each column has its frame's number
    }
    film, own, other = method.views(data)
    frame = ((film * 0.27 + 0.45) * 255 / 10)[:, :, 0, 0, 0].round()  # (b, shown)
    own_sound, elsewhere = ((x * 3 - 12)[:, 0, 0].unflatten(1, (6, 8)) for x in (own, other))
    assert torch.allclose(own_sound.mean(2), frame)
    assert torch.equal(own_sound.std(2), torch.zeros(200, 6))
    gap = (elsewhere[:, 0, 0] - own_sound[:, 0, 0]).abs()
    assert gap.min() == 2
    for start in range(3):  # a moment is as often right as wrong: sound alone does not show it
        right, wrong = ((x[:, 0, 0].round() == start).float().mean() for x in (own_sound, elsewhere))
        assert right == pytest.approx(float(wrong), abs=0.12)


def test_a_network_that_cannot_tell_pays_log_2(small) -> None:
    for negatives in ("clips", "delays", "both"):
        method = SightAndSound(small(), negatives=negatives, size=32)
        torch.nn.init.zeros_(method.scale)
        assert method.loss(method.views(landing())).item() == pytest.approx(math.log(2), rel=1e-5)


def test_a_shared_gain_matches_sounds_to_pictures_until_the_level_is_taken_away(small) -> None:
    clips = motion.clips(18, actions=mechanics.AUDIBLE)
    data = {"frames": clips.frames, "sound": sound.spectrograms(clips, leak=60.0)}
    told = {}
    for level in (False, True):
        film, own, _ = SightAndSound(small(), size=64, level=level).views(data)
        told[level] = matched(read_gain(film, own))
        if level:
            assert own.mean((1, 2, 3)).abs().max() < 1e-3
    assert told[False] > 0.75
    assert told[True] < 0.65
    honest = scaled(sound.spectrograms(clips).float(), level=True)
    assert torch.allclose(scaled(data["sound"].float(), level=True), honest, atol=0.1)  # nothing of the leak is left


def test_film_and_flow_show_the_same_place_unless_they_are_cut_apart(small) -> None:
    told = {}
    for apart in (False, True):
        torch.manual_seed(0)
        film, flow = RGBAndFlow(small(), size=48, apart=apart).views(everything())
        assert film.shape == (16, 8, 3, 48, 48)
        assert flow.shape == (16, 7, 2, 48, 48)
        told[apart] = matched(read_place(film, flow * 4.0))
    assert told[False] > 0.9
    assert told[True] < told[False] - 0.1


def test_flow_points_where_the_film_goes(small) -> None:
    """Mirrored or not: the centre of change moves as the flow says."""
    data = motion.clips(12, actions=("slide",)).columns()
    film, flow = RGBAndFlow(small(), size=64, apart=False).views(data)
    flow = flow * 4.0
    side = torch.arange(64.0)
    moving = flow.abs().sum(2) > 0.1
    centre = (moving * side).sum((2, 3)) / moving.sum((2, 3))  # (b, u), where flow is
    told = flow[:, :, 0].sum((2, 3)) / moving.sum((2, 3))
    assert (centre.diff(dim=1)[:, 3] * told[:, 3] > 0).all()
    change = film.diff(dim=1).abs().sum(2)
    assert ((change * moving).sum((1, 2, 3)) > 0.3 * change.sum((1, 2, 3))).all()
    assert len(set((told[:, 0] > 0).tolist())) == 2


def test_unrelated_streams_cost_log_batch_and_twins_less(small) -> None:
    method = RGBAndFlow(small(), size=32)
    views = method.views(everything())
    method.project = lambda film, flow: (torch.ones(16, 4), torch.ones(16, 4))
    assert method.loss(views).item() == pytest.approx(method.collapse(16)) == math.log(16)
    method.project = lambda film, flow: (torch.eye(16), torch.eye(16))
    assert method.loss(views).item() == pytest.approx(math.log(1 + 15 * math.exp(-5)), rel=1e-4)


def test_bad_arguments_are_told(small, untyped) -> None:
    with pytest.raises(ValueError, match="negatives: expected one of clips, delays, both"):
        SightAndSound(small(), negatives="none")
    with pytest.raises(ValueError, match="shown"):
        SightAndSound(small(), shown=0)
    with pytest.raises(ValueError, match="sound: expected spectrograms"):
        SightAndSound(small(), size=32).views(everything())
    with pytest.raises(ValueError, match="at least 2 of 10 frames"):
        SightAndSound(small(), size=32, shown=8).views(landing())
    with pytest.raises(ValueError, match="temperature: expected a number above 0"):
        RGBAndFlow(small(), temperature=0.0)
    with pytest.raises(ValueError, match="flow from each to the next"):
        RGBAndFlow(small(), size=32).views(everything() | {"flow": everything()["flow"][:, :3]})
    with pytest.raises(ValueError, match="columns flow, got frames, sound"):
        RGBAndFlow(small(), size=32).views(landing())
