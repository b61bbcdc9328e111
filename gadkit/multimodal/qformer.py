"""BLIP-2's first stage: a Q-Former learns to read an image by contrast, matching and writing; losses are ours.

transformers has the Q-Former but neither the losses nor the head that writes.  One transformer takes queries and text;
what each may attend to makes the difference between the three:

    >>> from gadkit.multimodal.qformer import attention
    >>> attention("causal", 2, torch.tensor([[5, 6, 0]]))[0, 0].int()
    tensor([[1, 1, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 1, 1, 0],
            [1, 1, 1, 1, 0]], dtype=torch.int32)

Source: Li et al., BLIP-2, ICML 2023, section 3.2 and figure 2.
Book: multimodal/blip
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gadkit.checks import checked, one_of, whole
from gadkit.multimodal.matching import contrast, hard_negatives, match_loss
from gadkit.multimodal.vocabulary import IGNORED, PAD, SPECIAL

MASKS = ("unimodal", "bidirectional", "causal")


@dataclass(frozen=True)
class Batch:
    """b images with a true and a false caption each; `true[i, j]` says whether caption j is true of image i."""

    images: Float[Tensor, "b ..."]
    captions: Int[Tensor, "b c"]
    false: Int[Tensor, "b f"]
    true: Bool[Tensor, "b b"]


@checked
def attention(kind: str, queries: int, ids: Int[Tensor, "b l"]) -> Bool[Tensor, "b 1 t t"]:
    """What each of `queries` queries and l text tokens (rows) may attend to (columns); t = queries + l.

    "unimodal": queries to queries, text to text.  "bidirectional": all to all.  "causal": queries to queries, text to
    queries and to the text up to itself.  Nothing attends to padding.  Raises ValueError for another kind.
    """
    one_of("kind", kind, MASKS), whole("queries", queries)
    length = ids.shape[1]
    is_text = torch.arange(queries + length, device=ids.device) >= queries
    row, column = is_text[:, None], is_text[None, :]
    if kind == "unimodal":
        allowed = row == column
    elif kind == "bidirectional":
        allowed = torch.ones_like(row & column)
    else:
        allowed = ~column | (row & torch.ones_like(row & column).tril())
    there = F.pad(ids != PAD, (queries, 0), value=True)  # (b, t)
    return (allowed & there[:, None])[:, None]


class Stage1(nn.Module):
    """transformers' `Blip2ForImageTextRetrieval`, the temperature of its contrast, and the head that writes.

    The head's last layer is the word embeddings; it is not needed after this stage.
    """

    def __init__(self, matching: nn.Module) -> None:
        super().__init__()
        self.matching = matching
        width = matching.config.qformer_config.hidden_size
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.bias = nn.Parameter(torch.zeros(matching.config.qformer_config.vocab_size))
        self.temperature = nn.Parameter(torch.tensor(math.log(0.07)))

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The three losses of a batch.

        Under the causal mask queries see no text, so one pass gives the queries of contrast and what is written.
        """
        seen = self.matching.vision_model(pixel_values=batch.images).last_hidden_state  # (b, n, w)
        queries, written = self.read("causal", self.begun(batch.captions), seen)
        logits = self.cosines(queries, batch.captions) / self.temperature.exp().clamp(min=0.01)  # (b, b)
        texts, images = hard_negatives(logits, batch.true)
        rows = torch.arange(len(seen), device=seen.device)
        false = torch.zeros_like(rows, dtype=torch.bool)
        counts = torch.cat([~false, ~batch.true[rows, texts], ~batch.true[images, rows], ~false])
        longest = max(batch.captions.shape[1], batch.false.shape[1])
        own, edited = (F.pad(ids, (0, longest - ids.shape[1]), value=PAD) for ids in (batch.captions, batch.false))
        pairs = torch.cat([own, own[texts], own, edited])
        matched = self.match(pairs, torch.cat([seen, seen, seen[images], seen]))
        return {
            "contrast": contrast(logits, batch.true),
            "matching": match_loss(matched, torch.cat([~false, false, false, false]), counts),
            "captions": self.write(written, batch.captions),
        }

    def begun(self, ids: Int[Tensor, "b l"]) -> Int[Tensor, "b l"]:
        """The same texts with [DEC] for their first token: written, not read."""
        return torch.cat([torch.full_like(ids[:, :1], SPECIAL.index("[DEC]")), ids[:, 1:]], 1)

    def read(
        self, kind: str, ids: Int[Tensor, "b l"], images: Float[Tensor, "b n w"]
    ) -> tuple[Float[Tensor, "b q d"], Float[Tensor, "b l d"]]:
        """What becomes of the queries, and of a text beside them, under a mask."""
        model = self.matching
        queries = model.query_tokens.expand(len(ids), -1, -1)
        count = queries.shape[1]
        states = model.qformer(
            query_embeds=model.embeddings(input_ids=ids, query_embeds=queries),
            query_length=count,
            attention_mask=attention(kind, count, ids),
            encoder_hidden_states=images,
        ).last_hidden_state
        return states[:, :count], states[:, count:]

    def cosines(self, queries: Float[Tensor, "b q d"], ids: Int[Tensor, "t l"]) -> Float[Tensor, "b t"]:
        """Of each image and text the largest cosine of a query with the text, which is read alone."""
        model = self.matching
        alone = model.qformer(
            query_embeds=model.embeddings(input_ids=ids), query_length=0, attention_mask=(ids != PAD).long()
        ).last_hidden_state[:, 0]
        left = F.normalize(model.vision_projection(queries).float(), dim=-1)  # (b, q, e)
        right = F.normalize(model.text_projection(alone).float(), dim=-1)  # (t, e)
        return torch.einsum("bqe,te->btq", left, right).amax(2)

    def match(self, ids: Int[Tensor, "n l"], images: Float[Tensor, "n t w"]) -> Float[Tensor, "n 2"]:
        """The logits of "doesn't fit" and "fits", the mean over queries that see the text."""
        queries, _ = self.read("bidirectional", ids, images)
        return self.matching.itm_head(queries).float().mean(1)

    def write(self, states: Float[Tensor, "b l d"], ids: Int[Tensor, "b l"]) -> Float[Tensor, ""]:
        """The cross-entropy of each next token."""
        logits = self.head(states[:, :-1]) @ self.matching.embeddings.word_embeddings.weight.T + self.bias
        wanted = ids[:, 1:].masked_fill(ids[:, 1:] == PAD, IGNORED)
        return F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=IGNORED)
