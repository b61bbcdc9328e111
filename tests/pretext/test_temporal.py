"""Order in time: tuples mean what they say, palindromes are chance, and a clock in the picture answers for the eye."""

import itertools
import math

import pytest
import torch
from films import everything

from gadkit.factory.films import motion
from gadkit.pretext.temporal import FrameOrder, arrows, shuffled
from gadkit.pretext.video import read_lamp


def test_tuples_in_order_have_their_middle_in_the_middle_and_ends_do_not_tell() -> None:
    rows, answer = shuffled(4000, 8)
    first, middle, last = rows.unbind(1)
    between = (middle - first) * (last - middle) > 0
    assert torch.equal(between, answer.bool())
    assert 0.45 < answer.float().mean() < 0.55
    assert 0.45 < (first < last).float().mean() < 0.55
    for right in (0, 1):  # the same ends, either way
        span = (first - last).abs()[answer == right].float()
        assert span.mean() == pytest.approx(float((first - last).abs().float().mean()), abs=0.08)
    assert set(rows.flatten().tolist()) == set(range(8))


def test_arrows_point_forwards_or_backwards() -> None:
    rows, answer = arrows(2000, 8)
    step = rows.diff(dim=1)
    assert torch.equal((step > 0).all(1), answer.bool())
    assert torch.equal((step < 0).all(1), ~answer.bool())
    assert 0.45 < answer.float().mean() < 0.55


@pytest.mark.parametrize("clip", ["palindrome", "still"])
def test_which_way_a_palindrome_runs_is_chance_for_every_network(clip: str, small) -> None:
    """Every question has a twin with the same pictures and the other answer: no network gets more than half of both."""
    frames = everything()["frames"][:2]
    half = frames[:, :4] if clip == "palindrome" else frames[:, :1].expand(-1, 4, -1, -1, -1)
    frames = torch.cat([half, half.flip(1)], 1)
    method = FrameOrder(small(), question="arrow", size=32).eval()
    torch.nn.init.normal_(method.head.weight, std=5.0)  # a network with opinions
    (seen, *_), forwards = method.views({"frames": frames}), torch.tensor([*itertools.combinations(range(8), 3)])
    rows = torch.cat([forwards, forwards.flip(1)]).expand(2, -1, -1)
    answer = torch.cat([torch.ones(56), torch.zeros(56)]).expand(2, -1)
    with torch.no_grad():
        logits = method.logits(seen, rows)
        assert method.loss([seen, rows, answer]) >= math.log(2) - 1e-5
    assert logits.std() > 0.01
    right = (torch.sort(logits[:, :56], 1).values - torch.sort(logits[:, 56:], 1).values).abs().max()
    assert right < 1e-4  # forwards and backwards get the same answers


def test_the_order_of_a_still_film_is_chance(small) -> None:
    method = FrameOrder(small(), size=32).eval()
    torch.nn.init.normal_(method.head.weight, std=5.0)
    views = method.views({"frames": everything()["frames"][:4, :1].expand(-1, 8, -1, -1, -1)})
    with torch.no_grad():
        logits = method.logits(*views[:2])
    assert (logits - logits[:, :1]).abs().max() < 1e-4


@pytest.mark.parametrize("question", ["order", "arrow"])
def test_a_drifting_lamp_answers_where_nothing_else_can_and_even_frames_silence_it(question: str, small) -> None:
    data = {"frames": motion.clips(8, actions=("spin",), drift=0.1).frames}
    told = {}
    for even in (False, True):
        method = FrameOrder(small(), question=question, even=even)
        frames, rows, answer = method.views(data)
        first, middle, last = (frames[torch.arange(8)[:, None], rows[:, :, k]].flatten(0, 1) for k in range(3))
        up, on, whole = (read_lamp(torch.stack(pair, 1)) for pair in ((first, middle), (middle, last), (first, last)))
        guess = up * on if question == "order" else whole  # the middle is between the ends; the last is brighter
        told[even] = ((guess > 0) == (answer.flatten() > 0.5)).float().mean()
        if even:
            assert not guess.any()
    assert told[False] > 0.85
    assert 0.3 < told[True] < 0.7


def test_bad_arguments_are_told(small) -> None:
    with pytest.raises(ValueError, match="question: expected one of order, arrow, got 'where'"):
        FrameOrder(small(), question="where")
    with pytest.raises(ValueError, match="tuples"):
        FrameOrder(small(), tuples=0)
    with pytest.raises(ValueError, match="at least 5 frames"):
        shuffled(2, 4)
    with pytest.raises(ValueError, match="at least 3 frames"):
        arrows(2, 2)
