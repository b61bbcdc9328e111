"""BLIP-2's first stage: the three masks, and each loss beside a literal form."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gadkit.multimodal.blip2_network import Architecture, Network
from gadkit.multimodal.qformer import MASKS, Batch, Stage1, attention
from gadkit.multimodal.vocabulary import PAD, SPECIAL

SMALL = Architecture(
    32, 16, 32, 0, 1, queries=3, width=32, layers=2, head_width=16, context=12, embed=16, stem="patches",
    language_width=32, language_layers=1, language_context=40,
)  # fmt: skip
IDS = torch.tensor([[2, 9, 10, 3, 0], [2, 11, 12, 13, 3]])


@pytest.fixture(scope="module")
def stage() -> Stage1:
    """An untrained stage, without dropout."""
    torch.manual_seed(0)
    return Stage1(Network(SMALL, 20, 30).matching).eval()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", MASKS)
def test_masks_say_who_attends_to_what(kind: str) -> None:
    found = attention(kind, 3, IDS)
    assert found.shape == (2, 1, 8, 8)
    for b, row in enumerate(IDS.tolist()):
        for i in range(8):
            for j in range(8):
                there = j < 3 or row[j - 3] != PAD
                allowed = {
                    "unimodal": (i < 3) == (j < 3),
                    "bidirectional": True,
                    "causal": j < 3 or (i >= 3 and j <= i),
                }[kind]
                assert found[b, 0, i, j].item() == (allowed and there), (kind, b, i, j)


def test_queries_see_no_text_under_the_causal_mask(stage: Stage1, pictures: Tensor) -> None:
    """So one pass gives what contrast and writing need."""
    model = stage.matching
    with torch.no_grad():
        seen = model.vision_model(pixel_values=pictures).last_hidden_state
        queries, _ = stage.read("causal", stage.begun(IDS), seen)
        alone = model.qformer(query_embeds=model.query_tokens.expand(2, -1, -1), encoder_hidden_states=seen)
        both, _ = stage.read("bidirectional", IDS, seen)
    torch.testing.assert_close(queries, alone.last_hidden_state, atol=1e-5, rtol=0)
    assert not torch.allclose(queries, both, atol=1e-3)


def test_contrast_and_matching_are_the_classes(stage: Stage1, pictures: Tensor) -> None:
    model = stage.matching
    mask = (IDS != PAD).long()
    padded = torch.cat([torch.full((2, 3), 7), IDS], 1)  # the class cuts off as many ids as there are queries
    full = torch.cat([torch.ones(2, 3, dtype=torch.long), mask], 1)
    with torch.no_grad():
        seen = model.vision_model(pixel_values=pictures).last_hidden_state
        queries, _ = stage.read("causal", stage.begun(IDS), seen)
        found, logits = stage.cosines(queries, IDS), stage.match(IDS, seen)
        theirs = model(pixel_values=pictures, input_ids=padded, attention_mask=full)
        pairs = model(pixel_values=pictures, input_ids=padded, attention_mask=full, use_image_text_matching_head=True)
    torch.testing.assert_close(found, theirs.logits_per_image, atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, pairs.logits_per_image, atol=1e-5, rtol=0)


def test_contrast_takes_the_best_query(stage: Stage1, pictures: Tensor) -> None:
    queries = torch.randn(2, 3, 32)
    model = stage.matching
    with torch.no_grad():
        found = stage.cosines(queries, IDS)
        text = model.qformer(
            query_embeds=model.embeddings(input_ids=IDS), query_length=0, attention_mask=(IDS != PAD).long()
        ).last_hidden_state[:, 0]
        for b in range(2):
            for t in range(2):
                word = F.normalize(model.text_projection(text[t]), dim=0)
                best = max(F.normalize(model.vision_projection(q), dim=0) @ word for q in queries[b])
                assert found[b, t].item() == pytest.approx(best.item(), abs=1e-5)


def test_writing_is_the_loss_of_each_next_token(stage: Stage1, pictures: Tensor) -> None:
    """Token by token: what comes later changes nothing, padding does not count."""
    model = stage.matching
    losses = []
    with torch.no_grad():
        seen = model.vision_model(pixel_values=pictures).last_hidden_state
        _, states = stage.read("causal", stage.begun(IDS), seen)
        found = stage.write(states, IDS).item()
        for b, row in enumerate(IDS):
            for end in range(1, 5):
                if row[end] == PAD:
                    continue
                start = torch.cat([torch.tensor([SPECIAL.index("[DEC]")]), row[1:end]])[None]
                _, part = stage.read("causal", start, seen[b : b + 1])
                logits = stage.head(part[0, -1]) @ model.embeddings.word_embeddings.weight.T + stage.bias
                losses.append(-logits.log_softmax(0)[row[end]].item())
    assert found == pytest.approx(sum(losses) / len(losses), abs=1e-5)


def test_the_three_losses_reach_everything_that_learns(stage: Stage1, pictures: Tensor) -> None:
    torch.manual_seed(0)
    losses = stage(Batch(pictures, IDS, IDS.flip(0), torch.eye(2, dtype=torch.bool)))
    assert sorted(losses) == ["captions", "contrast", "matching"]
    assert losses["matching"].item() == pytest.approx(math.log(2), abs=0.2)
    stage.zero_grad()
    torch.stack([*losses.values()]).sum().backward()
    assert [name for name, p in stage.named_parameters() if p.grad is None] == []
    assert len({tuple(row.tolist()) for row in stage.matching.query_tokens.grad[0]}) == 3  # queries differ
    stage.zero_grad()


@pytest.mark.usefixtures("untyped")
def test_another_mask_is_no_mask() -> None:
    with pytest.raises(ValueError, match="kind: expected one of unimodal, bidirectional, causal, got 'soup'"):
        attention("soup", 2, IDS)
