"""SAA and SAA+: defects that words name, outlined by a segmenter, and weighed by what stands out in the image.

An open-vocabulary detector looks for texts such as "defect on nut" and gives boxes; a promptable segmenter turns each
box into a mask.  That is SAA.  SAA+ adds four kinds of prompts, each of which can be left out (`KINDS`): texts for this
part, properties of part and defects, saliency, and how many candidates to believe.

Source: Cao et al., Segment Any Anomaly without Training via Hybrid Prompt Regularization, 2023.
Book: anomaly/saa
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.anomaly.detectors.base import SAME, Base, check_backbone
from gadkit.anomaly.detectors.made_up import maps_of
from gadkit.anomaly.detectors.parts import refused
from gadkit.anomaly.detectors.patches import fineness
from gadkit.anomaly.detectors.proposals import AREAS, ASKS, CHANNELS, Candidates, Proposer, coloured, covered
from gadkit.anomaly.hybrid import PLAIN, HybridPrompts
from gadkit.anomaly.maps import upsample
from gadkit.anomaly.saliency import NEIGHBOURS, TOP, aggregate, object_saliency, rescore, self_saliency
from gadkit.checks import check_finite, check_images, one_of, positive, share, whole
from gadkit.objects.protocols import OpenVocabulary, Promptable
from gadkit.protocols import AnomalyResult, Backbone, DetectorState

KINDS = ("language", "property", "saliency", "confidence")
MERGES, FINER = ("unit", "raw"), ("average", "own")
S = TypeVar("S", bound="SAA")


class NothingFound(UserWarning):
    """Images in which nothing was found: their maps are 0 everywhere, which is not the same as "no defect"."""


class SAA(Base):
    """Zero-shot detection by an open-vocabulary detector, the `finder`, and a promptable `segmenter`.

    `object_name`  what the images show, as a noun: "metal nut".
    `finder`       finds the boxes of texts.
    `segmenter`    makes a mask of each box.
    `prompts`      texts and properties of the part; any `HybridPrompts`.
    `use`          the kinds of prompts in force, of `KINDS`; all make SAA+, none makes SAA.  "language": the part's own
                   texts beside the general ones.
                   "property": areas, and the place within the part.  "saliency": a candidate that stands out counts
                   more.  "confidence": only the best candidates count.
    `threshold`    least score of a box; None: the finder's own.
    `asks`         "together": all texts in one pass of the finder; "apart": one pass for each, as in the reference.
    `rival`        with "language", whether the part's name takes part in each pass: what it fits best is no defect.
                   On development it costs more defects than false alarms.
    `area`         of a candidate and of the part: that of its "box", as in the reference, or of its "mask".
    `layers`       the backbone's layers that describe a spot; None takes its `patch_layers`.
    `merge`        of layers: each of length one ("unit"), or as they are and then of length one ("raw").
    `finer`        spots: patches, as the "average" of finer features in them, or the finest layer's "own" grid.
    `neighbours`   of a spot that is compared with its own image: the "farthest", as in the reference, or the "nearest".
    `top`          share of the spots that are such neighbours.
    `sharpness`    of the exponential by which saliency weighs.
    `zeroed`       whether spots that two parts share are zeros for the other one, as in the reference.
    `shrink`       whether one more candidate of score 0 takes part in each pixel's mean, as in the reference.
    `channels`     in which order the segmenter and the backbone get colours; the reference gives them "bgr".
    `most`         candidates an image, those of the highest boxes' scores; features are padded to so many.
    `chunk`        images the finder gets at once, and boxes the segmenter gets at once: bounds the memory only.

    Where an image shows several parts and at least two are found, a spot is compared with the other parts' spots, else
    with those of its own image.  Where no part is found, the whole image is taken for it.  An image without a candidate
    has a map of zeros.  `score` warns of both (`NothingFound`).  The score is the largest value of the map.

    Encoded are, of the candidates, `boxes` (b, most, 4), `scores` and `labels` (b, most), -1 where there is none,
    `masks` (b, most, h, w); the number of `parts` (b); and with saliency `saliency` (b, r, c).  Nothing is learnt.
    Raises ValueError for arguments outside these.
    """

    others: ClassVar[tuple[str, ...]] = ("finder", "segmenter")

    def __init__(
        self,
        backbone: Backbone,
        object_name: str,
        finder: OpenVocabulary,
        segmenter: Promptable,
        *,
        prompts: HybridPrompts = PLAIN,
        use: Sequence[str] = KINDS,
        threshold: float | None = 0.1,
        asks: str = "together",
        rival: bool = False,
        area: str = "box",
        layers: Sequence[int] | None = None,
        merge: str = "unit",
        finer: str = "average",
        neighbours: str = "farthest",
        top: float = TOP,
        sharpness: float = 3.0,
        zeroed: bool = False,
        shrink: bool = True,
        channels: str = "rgb",
        most: int = 50,
        chunk: int = 8,
    ) -> None:
        check_backbone(backbone)
        if not isinstance(use, tuple | list):
            raise ValueError(f"use: expected a tuple of {', '.join(KINDS)}, got {use!r}")
        self.backbone, self.finder, self.segmenter = backbone, finder, segmenter
        self.object_name, self.prompts = object_name, prompts
        self.use = tuple(one_of("use", kind, KINDS) for kind in use)
        self.threshold = None if threshold is None else share("threshold", threshold)
        self.asks, self.area = one_of("asks", asks, ASKS), one_of("area", area, AREAS)
        self.layers = tuple(backbone.patch_layers if layers is None else layers)
        self.merge, self.finer = one_of("merge", merge, MERGES), one_of("finer", finer, FINER)
        self.neighbours, self.top = one_of("neighbours", neighbours, NEIGHBOURS), share("top", top)
        self.sharpness, self.channels = positive("sharpness", sharpness), one_of("channels", channels, CHANNELS)
        self.rival, self.zeroed, self.shrink = bool(rival), bool(zeroed), bool(shrink)
        self.most, self.chunk = whole("most", most), whole("chunk", chunk)
        passed = {
            name: getattr(self, name) for name in ("threshold", "asks", "rival", "area", "channels", "most", "chunk")
        }
        self._proposer = Proposer(finder, segmenter, prompts, object_name, self.use, **passed)

    @property
    def image_size(self) -> int:
        """The larger of the sides in pixels that the backbone and the segmenter encode."""
        return max(self.backbone.image_size, self.segmenter.image_size)

    @property
    def map_range(self) -> tuple[float, float]:
        """Scores of boxes, halved where they shrink; saliency can more than double them."""
        return (0.0, 1.0) if "saliency" in self.use else (0.0, 0.5)

    def explain(self) -> str:
        """How the scores came about."""
        words = f"In each image what words for defects of {self.prompts.named(self.object_name)} name was looked for"
        return words + ", and weighed by how it stands out" * ("saliency" in self.use)

    @torch.no_grad()
    def propose(self, images: UInt8[Tensor, "b 3 h w"]) -> list[Candidates]:
        """The candidates of each image, before saliency weighs them; an image may have none.

        Raises ValueError for anything but a batch of uint8 RGB images.
        """
        return [found for some in check_images(images).split(self.chunk) for found in self._proposer(some)]

    def load_state(self: S, state: DetectorState) -> S:
        """As the base class has it; the state also knows the finder and the segmenter."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NothingFound)  # in the picture by which networks are compared
            return super().load_state(state)

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        refused(normal, self)

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        found, where = self._proposer(images), self.backbone.device
        padded = {name: torch.stack([_padded(getattr(one, name), self.most) for one in found]) for name in
                  ("boxes", "scores", "masks")}  # fmt: skip
        labels = torch.stack([_padded(one.labels + 1, self.most) - 1 for one in found])
        features = padded | {"labels": labels, "parts": torch.tensor([len(one.parts) for one in found])}
        if "saliency" in self.use:
            features["saliency"] = self._saliency(images, found)
        return {name: values.to(where) for name, values in features.items()}

    def _saliency(self, images: Tensor, found: Sequence[Candidates]) -> Float[Tensor, "b r c"]:
        """How much each spot stands out, on the grid of spots."""
        spots, grid = self._spots(images)  # (b, n, e)
        maps = []
        for one, features in zip(found, spots, strict=True):
            if self.prompts.count > 1 and len(one.part_masks) > 1:
                masks = F.interpolate(one.part_masks[None].float(), grid)[0].flatten(1).bool().to(features.device)
                maps.append(object_saliency(features, masks, self.zeroed))
            else:
                maps.append(self_saliency(features, self.top, self.neighbours))
        return torch.stack(maps).unflatten(1, grid)

    def _spots(self, images: Tensor) -> tuple[Float[Tensor, "b n e"], tuple[int, int]]:
        """Unit vectors of spots, and their grid."""
        prepared = self.backbone.preprocess(coloured(images, self.channels).to(self.backbone.device))
        tokens = self.backbone.encode_image(prepared, self.layers)
        maps = maps_of(tokens.patches, fineness(self.backbone, self.layers), tokens.grid)  # (b, e, r, c) a layer
        grid = tokens.grid if self.finer == "average" else max(tuple(x.shape[2:]) for x in maps)
        if self.finer == "average":
            maps = [F.adaptive_avg_pool2d(x.float(), grid) for x in maps]
        else:
            maps = [F.interpolate(x.float(), grid) for x in maps]  # the nearest spot
        if self.merge == "unit":
            maps = [F.normalize(x, dim=1) for x in maps]
        return F.normalize(torch.cat(maps, 1), dim=1).flatten(2).mT, grid

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        there, maps = features["labels"] >= 0, []
        for i, real in enumerate(there):
            scores, masks = features["scores"][i][real], features["masks"][i][real]
            if "saliency" in self.use:
                scores = rescore(scores, masks, upsample(features["saliency"][i : i + 1], size)[0], self.sharpness)
            if "confidence" in self.use:
                best = scores.topk(min(self.prompts.keep, len(scores))).indices
                scores, masks = scores[best], masks[best]
            maps.append(aggregate(scores, masks, self.shrink))
        self._warn(there.any(1), features["parts"] > 0)
        found = torch.stack(maps)
        return AnomalyResult(found, found.amax((1, 2)))

    def _warn(self, defects: Tensor, parts: Tensor) -> None:
        """Warn of images without a candidate, and of images without the part where it was looked for."""
        if empty := int((~defects).sum()):
            warnings.warn(f"nothing was found in {empty} of {len(defects)} images: their maps are 0", NothingFound, 2)
        if self._proposer.needs_parts and (lost := int((~parts).sum())):
            name = self.prompts.named(self.object_name)
            text = f"no {name} was found in {lost} of {len(parts)} images: the whole image is taken for it"
            warnings.warn(text, NothingFound, 2)

    def _names(self) -> tuple[str, ...]:
        return ("boxes", "scores", "labels", "masks", "parts", *("saliency",) * ("saliency" in self.use))

    def _group(self) -> int:
        return self.chunk

    def _learnt(self) -> dict[str, Tensor]:
        """Nothing; but the finder's and the segmenter's answers to a fixed picture, by which they are known again."""
        picture = self._picture()[0]
        side = picture.shape[-1]
        boxes = self.finder.detect(picture[None].to(self.finder.device), [self.object_name], self.threshold)[0]
        middle = torch.tensor([[0.25, 0.25, 0.75, 0.75]], device=self.segmenter.device) * side
        segmenter = self.segmenter.set_image(picture.to(self.segmenter.device))
        logits = segmenter.predict(boxes=middle, several=False).logits[0]  # (1, l, l)
        shape = F.adaptive_avg_pool2d(logits.float(), 8).flatten()
        return {"answers": torch.stack([covered(boxes, side, 8).flatten().cpu(), shape.cpu()])}  # (2, 64)

    def _take(self, tensors: dict[str, Tensor]) -> None:
        was, own = check_finite(tensors["answers"].cpu(), "state: answers, which have no"), self._learnt()["answers"]
        if was.shape != own.shape:
            raise RuntimeError(f"answers of shape {tuple(own.shape)} expected, got {tuple(was.shape)}")
        alike = (torch.cosine_similarity(was, own) >= SAME) | torch.isclose(was, own).all(1)
        if not alike.all():
            other = self.others[int((~alike).nonzero()[0])]
            raise ValueError(f"state: expected one that was made with this {other}, got one of another")

    def _parsed(self, name: str, value: Any) -> Any:
        return HybridPrompts.of(value, "state: prompts") if name == "prompts" else super()._parsed(name, value)


def _padded(values: Tensor, count: int) -> Tensor:
    """Rows of zeros behind a tensor's own, so that there are `count`."""
    return torch.cat([values, values.new_zeros((count - len(values), *values.shape[1:]))])
