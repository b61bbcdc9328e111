"""What stands out in an image by itself, and how it weighs candidates for a defect: the image-context half of SAA+.

A spot is salient if its features are unlike those of other spots: of the rest of the same image, or, where an image
shows several parts, of the other parts.

Source: Cao et al., Segment Any Anomaly without Training via Hybrid Prompt Regularization, 2023, section 4.2.
Book: anomaly/saa
"""

import itertools
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gadkit.checks import check_finite, checked, one_of, positive, share, whole
from gadkit.runtime import chunks

NEIGHBOURS = ("farthest", "nearest")
BLOCK = 256  # spots
TOP = 400 / 4096  # the reference takes 400 of its 64 x 64 spots


@checked
def self_saliency(
    features: Float[Tensor, "n e"], top: float = TOP, neighbours: str = "farthest", chunk: int = 4096
) -> Float[Tensor, "n"]:
    """How unlike other spots of its image each spot is: the mean of (1 - cos) / 2, over some of them; from 0 to 1.

    `features` are unit vectors, one a spot.  `top` is the share of spots that count, one at least: the "farthest" from
    the spot, as in the reference code, or the "nearest" to it without itself, as in the paper's text.  At most `chunk`
    rows of similarities are held at once.  Raises ValueError for fewer than two spots, NaN, and other arguments.
    """
    if len(features) < 2:
        raise ValueError(f"features: expected at least 2 spots to compare, got {len(features)}")
    share("top", top), one_of("neighbours", neighbours, NEIGHBOURS), whole("chunk", chunk)
    check_finite(features, "features")
    count = min(max(1, round(top * len(features))), len(features) - 1)
    nearest, found, start = neighbours == "nearest", [], 0
    at_once = len(features) <= chunk
    for similar in [_symmetric(features)] if at_once else (rows @ features.T for rows in chunks(features, chunk)):
        if nearest:  # a spot is no neighbour of itself
            rows = torch.arange(len(similar), device=similar.device)
            similar[rows, start + rows] = -math.inf
        found.append(similar.topk(count, dim=1, largest=nearest, sorted=False).values.mean(1))
        start += len(similar)
    return ((1 - torch.cat(found)) / 2).clamp(min=0)


def _symmetric(features: Float[Tensor, "n e"]) -> Float[Tensor, "n n"]:
    """All cosines; those of two blocks of spots are computed once."""
    blocks, similar = [*chunks(features, BLOCK)], features.new_empty(len(features), len(features))
    for i, rows in enumerate(blocks):
        for j, columns in enumerate(blocks[: i + 1]):
            block = rows @ columns.T
            down, across = slice(BLOCK * i, BLOCK * i + len(rows)), slice(BLOCK * j, BLOCK * j + len(columns))
            similar[down, across], similar[across, down] = block, block.T
    return similar


@checked
def object_saliency(
    features: Float[Tensor, "n e"], objects: Bool[Tensor, "k n"], zeroed: bool = False, chunk: int = 4096
) -> Float[Tensor, "n"]:
    """How unlike the other objects' spots each spot of an object is: (1 - max cos) / 2; 0 outside all objects.

    `features` are unit vectors, one a spot, and `objects` says which spots each of the k objects covers.  A spot of two
    objects takes the larger value.  Spots that the object shares with others are left out of the others; with `zeroed`
    they count as vectors of zeros, whose cosine is 0, as in the reference code.  An object that has nothing to be
    compared with has 0.  Raises ValueError for NaN, and for shapes that do not fit.
    """
    check_finite(features, "features")
    near = features.new_full(objects.shape, -math.inf)  # (k, n), the largest cosine with a spot of another object
    for i, j in itertools.combinations(range(len(objects)), 2):
        one, other, both = objects[i] & ~objects[j], objects[j] & ~objects[i], objects[i] & objects[j]
        for x, y, of_x, of_y in ((one, other, i, j), (both, other, i, None), (both, one, j, None)):
            columns = y.nonzero()[:, 0]
            for rows in chunks(x.nonzero()[:, 0], chunk) if len(columns) else ():
                similar = features[rows] @ features[columns].T
                near[of_x, rows] = torch.maximum(near[of_x, rows], similar.amax(1))
                if of_y is not None and len(rows):  # a cosine has no direction
                    near[of_y, columns] = torch.maximum(near[of_y, columns], similar.amax(0))
        if zeroed and both.any():
            for own in (i, j):
                near[own, objects[own]] = near[own, objects[own]].clamp(min=0)
    far = ((1 - near) / 2).clamp(min=0).where(near > -math.inf, features.new_zeros(()))
    return torch.cat([far, features.new_zeros(1, len(features))]).amax(0)


@checked
def rescore(
    scores: Float[Tensor, "k"], masks: Bool[Tensor, "k h w"], saliency: Float[Tensor, "h w"], sharpness: float = 3.0
) -> Float[Tensor, "k"]:
    """Each candidate's score times exp(`sharpness` x the mean saliency within its mask); an empty mask changes nothing.

    Raises ValueError for NaN, for a sharpness that is not above 0, and for shapes that do not fit.
    """
    positive("sharpness", sharpness), check_finite(saliency, "saliency")
    inside = masks.flatten(1).to(saliency.dtype)  # (k, h w)
    mean = (inside @ saliency.flatten()) / inside.sum(1).clamp(min=1)
    return scores * (sharpness * mean).exp()


@checked
def aggregate(scores: Float[Tensor, "k"], masks: Bool[Tensor, "k h w"], shrink: bool = True) -> Float[Tensor, "h w"]:
    """The mean score of the candidates that cover a pixel; 0 where none does, and everywhere for no candidate.

    With `shrink`, as in the reference code, one more candidate of score 0 covers every pixel: a pixel that one mask
    covers has half its score.  Raises ValueError for NaN, and for shapes that do not fit.
    """
    check_finite(scores, "scores")
    total = torch.einsum("k,khw->hw", scores, masks.to(scores.dtype))
    count = masks.sum(0)
    return total / (count + 1 if shrink else count.clamp(min=1))
