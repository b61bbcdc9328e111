"""The contestants of WinCLIP's benchmark give the same answer, or their times would say nothing."""

from collections.abc import Callable

import pytest
import torch

from benchmarks.winclip import Plain, _contest
from gadkit.anomaly.detectors import WinCLIP


@pytest.mark.parametrize("shots", [0, 2])
def test_plain_and_fast_agree(tiny_clip: Callable, images: torch.Tensor, shots: int) -> None:
    clip = tiny_clip(0, image_size=64, width=64, layers=2)
    fast = WinCLIP(clip, "metal nut", patch_norm=True).fit(images[2 : 2 + shots] if shots else None)
    plain = Plain(clip, fast)
    torch.testing.assert_close(plain.encode_text(), fast.text_vectors_, rtol=0, atol=1e-5)
    plain.references = plain.see(images[2:])[1:] if shots else None
    rows = list(_contest("here", {"plain": plain.score, "gadkit": fast.score}, images[:2]))
    assert [what for what, _, _ in rows] == [
        "here, plain",
        "here, gadkit",
        "here, gadkit against plain",
        "here, gadkit: largest change of a score",
    ]
    values = [value for _, value, _ in rows]
    assert values[2] == pytest.approx(values[0] / values[1])
    assert values[3] < 1e-5
