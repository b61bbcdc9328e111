"""The next frame: what a perfect answer is, and why copying is no answer to the better question."""

import pytest
import torch
from films import everything

from gadkit.data.views import denormalise
from gadkit.pretext.base import unexplained_variance
from gadkit.pretext.prediction import NextFrame


class Oracle(NextFrame):
    """Knows what comes, or copies."""

    copies = False

    def answer(self, frames):
        before, after = frames[:, self.shown - 1 : -1], frames[:, self.shown :]
        if self.target == "change":
            return torch.zeros_like(after) if self.copies else after - before
        return before if self.copies else after


@pytest.mark.parametrize("target", ["change", "frame"])
def test_the_truth_leaves_nothing_unexplained_and_is_what_is_shown(target: str, small) -> None:
    method = Oracle(small(), target=target, size=32)
    views = method.views(everything())
    assert method.loss(views) == 0
    shown = method.predict(views)
    assert shown.shape == (16, 5, 3, 32, 32)
    assert torch.allclose(shown, denormalise(views[0][:, 3:]), atol=1e-6)


def test_a_copy_of_the_last_frame_explains_most_of_the_next_and_none_of_the_change(small) -> None:
    method = Oracle(small(), target="frame", size=64)
    method.copies = True
    views = method.views(everything())
    assert method.loss(views) < 0.2
    method.target = "change"
    assert method.loss(views) == pytest.approx(1, abs=0.02)


def test_predictions_come_from_the_frames_before_and_from_no_other(small) -> None:
    method = NextFrame(small(), shown=2, size=32).eval()
    torch.nn.init.normal_(method.draw.weight)
    (frames,) = method.views(everything())
    later = frames.clone()
    later[:, 5] += torch.randn_like(later[:, 5])
    with torch.no_grad():
        change = (method.answer(later) - method.answer(frames)).abs().amax((0, 2, 3, 4))  # of frames 2 to 7
    assert (change[:4] < 1e-5).all()
    assert (change[4:] > 1e-3).all()


def test_a_new_network_expects_no_change(small) -> None:
    method = NextFrame(small(), size=64)
    views = method.views(everything())
    with torch.no_grad():
        before, after = views[0][:, 2:-1], views[0][:, 3:]
        assert method.loss(views) == pytest.approx(1, abs=0.05)
        assert unexplained_variance(method.answer(views[0]) + before, after) < 0.2


def test_bad_arguments_are_told(small) -> None:
    with pytest.raises(ValueError, match="target: expected one of change, frame, got 'all'"):
        NextFrame(small(), target="all")
    with pytest.raises(ValueError, match="shown"):
        NextFrame(small(), shown=0)
    with pytest.raises(ValueError, match="at least 4 frames"):
        NextFrame(small(), size=32).views({"frames": everything()["frames"][:, :3]})
