"""Candidates for a defect: boxes that texts name, kept or dropped by the part's properties, and a mask of each.

Source: Cao et al., Segment Any Anomaly without Training via Hybrid Prompt Regularization, 2023, sections 3 and 4.1.
Book: anomaly/saa
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gadkit.anomaly.hybrid import HybridPrompts
from gadkit.checks import describe
from gadkit.objects.protocols import Boxes, OpenVocabulary, Promptable

ASKS, AREAS, CHANNELS = ("together", "apart"), ("box", "mask"), ("rgb", "bgr")


@dataclass(frozen=True)
class Candidates:
    """What may be a defect in one image, the surest first: boxes in pixels, scores, masks, and `labels`.

    A label is the place of its text in `texts`.  `parts` are boxes of the part itself, and `part_masks` their masks
    where somebody needs them, else none.  k and p may be 0.
    """

    texts: tuple[str, ...]
    boxes: Float[Tensor, "k 4"]
    scores: Float[Tensor, "k"]
    labels: Int[Tensor, "k"]
    masks: Bool[Tensor, "k h w"]
    parts: Float[Tensor, "p 4"]
    part_masks: Bool[Tensor, "q h w"]


class Proposer:
    """Finds, drops and outlines; `saa.SAA` says what the arguments mean.

    Raises ValueError for anything but an open-vocabulary detector, a promptable segmenter and hybrid prompts.
    """

    def __init__(
        self,
        finder: OpenVocabulary,
        segmenter: Promptable,
        prompts: HybridPrompts,
        object_name: str,
        use: Sequence[str],
        *,
        threshold: float | None,
        asks: str,
        rival: bool,
        area: str,
        channels: str,
        most: int,
        chunk: int,
    ) -> None:
        kinds = {"finder": OpenVocabulary, "segmenter": Promptable, "prompts": HybridPrompts}
        for (what, kind), value in zip(kinds.items(), (finder, segmenter, prompts), strict=True):
            if not isinstance(value, kind):
                raise ValueError(f"{what}: expected one of the kind {kind.__name__}, got {describe(value)}")
        self.finder, self.segmenter, self.prompts, self.use = finder, segmenter, prompts, use
        self.threshold, self.together, self.by_mask = threshold, asks == "together", area == "mask"
        self.channels, self.most, self.chunk = channels, most, chunk
        self.rival = rival and "language" in use
        self.noun, self.texts = prompts.named(object_name), prompts.texts(object_name, "language" in use)
        self.several = "saliency" in use and prompts.count > 1
        self.needs_parts = "property" in use or self.several

    def __call__(self, images: Tensor) -> list[Candidates]:
        """The candidates of each of a few images."""
        found = self._find(images.to(self.finder.device))
        return [self._outlined(image, *boxes) for image, boxes in zip(images, found, strict=True)]

    def _find(self, images: Tensor) -> list[tuple[Boxes, Tensor]]:
        """The boxes of all texts in each image, and those of the part."""
        texts, noun = self.texts, [self.noun]
        rival = noun * self.rival
        if self.together and self.rival:
            answers = self._detect(images, texts + rival)
            return [(_chosen(a, a.labels < len(texts)), a.boxes[a.labels == len(texts)]) for a in answers]
        parts = self._detect(images, noun) if self.needs_parts else None
        if self.together:
            answers = self._detect(images, texts)
            return [(a, a.boxes[:0] if parts is None else parts[i].boxes) for i, a in enumerate(answers)]
        each = [self._detect(images, [text, *rival]) for text in texts]
        found = []
        for i in range(len(images)):
            answers = [_chosen(answers[i], answers[i].labels == 0) for answers in each]
            labels = [torch.full_like(answer.labels, place) for place, answer in enumerate(answers)]
            boxes, scores = (torch.cat([getattr(a, what) for a in answers]) for what in ("boxes", "scores"))
            joined = _chosen(Boxes(boxes, scores, torch.cat(labels)), scores.argsort(descending=True, stable=True))
            found.append((joined, joined.boxes[:0] if parts is None else parts[i].boxes))
        return found

    def _detect(self, images: Tensor, texts: Sequence[str]) -> list[Boxes]:
        return self.finder.detect(images, [*texts], self.threshold)

    def _outlined(self, image: Tensor, boxes: Boxes, parts: Float[Tensor, "p 4"]) -> Candidates:
        """Those of an image's boxes that can be a defect, with their masks."""
        height, width = image.shape[1:]
        boxes = Boxes(*_clipped(boxes.boxes, height, width, boxes.scores, boxes.labels))
        (parts,) = _clipped(parts, height, width)
        properties = "property" in self.use
        if properties:
            parts = parts[_areas(parts) < height * width / self.prompts.count]
            boxes = _chosen(boxes, self._placed(boxes.boxes, parts))
            if not self.by_mask:
                boxes = _chosen(boxes, _areas(boxes.boxes) < self._limit(_areas(parts), height * width))
        boxes = _chosen(boxes, slice(self.most))
        parts = parts[: self.most]
        outlined = parts if self.several or (properties and self.by_mask) else parts[:0]
        masks = self._masks(image, torch.cat([outlined, boxes.boxes]))
        part_masks, masks = masks[: len(outlined)], masks[len(outlined) :].to(boxes.scores.device)
        if properties and self.by_mask:
            small = masks.sum((1, 2)) < self._limit(part_masks.sum((1, 2)), height * width)
            boxes, masks = _chosen(boxes, small), masks[small]
        return Candidates(tuple(self.texts), boxes.boxes, boxes.scores, boxes.labels, masks, parts, part_masks)

    def _limit(self, areas: Tensor, image: int) -> float:
        """The area in pixels that a defect stays below."""
        return self.prompts.area * (float(areas.max()) if len(areas) else image)

    def _placed(self, boxes: Float[Tensor, "k 4"], parts: Float[Tensor, "p 4"]) -> Bool[Tensor, "k"]:
        """Which boxes lie within a part as far as they should; all where no part was found."""
        if not len(parts):
            return boxes.new_ones(len(boxes), dtype=torch.bool)
        least, most = torch.maximum(boxes[:, None, :2], parts[:, :2]), torch.minimum(boxes[:, None, 2:], parts[:, 2:])
        inside = (most - least).clamp(min=0).prod(2)  # (k, p)
        return inside.amax(1) >= self.prompts.inside * _areas(boxes)

    def _masks(self, image: Tensor, boxes: Float[Tensor, "n 4"]) -> Bool[Tensor, "n h w"]:
        """A mask of each box; the image is encoded once."""
        if not len(boxes):
            return image.new_zeros((0, *image.shape[1:]), dtype=torch.bool)
        segmenter = self.segmenter.set_image(coloured(image, self.channels).to(self.segmenter.device))
        groups = boxes.float().to(segmenter.device).split(self.chunk)
        return torch.cat([segmenter.predict(boxes=some, several=False).masks[:, 0] for some in groups])


def coloured(images: UInt8[Tensor, "*b 3 h w"], channels: str) -> UInt8[Tensor, "*b 3 h w"]:
    """Images with their colours in the order of `channels`, "rgb" or "bgr"."""
    return images if channels == "rgb" else images.flip(-3)


def covered(boxes: Boxes, side: int, cells: int) -> Float[Tensor, "cells cells"]:
    """How much of each cell of a square image boxes cover, in cells, each box weighed by its score."""
    edges = torch.linspace(0, side, cells + 1, device=boxes.boxes.device)
    across, down = (
        (torch.minimum(boxes.boxes[:, i + 2, None], edges[1:]) - torch.maximum(boxes.boxes[:, i, None], edges[:-1]))
        .clamp(min=0)
        .mul(cells / side)
        for i in (0, 1)
    )  # (k, cells) each
    return torch.einsum("k,kr,kc->rc", boxes.scores, down, across)


def _chosen(boxes: Boxes, which: Tensor | slice) -> Boxes:
    return Boxes(boxes.boxes[which], boxes.scores[which], boxes.labels[which])


def _areas(boxes: Float[Tensor, "k 4"]) -> Float[Tensor, "k"]:
    return (boxes[:, 2:] - boxes[:, :2]).prod(1)


def _clipped(boxes: Float[Tensor, "k 4"], height: int, width: int, *beside: Tensor) -> list[Tensor]:
    """Boxes within the image, without those of which nothing is left, and what belongs to each."""
    limits = boxes.new_tensor([width, height, width, height])
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    left = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return [values[left] for values in (boxes, *beside)]
