"""Matching of queries with masks, a whole batch at once; the library's own goes image by image.

The costs are the library's: class, binary cross-entropy and dice at random points.  Here all images of a batch share
the points, and the costs leave the device once.

Source: Cheng et al. 2022, Mask2Former, section 3.3.
Book: objects/universal
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn


class Matcher(nn.Module):
    """In place of the matcher of Mask2Former's or OneFormer's loss, with its weights and its number of points."""

    def __init__(self, cost_class: float, cost_mask: float, cost_dice: float, points: int) -> None:
        super().__init__()
        self.weights, self.points = (float(cost_class), float(cost_mask), float(cost_dice)), points

    @torch.no_grad()
    def forward(
        self,
        masks_queries_logits: Float[Tensor, "b q h w"],
        class_queries_logits: Float[Tensor, "b q c"],
        mask_labels: Sequence[Float[Tensor, "_ s s"]],
        class_labels: Sequence[Int[Tensor, "_"]],
    ) -> list[tuple[Int[Tensor, "m"], Int[Tensor, "m"]]]:
        """Numbers of queries and of true masks, an image each."""
        where = masks_queries_logits.device
        points = torch.rand(1, self.points, 2, device=where)
        counts = [len(labels) for labels in class_labels]
        at = torch.arange(len(counts), device=where).repeat_interleave(torch.tensor(counts, device=where))  # (k,)
        true = _sampled(torch.cat([*mask_labels])[:, None].float(), points)[:, 0]  # (k, p)
        logits = _sampled(masks_queries_logits.float(), points)[at]  # (k, q, p)
        chances = class_queries_logits.float().softmax(2)[at]  # (k, q, c)
        label = torch.cat([*class_labels])[:, None, None].expand(-1, chances.shape[1], 1)
        named = -chances.gather(2, label)[..., 0]
        entropy = (F.softplus(logits).sum(2) - (logits @ true[..., None])[..., 0]) / self.points
        found = logits.sigmoid()
        dice = 1 - (2 * (found @ true[..., None])[..., 0] + 1) / (found.sum(2) + true.sum(1, keepdim=True) + 1)
        costs = sum(weight * cost for weight, cost in zip(self.weights, (named, entropy, dice), strict=True))
        pairs = []
        for table in costs.nan_to_num(1e9, 1e9, 1e9).cpu().split(counts):
            columns, rows = linear_sum_assignment(table.numpy())
            pairs.append((torch.as_tensor(rows, dtype=torch.long), torch.as_tensor(columns, dtype=torch.long)))
        return pairs


def _sampled(maps: Float[Tensor, "b c h w"], points: Float[Tensor, "1 p 2"]) -> Float[Tensor, "b c p"]:
    """The values of maps at points, given in shares."""
    grid = (2 * points - 1)[:, None].expand(len(maps), -1, -1, -1)
    return F.grid_sample(maps, grid, align_corners=False)[:, :, 0]
