"""The labels and masks that a folder gives its photographs: how well a run agrees with them.

Book: intro/run-it
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from gadkit.anomaly.metrics import aupro, auroc
from gadkit.cli.outputs import ImageScore, count
from gadkit.cli.sources import entries_of
from gadkit.data.folders import BrokenImage, read_masks

SIDE = 256  # pixels a side at which maps and masks are compared
MOST = 1000  # photographs whose maps are kept: 320 MB


class Known:
    """What the folders asked for know of their photographs: a label each, and masks of the defects.

    `add` keeps the map of a photograph, small, where its mask is known: for the first `MOST` of them.
    """

    def __init__(self, given: Sequence[Path]) -> None:
        found = [entry for source in given for entry in entries_of(source) if entry.label is not None]
        self.labels = {entry.path: entry.label for entry in found}
        self._masks = {entry.path: entry.masks for entry in found if entry.label == 0 or entry.masks}
        self.kept: list[tuple[np.ndarray, np.ndarray]] = []  # a small map and its mask each
        self.beyond = 0  # photographs whose maps were not kept

    def add(self, path: Path, heat: Float[Tensor, "h w"]) -> None:
        """Keep a map, if the photograph's mask is known and can be read."""
        if path not in self._masks or not any(self._masks.values()):
            return
        if len(self.kept) == MOST:
            self.beyond += 1
            return
        try:
            mask = read_masks(self._masks[path]) if self._masks[path] else torch.zeros(heat.shape, dtype=torch.bool)
        except BrokenImage:  # the layout's own remarks name it
            return
        if mask.shape != heat.shape:
            return
        small = F.interpolate(heat[None, None].float().cpu(), (SIDE, SIDE), mode="bilinear", antialias=True)
        marked = F.adaptive_max_pool2d(mask[None, None].float(), (SIDE, SIDE))
        self.kept.append((small[0, 0].numpy(), marked[0, 0].bool().numpy()))

    def lines(self, rows: Sequence[ImageScore], line: float | None) -> Iterator[str]:
        """How the scores, the threshold and the maps agree with the labels, as far as these allow it."""
        known = [(row.score, self.labels[path]) for row in rows if (path := Path(row.path)) in self.labels]
        if {0, 1} > {label for _, label in known}:
            return
        scores, labels = (np.array(values) for values in zip(*known, strict=True))
        yield f"image AUROC {auroc(scores, labels):.3f}, by the folder's own labels"
        if line is not None:
            over = scores > line
            yield (
                f"of {count(int(labels.sum()), 'defective part')} {int(over[labels == 1].sum())} are above the "
                f"threshold, of {count(int((1 - labels).sum()), 'good part')} {int(over[labels == 0].sum())}"
            )
        maps, masks = (np.stack(values) for values in zip(*self.kept, strict=True)) if self.kept else ([], [])
        if len(masks) and masks.any():
            part = f" of the first {MOST} photographs" if self.beyond else ""
            yield f"AUPRO {aupro(maps, masks):.3f}{part}, at {SIDE} x {SIDE} pixels, by the folder's own masks"
