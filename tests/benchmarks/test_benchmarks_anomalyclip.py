"""The contestants of AnomalyCLIP's benchmark give the same answer, or their times would say nothing."""

from collections.abc import Callable

import torch

from benchmarks.anomalyclip import Plain, change
from gadkit.anomaly.detectors.anomalyclip import AnomalyCLIP, untrained


def test_plain_and_fast_agree(tiny_clip: Callable, images: torch.Tensor) -> None:
    clip = tiny_clip(0, image_size=64, width=64, layers=3)
    heads = {name: 10 * value for name, value in untrained(clip, context=4, rows=2, tokens=2).items()}
    fast = AnomalyCLIP(clip, heads, blocks=2).fit()
    plain = Plain(clip, fast)
    torch.testing.assert_close(plain.encode_text(), fast.text_vectors_, rtol=0, atol=1e-5)
    square = images[:, :, :, :48]
    assert change(plain.score(square), fast.score(square)) < 1e-5
    assert change(plain.score(square[:1]), fast.score(square[1:2])) > 1e-4
