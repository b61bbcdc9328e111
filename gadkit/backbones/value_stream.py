"""A second stream through the last blocks of a CLIP's image tower, in which each patch asks for patches like itself.

In a block's ordinary attention a patch asks with its query, and what it finds often lies far away.  In the value stream
it asks with its value: softmax(V V^T / sqrt d) V.  The values are those of the ordinary stream, and no MLP follows, so
the ordinary stream stays as it is.  AnomalyCLIP calls it diagonally prominent attention (DPAM).

Source: Zhou et al., AnomalyCLIP, ICLR 2024, section 3.4; Li et al., CLIP Surgery, 2023.
Book: anomaly/anomalyclip
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit.backbones.openclip import CHUNK, OpenCLIP
from gadkit.backbones.preprocess import check_layers
from gadkit.backbones.tower import Tower
from gadkit.checks import checked, whole
from gadkit.protocols import Tokens


def value_attention(values: Float[Tensor, "b t d"], heads: int) -> Float[Tensor, "b t d"]:
    """Self-attention in which the values are queries and keys, too."""
    v = values.unflatten(-1, (heads, -1)).transpose(1, 2)  # (b, heads, t, d / heads)
    return F.scaled_dot_product_attention(v, v, v).transpose(1, 2).flatten(2)


@checked
@torch.no_grad()
def encode_values(
    clip: OpenCLIP,
    images: Float[Tensor, "b 3 s s"],
    blocks: int,
    layers: Sequence[int] = (-1,),
    class_norm: bool = False,
    precision: str = "float32",
    chunk: int = CHUNK,
) -> Tokens:
    """Image vectors (b, embed_dim) of the ordinary stream, and the value stream's patches (b, n, width) after `layers`.

    The last `blocks` blocks have a value stream; a layer before them gives ordinary patches.  The class token passes
    the tower's last LayerNorm only with `class_norm`.  Nothing is normalised.  At most `chunk` tokens (but a whole
    image) go at once.  Raises ValueError for `blocks` or a layer that the tower does not have, and as
    `OpenCLIP.embed_patches` does.
    """
    whole("blocks", blocks, 1, clip.depth)
    x0, tower, taken = clip.embed_patches(images), clip.tower(precision), check_layers(layers, clip.depth)
    pieces = [streams(tower, x, blocks, taken) for x in x0.split(max(1, whole("chunk", chunk) // x0.shape[1]))]
    classes = torch.cat([token for token, _ in pieces])  # (b, 1, width)
    pooled = project(clip, classes)[:, 0] if class_norm else matrix(tower, classes)[:, 0]
    found = tuple(torch.cat(parts) for parts in zip(*(tokens for _, tokens in pieces), strict=True))
    return Tokens(pooled, found, clip.grid)


@checked
def project(clip: OpenCLIP, tokens: Float[Tensor, "b n width"]) -> Float[Tensor, "b n d"]:
    """Tokens in the space of image and text vectors: the tower's last LayerNorm, then its projection."""
    tower = clip.tower()
    return matrix(tower, tower.ln_post(tokens))


def matrix(tower: Tower, tokens: Float[Tensor, "b n width"]) -> Float[Tensor, "b n d"]:
    """Tokens through a tower's projection alone, where it has one."""
    return tokens if tower.proj is None else tokens @ tower.proj


def streams(
    tower: Tower, x0: Float[Tensor, "b t width"], blocks: int, layers: Sequence[int]
) -> tuple[Float[Tensor, "b 1 width"], tuple[Float[Tensor, "b n width"], ...]]:
    """The class tokens (b, 1, width) that left the last block, and the patches after each of `layers`."""
    x, stream, taken = tower.ln_pre(x0.to(tower.dtype)), None, {}
    for i, block in enumerate(tower.blocks):
        qkv = block.project(x)
        if i >= len(tower.blocks) - blocks:
            found = block.out(value_attention(qkv.chunk(3, dim=-1)[2], block.heads))
            stream = (x if stream is None else stream) + block.ls_1(found)
        x = block(x, qkv, queries=1 if i == len(tower.blocks) - 1 else None)  # of the last no more is asked for
        if i in layers:
            taken[i] = (x if stream is None else stream)[:, 1:].float()
    return x[:, :1].float(), tuple(taken[i] for i in layers)
