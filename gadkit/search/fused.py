"""The nearest key of every query in one pass over the keys: a Triton kernel that never stores a similarity.

A program of the kernel keeps a block of queries, and goes through a share of the keys.  Of each block of cosines it
keeps the running maximum and its row, so that memory grows with n and m and not with n x m.  Where several keys are
equally near, the first one is taken.

This module needs Triton, which torch brings where it computes on NVIDIA's or AMD's chips: ask
`gadkit.search.neighbors.can_fuse` before importing it.  Triton's interpreter runs it on a CPU (TRITON_INTERPRET=1).

Source: the running maximum is that of Milakov and Gimelshein 2018, Online normalizer calculation for softmax.
Book: anomaly/speed
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import whole

TINY = tl.constexpr(1e-12)  # the shortest length that is divided by, as in torch's `normalize`
BLOCKS = (64, 64, 64)  # queries, keys and columns that a program holds at once; powers of two, at least 16
WAVES = 4  # programs for each of the chip's processors: some wait for memory while others compute


@triton.jit
def _kernel(
    queries, keys, cosines, rows, n, m, share, d, Q: tl.constexpr, K: tl.constexpr, D: tl.constexpr, WIDE: tl.constexpr
):  # fmt: skip
    """Of queries (n, d) a block of Q against one share of the keys (m, d); writes a row of (shares, n).

    WIDE multiplies in float32 what comes in another precision.
    """
    q = tl.program_id(0) * Q + tl.arange(0, Q)
    first = tl.program_id(1) * share
    last = tl.minimum(first + share, m)
    best = tl.full([Q], float("-inf"), tl.float32)
    where = tl.zeros([Q], tl.int32)
    square = tl.zeros([Q], tl.float32)  # of the queries' lengths, which order nothing
    for column in range(0, d, D):
        c = column + tl.arange(0, D)
        a = tl.load(queries + q[:, None].to(tl.int64) * d + c, mask=(q[:, None] < n) & (c < d), other=0.0)
        square += tl.sum(a.to(tl.float32) * a.to(tl.float32), axis=1)
    for start in range(first, last, K):
        k = start + tl.arange(0, K)
        dots = tl.zeros([Q, K], tl.float32)
        squares = tl.zeros([K], tl.float32)
        for column in range(0, d, D):
            c = column + tl.arange(0, D)
            a = tl.load(queries + q[:, None].to(tl.int64) * d + c, mask=(q[:, None] < n) & (c < d), other=0.0)
            b = tl.load(keys + k[:, None].to(tl.int64) * d + c, mask=(k[:, None] < last) & (c < d), other=0.0)
            if WIDE:
                a, b = a.to(tl.float32), b.to(tl.float32)
            dots = tl.dot(a, tl.trans(b), dots, input_precision="ieee")  # (Q, K), summed in float32
            squares += tl.sum(b.to(tl.float32) * b.to(tl.float32), axis=1)
        near = tl.where(k < last, dots / tl.maximum(tl.sqrt(squares), TINY), float("-inf"))
        nearest, at = tl.max(near, axis=1, return_indices=True, return_indices_tie_break_left=True)
        where = tl.where(nearest > best, start + at, where)  # an equal one that comes later changes nothing
        best = tl.maximum(best, nearest)
    out = tl.program_id(1).to(tl.int64) * n + q
    tl.store(cosines + out, best / tl.maximum(tl.sqrt(square), TINY), mask=q < n)
    tl.store(rows + out, where, mask=q < n)


def nearest(
    queries: Float[Tensor, "n d"], keys: Float[Tensor, "m d"], blocks: tuple[int, int, int] = BLOCKS, shares: int = 0
) -> tuple[Float[Tensor, "n"], Int[Tensor, "n"]]:
    """The largest cosine of every query with any key, in float32, and that key's row; the first where several tie.

    Both sides are finite, of one dtype (float32, float16 or bfloat16) and on one device; sums are float32.  `blocks`
    are the queries, keys and columns at once, `shares` the parts of the keys that are searched side by side (0: as many
    as keep the chip busy); neither changes a result.  Raises ValueError for tensors outside these, and for no keys.
    """
    same = queries.dtype == keys.dtype and queries.device == keys.device
    if not same or queries.dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(
            "features: expected queries and keys of one device and dtype, at most float32, got "
            f"{queries.dtype} on {queries.device} and {keys.dtype} on {keys.device}"
        )
    if queries.ndim != 2 or keys.ndim != 2 or queries.shape[1] != keys.shape[1] or not keys.numel():
        raise ValueError(
            f"features: expected queries (n, d) and keys (m, d), m > 0, got {tuple(queries.shape)}, {tuple(keys.shape)}"
        )
    (n, d), m = queries.shape, len(keys)
    high = triton.cdiv(n, blocks[0])
    parts = whole("shares", shares, 0) or max(1, WAVES * _processors(queries.device) // max(1, high))
    share = triton.cdiv(triton.cdiv(m, min(parts, m)), blocks[1]) * blocks[1]  # whole blocks of keys
    parts = triton.cdiv(m, share)
    cosines = queries.new_empty(parts, n, dtype=torch.float32)
    rows = torch.empty_like(cosines, dtype=torch.int32)
    if n:
        # Triton's interpreter would multiply the bits of bfloat16 as whole numbers
        wide = triton.knobs.runtime.interpret and queries.dtype == torch.bfloat16
        _kernel[(high, parts)](queries.contiguous(), keys.contiguous(), cosines, rows, n, m, share, d, *blocks, wide)
    best = cosines.amax(0)
    return best, rows.masked_fill(cosines != best, m).amin(0).long()


def _processors(device: torch.device) -> int:
    """How many blocks of a kernel run at the same time."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
