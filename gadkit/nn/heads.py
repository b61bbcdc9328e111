"""Heads that stand on an encoder while it learns, and are thrown away afterwards.

Book: selfsup/simclr, selfsup/swav, selfsup/dino
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import distributed
from gadkit.checks import checked, whole


class BatchNorm(nn.BatchNorm1d):
    """Batch norm over the rows of all processes, which must bring equally many; alone, torch's own.

    Statistics of a process's own rows would let a contrastive method find out by them which views belong together
    (Chen et al. 2020, section 2.2), and several processes would not learn as one does.  Torch's `SyncBatchNorm`
    needs a GPU.
    """

    def forward(self, x: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """Normalised rows; every process computes all of them and keeps its own."""
        if not self.training or distributed.world() == 1:
            return super().forward(x)
        return super().forward(distributed.gather(x))[len(x) * distributed.rank() :][: len(x)]


@checked
def mlp(sizes: Sequence[int], norm: bool = True, last_norm: bool = False) -> nn.Sequential:
    """Linear layers with ReLU between them, normalised over the batch (not the last one, unless `last_norm`).

    A `last_norm` has no scale and shift of its own, as in SimCLR and MoCo v3.  Raises ValueError for fewer than two
    sizes, or a size below 1.
    """
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected at least what goes in and what comes out, got {tuple(sizes)}")
    for size in sizes:
        whole("sizes", size)
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(sizes)):
        last = i == len(sizes) - 2
        normed = last_norm if last else norm
        layers.append(nn.Linear(before, after, bias=not normed))
        if normed:
            layers.append(BatchNorm(after, affine=not last))
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Prototypes(nn.Module):
    """Unit vectors to compare with: cosines of unit features with each of `count` prototypes."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(whole("count", count), whole("width", width)))
        self.normalise()

    @torch.no_grad()
    def normalise(self) -> None:
        """Bring every prototype back to length 1."""
        self.weight.copy_(F.normalize(self.weight, dim=1))

    def forward(self, z: Float[Tensor, "n d"], still: bool = False) -> Float[Tensor, "n k"]:
        """Scores of features, which are normalised here; prototypes that are `still` get no gradient."""
        return F.normalize(z, dim=1) @ (self.weight.detach() if still else self.weight).T


class DINOHead(nn.Module):
    """DINO's head: three layers to a bottleneck, normalised, then cosines with unit prototypes.

    Caron et al. 2021, appendix C; the last layer's length is fixed at 1, its best setting for small batches.  `norm`
    puts batch norm after the hidden layers, an option of the paper's that takes what all images share out of the way.
    """

    def __init__(
        self, width: int, prototypes: int = 1024, hidden: int = 256, bottleneck: int = 64, norm: bool = False
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((width, hidden), (hidden, hidden)):
            layers += [nn.Linear(before, after, bias=not norm)]
            layers += [BatchNorm(after), nn.GELU()] if norm else [nn.GELU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        for layer in self.mlp:
            if isinstance(layer, nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        self.direction = nn.Parameter(torch.randn(prototypes, bottleneck))

    def forward(self, x: Float[Tensor, "*n d"], still: bool = False) -> Float[Tensor, "*n k"]:
        """Logits, between -1 and 1, before any temperature; while it is `still`, the last layer gets no gradient."""
        z = self.mlp(x.flatten(0, -2)).unflatten(0, x.shape[:-1])  # all rows are one batch to be normalised over
        direction = self.direction.detach() if still else self.direction
        return F.normalize(z, dim=-1) @ F.normalize(direction, dim=1).T
