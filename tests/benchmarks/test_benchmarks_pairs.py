"""Both loops learn from the same pairs, from the same loss, and their ratio is that of their times."""

import pytest
import torch
from torch import nn

from benchmarks import pairs
from gadkit.backbones.tiny import TinyConfig
from gadkit.multimodal.captioned import captioned

SMALL = TinyConfig(width=32, layers=1, text_width=32, text_layers=1, embed=16)


def distance(one: nn.Module, two: nn.Module) -> float:
    """How far two networks' learnt weights are apart."""
    held = dict(two.named_parameters())
    return max(float((p - held[n]).detach().abs().max()) for n, p in one.named_parameters() if p.requires_grad)


def test_both_loops_go_the_same_way() -> None:
    shown = captioned({"seen": 16}, wordings=1)
    before = pairs.pairs.Pairs(pairs.network(SMALL), "softmax").clip
    one, two = (side(SMALL, shown, 8)() for side in (pairs.ours, pairs.theirs))
    moved = distance(one, before)
    assert moved > 1e-4
    assert distance(one, two) < 10 * moved, "schedules differ, as does the decay of gains and biases"


def test_rows_of_pairs() -> None:
    table = {what: value for what, value, _ in pairs.rows(8, 2, {"no eyes": SMALL}, rounds=1)}
    ratio = table["no eyes, gadkit"] / table["no eyes, open_clip"]
    assert table["no eyes, gadkit / open_clip"] == pytest.approx(ratio)


def test_a_step_has_the_loss_that_open_clip_has() -> None:
    from open_clip.loss import ClipLoss

    shown = captioned({"seen": 8}, wordings=1)
    clip = pairs.network(SMALL)
    method = pairs.pairs.Pairs(clip, "softmax").eval()
    data = pairs.pairs.prepare(clip, shown)
    with torch.no_grad():
        images, texts = method.encode_maps(data.maps), method.encode_tokens(data.tokens[:, 0])
        unit = [x / x.norm(dim=1, keepdim=True) for x in (images, texts)]
        wanted = ClipLoss()(*unit, clip.logit_scale.exp())
        assert method(data.maps, data.tokens[:, 0]).item() == pytest.approx(wanted.item(), rel=0.02), (
            "in bfloat16 where there is"
        )
