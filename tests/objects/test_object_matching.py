"""Matching a whole batch of masks finds what the library finds image by image."""

import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import Mask2FormerHungarianMatcher

from gadkit.objects.training.matching import Matcher


def test_a_batch_is_matched_as_the_library_matches_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    points = torch.rand(1, 64, 2, generator=draw)
    monkeypatch.setattr(torch, "rand", lambda *_, **__: points)
    counts = (1, 3, 0, 6)
    masks = [(torch.empty(n, 32, 32).uniform_(generator=draw) > 0.5).float() for n in counts]
    labels = [torch.randint(2, (n,), generator=draw) for n in counts]
    logits = 3 * torch.randn(4, 8, 12, 12, generator=draw)
    classes = torch.randn(4, 8, 3, generator=draw)
    found = Matcher(2.0, 5.0, 5.0, 64)(logits, classes, masks, labels)
    assert [len(queries) for queries, _ in found] == [*counts]
    library = Mask2FormerHungarianMatcher(2.0, 5.0, 5.0, 64)
    for i in (0, 1, 3):
        (expected,) = library(logits[i : i + 1], classes[i : i + 1], masks[i : i + 1], labels[i : i + 1])
        ours, theirs = ({*zip(a.tolist(), b.tolist(), strict=True)} for a, b in (found[i], expected))
        assert ours == theirs
