"""Retrieval between pictures and texts: recall@k, both ways, exact where similarities are equal.

    >>> import torch
    >>> recalls(torch.eye(3), (1, 2))
    {'image_to_text@1': 1.0, 'text_to_image@1': 1.0, 'image_to_text@2': 1.0, 'text_to_image@2': 1.0}

Source: Hodosh et al. 2013, Framing image description as a ranking task (recall@k).
Book: multimodal/contrastive
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from gadkit.checks import check_finite, checked, whole


@checked
def recall(similarities: Float[Tensor, "q g"], right: Bool[Tensor, "q g"], k: int = 1) -> float:
    """The share of queries that have a right answer among the k most similar of the gallery.

    Equal similarities are ordered by lot, and the result is the expected value of that: answers that are all equally
    similar have the recall of chance.  Raises ValueError for similarities that are not finite, a query without a right
    answer, or k outside 1 to the size of the gallery.
    """
    check_finite(similarities, "similarities")
    whole("k", k, 1, right.shape[1])
    if not bool(right.any(1).all()):
        raise ValueError(f"right: expected an answer to every query, got none for {int((~right.any(1)).sum())}")
    best = similarities.masked_fill(~right, -torch.inf).amax(1, keepdim=True)  # (q, 1)
    above = (similarities > best).sum(1)  # wrong ones that are more similar than any right one
    tied = similarities == best
    good, bad = (tied & right).sum(1), (tied & ~right).sum(1)
    places = (k - above).clamp(min=0)  # among the first k, those that are left to the tied
    return float(1 - _none_of(good.double(), bad.double(), places.double()).mean())


def _none_of(good: Float[Tensor, "q"], bad: Float[Tensor, "q"], places: Float[Tensor, "q"]) -> Float[Tensor, "q"]:
    """The probability that a random order has none of `good` in its first `places`: C(b, p) / C(b + g, p)."""
    fits = places <= bad
    held = torch.where(fits, places, 0.0)
    log = torch.lgamma(bad + 1) - torch.lgamma(bad - held + 1)
    log = log - torch.lgamma(bad + good + 1) + torch.lgamma(bad + good - held + 1)
    return torch.where(fits, log.exp(), 0.0)


@checked
def recalls(
    similarities: Float[Tensor, "i t"], ks: Sequence[int] = (1, 5, 10), right: Bool[Tensor, "i t"] | None = None
) -> dict[str, float]:
    """Recall@k of images for texts and of texts for images.

    `right` says which texts are true of which images; by default image n and text n belong together.  Raises
    ValueError as `recall` does, and for other numbers of images and texts where `right` is not given.
    """
    if right is None:
        if similarities.shape[0] != similarities.shape[1]:
            raise ValueError(f"similarities: expected as many images as texts, got {tuple(similarities.shape)}")
        right = torch.eye(len(similarities), dtype=torch.bool, device=similarities.device)
    found = {}
    for k in ks:
        found[f"image_to_text@{k}"] = recall(similarities, right, k)
        found[f"text_to_image@{k}"] = recall(similarities.T, right.T, k)
    return found


@checked
def modality_gap(images: Float[Tensor, "n d"], texts: Float[Tensor, "m d"]) -> dict[str, float]:
    """How far the pictures' vectors lie from the texts': all as unit vectors.

    `gap` is the distance between the two means, from 0 to 2; `images` and `texts` are the mean cosines within each
    kind, `across` that between the kinds.  Raises ValueError for vectors that are not finite.
    Liang et al. 2022, Mind the gap, section 2.
    """
    a, b = (torch.nn.functional.normalize(check_finite(x, "vectors").double(), dim=1) for x in (images, texts))
    within = {"images": a.mean(0).square().sum(), "texts": b.mean(0).square().sum()}
    cosines = {"gap": (a.mean(0) - b.mean(0)).norm(), **within, "across": a.mean(0) @ b.mean(0)}
    return {name: float(value) for name, value in cosines.items()}
