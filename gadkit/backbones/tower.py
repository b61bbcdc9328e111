"""A frozen CLIP image tower, taken apart so that token windows can go through it without repeating work.

It computes what open_clip's own `VisionTransformer` computes, from the same weights, but it can start from any subset
of the tokens, share the first block's projections among windows, stop at the class token, run in bfloat16, and use
oneDNN's packed weights on a CPU: on processors that MKL does not favour those alone double the speed of float32.

Book: anomaly/winclip
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit.checks import one_of
from gadkit.nn import private

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SHORT = 16  # up to this many tokens two batched products beat the fused attention kernels of a CPU


class PackedLinear:
    """A frozen linear layer, optionally with the GELU that follows it; its weight is packed for oneDNN on a CPU."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, gelu: bool = False, pack: bool = True
    ) -> None:
        self.weight = weight.detach().to(dtype)
        self.bias = None if bias is None else bias.detach().to(dtype)
        self.gelu = gelu
        self.packed = pack and private.can_pack(self.weight)
        if self.packed:
            self.weight = private.pack(self.weight)

    def __call__(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n e"]:
        """Apply it to the last axis."""
        if self.packed:
            return private.packed_linear(x, self.weight, self.bias, self.gelu)
        y = F.linear(x, self.weight, self.bias)
        return F.gelu(y) if self.gelu else y


def _norm(norm: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """A frozen copy of a LayerNorm (or of the identity) in the tower's precision."""
    if isinstance(norm, nn.Identity):
        return norm
    weight, bias = (None if p is None else p.detach().to(dtype) for p in (norm.weight, norm.bias))
    return lambda x: F.layer_norm(x, norm.normalized_shape, weight, bias, norm.eps)


def _scale(scale: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """LayerScale's factor, where the architecture has one."""
    if isinstance(scale, nn.Identity):
        return scale
    gamma = scale.gamma.detach().to(dtype)
    return lambda x: x * gamma


def attention(qkv: Float[Tensor, "b t qkv"], heads: int, queries: int | None = None) -> Float[Tensor, "b q d"]:
    """Self-attention from joint projections; `queries` asks only for the first tokens' answers."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in qkv.chunk(3, dim=-1))  # (b, heads, t, d / heads)
    q = q[:, :, :queries]
    if qkv.device.type == "cpu" and k.shape[2] <= SHORT:
        weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (b, heads, q, t)
        out = weights.softmax(dim=-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).flatten(2)  # (b, q, d)


class Block:
    """One frozen pre-norm transformer block."""

    def __init__(self, block: nn.Module, dtype: torch.dtype, pack: bool = True) -> None:
        attn, up, down, act = block.attn, block.mlp.c_fc, block.mlp.c_proj, block.mlp.gelu
        exact = isinstance(act, nn.GELU) and act.approximate == "none"
        self.heads = attn.num_heads
        self.ln_1, self.ln_2 = _norm(block.ln_1, dtype), _norm(block.ln_2, dtype)
        self.ls_1, self.ls_2 = _scale(block.ls_1, dtype), _scale(block.ls_2, dtype)
        self.qkv = PackedLinear(attn.in_proj_weight, attn.in_proj_bias, dtype, pack=pack)
        self.out = PackedLinear(attn.out_proj.weight, attn.out_proj.bias, dtype, pack=pack)
        self.up = PackedLinear(up.weight, up.bias, dtype, gelu=exact, pack=pack)
        self.down = PackedLinear(down.weight, down.bias, dtype, pack=pack)
        self.act = nn.Identity() if exact else act

    def project(self, x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n qkv"]:
        """Queries, keys and values: they depend on a token alone, so windows that share tokens can share them."""
        return self.qkv(self.ln_1(x))

    def __call__(self, x: Tensor, qkv: Tensor | None = None, queries: int | None = None) -> Tensor:
        """The block's output for the first `queries` tokens (all by default), given the projections or not."""
        qkv = self.project(x) if qkv is None else qkv
        x = x[:, :queries] + self.ls_1(self.out(attention(qkv, self.heads, queries)))
        return x + self.ls_2(self.down(self.act(self.up(self.ln_2(x)))))


class Tower:
    """An open_clip `VisionTransformer` from ln_pre on, frozen at the weights it has now.

    Without `pack` it is made of public operations only, which are slower, but can be exported as a graph.

    Raises ValueError for a tower that is no ViT with a pooled class token and open_clip's standard blocks.
    """

    def __init__(self, visual: nn.Module, precision: str = "float32", pack: bool = True) -> None:
        one_of("precision", precision, PRECISIONS)
        check_visual(visual)
        self.dtype = PRECISIONS[precision]
        self.ln_pre = _norm(visual.ln_pre, self.dtype)
        self.ln_post = _norm(visual.ln_post, torch.float32)  # the last step is cheap: keep it in full precision
        self.proj = None if visual.proj is None else visual.proj.detach().float()
        self.blocks = [Block(block, self.dtype, pack) for block in visual.transformer.resblocks]

    def embed(self, x: Float[Tensor, "b t width"]) -> Float[Tensor, "b d"]:
        """The image vector of class tokens that left the last block."""
        pooled = self.ln_post(x[:, 0].float())
        return pooled if self.proj is None else pooled @ self.proj

    def image(
        self, x0: Float[Tensor, "b t width"], layers: Sequence[int], norm: bool
    ) -> tuple[Float[Tensor, "b d"], tuple[Float[Tensor, "b n width"], ...]]:
        """Image vectors, and the patch tokens after each of `layers` (blocks counted from 0)."""
        x, taken = self.ln_pre(x0.to(self.dtype)), {}
        for i, block in enumerate(self.blocks):
            alone = i == len(self.blocks) - 1 and i not in layers  # no more than the class token is asked for
            x = block(x, queries=1 if alone else None)
            if i in layers:
                patches = x[:, 1:].float()
                taken[i] = self.ln_post(patches) if norm else patches
        return self.embed(x), tuple(taken[i] for i in layers)

    def sequences(self, x: Float[Tensor, "s t width"], qkv: Float[Tensor, "s t joint"]) -> Float[Tensor, "s d"]:
        """Vectors of sequences of tokens, given the first block's projections of each token.

        This is where nearly all the time of windows goes, and `torch.compile` takes it as it is.
        """
        shared: Tensor | None = qkv
        for block in self.blocks[:-1]:
            x, shared = block(x, shared), None
        return self.embed(self.blocks[-1](x, shared, queries=1))

    def windows(
        self, x0: Float[Tensor, "b t width"], windows: Int[Tensor, "w k"], chunk: int
    ) -> Float[Tensor, "b w d"]:
        """Vectors of sequences [class token; the k patches of a window], at most `chunk` tokens at a time."""
        z = self.ln_pre(x0.to(self.dtype))
        qkv = self.blocks[0].project(z).flatten(0, 1)  # (b t, 3 width), computed once for all windows
        tokens = F.pad(windows + 1, (1, 0))  # (w, 1 + k), the class token first
        starts = torch.arange(len(x0), device=x0.device) * x0.shape[1]
        rows = (starts[:, None, None] + tokens).flatten(0, 1)  # (b w, 1 + k)
        z, vectors = z.flatten(0, 1), []
        for piece in rows.split(max(1, chunk // rows.shape[1])):
            vectors.append(self.sequences(z[piece], qkv[piece]))
        return torch.cat(vectors).unflatten(0, (len(x0), -1))


def check_visual(visual: nn.Module) -> None:
    """Raise ValueError unless `visual` is an open_clip ViT that pools its class token."""
    from open_clip.transformer import ResidualAttentionBlock, VisionTransformer

    if not isinstance(visual, VisionTransformer):
        raise ValueError(f"image tower: expected open_clip's VisionTransformer, got {type(visual).__name__}")
    if visual.attn_pool is not None or visual.pool_type != "tok":
        raise ValueError(f"image tower: expected a pooled class token, got pool_type {visual.pool_type!r}")
    others = {type(b).__name__ for b in visual.transformer.resblocks if type(b) is not ResidualAttentionBlock}
    if others:
        raise ValueError(f"image tower: expected blocks of type ResidualAttentionBlock, got {', '.join(others)}")
