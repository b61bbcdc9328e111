"""A memory bank that stays within a bound however many rows come, by thinning while it is filled.

Up to twice the bound the rows are collected.  Then k-centre greedy keeps as many as the bound allows, and leaves no row
farther than a radius from one that it keeps.  From then on a row is added only if it is farther than that from all
kept ones, until there are twice too many again.  So memory is bounded, few rows are ever compared by k-centre, and
whatever was seen lies within the sum of the radii of something kept.

Distances for thinning are those of random projections to `WIDTH` numbers, as PatchCore does it: they serve to choose,
and the rows that stay are whole.

Source: Gonzalez, Clustering to minimize the maximum intercluster distance, 1985; Roth et al., PatchCore, CVPR 2022,
section 3.2.
Book: anomaly/representations
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit.checks import whole
from gadkit.search.neighbors import k_centre, topk

WIDTH = 64  # of what rows are projected to
FLOAT = 4  # bytes


class Bank:
    """Rows of features, added a few at a time.

    `most`  bytes that the result may take; None sets no bound.  While it is filled, the bank takes twice that.
    `thin`  share of all rows to keep, chosen by k-centre greedy at the end; None keeps what the bound allows.

    `radius` is how far, among projections, what was seen may be from the nearest row that was kept.
    Raises ValueError for fewer bytes than a row takes.
    """

    def __init__(self, most: int | None = None, thin: float | None = None) -> None:
        self.most, self.thin, self.radius = most, thin, 0.0
        self._rows: list[Tensor] = []
        self._short: list[Tensor] = []  # the projections
        self._count = self._seen = 0
        self._covered = 0.0  # rows that lie nearer to a kept one add nothing
        self._map: Tensor | None = None

    def add(self, rows: Float[Tensor, "n e"]) -> None:
        """Add rows; those that the bank covers already are left out."""
        self._seen += len(rows)
        if self.most is None:
            self._rows.append(rows)
            return
        room = whole("bank: bytes / bytes of a row", self.most // (FLOAT * rows.shape[1]))
        short = self._projected(rows)
        if self._covered:
            far = topk(short, torch.cat(self._short), 1, "l2")[0][:, 0] > self._covered
            rows, short = rows[far], short[far]
        self._rows.append(rows)
        self._short.append(short)
        self._count += len(rows)
        if self._count > 2 * room:
            self._reduce(room)

    def rows(self) -> Float[Tensor, "m e"]:
        """What is kept of all rows.  Raises ValueError before any was added."""
        if not self._rows:
            raise ValueError("bank: expected at least one row, got none")
        if self.most is not None and self._count > (room := self.most // (FLOAT * self._rows[0].shape[1])):
            self._reduce(room)
        rows = torch.cat(self._rows)
        wanted = len(rows) if self.thin is None else math.ceil(self.thin * self._seen)
        return rows if self.thin is None else rows[k_centre(rows, min(wanted, len(rows)), quiet=False)[0]]

    def _reduce(self, room: int) -> None:
        rows, short = torch.cat(self._rows), torch.cat(self._short)
        kept, radii = k_centre(short, room, quiet=False)
        kept = kept.sort().values  # in the order in which they came
        self._rows, self._short, self._count = [rows[kept]], [short[kept]], room
        self._covered = float(radii[-1])
        self.radius += self._covered

    def _projected(self, rows: Float[Tensor, "n e"]) -> Float[Tensor, "n d"]:
        if rows.shape[1] <= WIDTH:
            return rows
        if self._map is None:
            draw = torch.Generator().manual_seed(0)
            self._map = (torch.randn(rows.shape[1], WIDTH, generator=draw) / math.sqrt(WIDTH)).to(rows)
        return rows @ self._map
