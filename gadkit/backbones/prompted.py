"""A CLIP's text tower that reads learnt vectors in place of words: before a text, and again in its deeper blocks.

Source: Zhou et al., Learning to Prompt for Vision-Language Models (CoOp), 2022; Khattak et al., MaPLe, CVPR 2023.
Book: anomaly/anomalyclip
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.backbones.openclip import OpenCLIP, ends, pooled, reads
from gadkit.checks import check_texts, checked


@checked
def encode_prompts(
    clip: OpenCLIP,
    texts: Sequence[str],
    contexts: Float[Tensor, "s c width"],
    deep: Float[Tensor, "m k width"] | None = None,
) -> Float[Tensor, "s d"]:
    """Text vectors, not normalised, of prompts [start][c learnt tokens][text i][end]; open to gradients.

    Before the tower's second block, its third, ... the k tokens after the start are overwritten by the next of the m
    rows of `deep`.  Raises ValueError for prompts that do not fit the tower's context or width, for more rows than it
    has blocks to come, and for a tower that is not causal.
    """
    text = clip.text
    if not reads(text) or not getattr(text.transformer, "batch_first", True):
        raise ValueError(f"text tower: expected a causal one that pools its end token, got {type(text).__name__}")
    tokens = clip.tokenizer(check_texts(texts)).to(clip.device)
    count, at = contexts.shape[1], ends(text, tokens)
    length = int(at.max()) + 1
    _check(clip, tokens.shape[0], contexts, deep, length)
    words = text.token_embedding(tokens[:, :length])  # (s, t, width)
    x = torch.cat([words[:, :1], contexts.to(words), words[:, 1:]], dim=1)
    x = x + text.positional_embedding[: x.shape[1]]
    mask, rows = text.attn_mask[: x.shape[1], : x.shape[1]], [] if deep is None else deep.to(words)
    for i, block in enumerate(text.transformer.resblocks):
        if 0 < i <= len(rows):
            learnt = rows[i - 1].expand(len(x), -1, -1)  # (s, k, width)
            x = torch.cat([x[:, :1], learnt, x[:, 1 + learnt.shape[1] :]], dim=1)
        x = block(x, attn_mask=mask)
    return pooled(text, x, at + count)


def _check(clip: OpenCLIP, count: int, contexts: Tensor, deep: Tensor | None, length: int) -> None:
    width, blocks = clip.text.token_embedding.embedding_dim, len(clip.text.transformer.resblocks)
    if contexts.ndim != 3 or len(contexts) != count or contexts.shape[2] != width:
        raise ValueError(f"contexts: expected shape ({count}, tokens, {width}), got {tuple(contexts.shape)}")
    total = contexts.shape[1] + length
    if total > clip.context_length:
        raise ValueError(f"contexts: expected prompts of at most {clip.context_length} tokens, got {total}")
    if deep is None:
        return
    if deep.ndim != 3 or deep.shape[2] != width or len(deep) >= blocks or deep.shape[1] > total - 2:
        raise ValueError(
            f"deep: expected shape (rows, tokens, {width}), at most {blocks - 1} rows for {blocks} blocks and "
            f"{total - 2} tokens, got {tuple(deep.shape)}"
        )
