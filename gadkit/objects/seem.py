"""SEEM's idea, small: clicks, boxes, scribbles, words and regions of other images as prompts of one decoder.

    >>> from gadkit import zoo
    >>> from gadkit.factory import scenes
    >>> some = scenes.render(1, split="development")
    >>> model = zoo.load("seem").set_image(some.images[0])
    >>> left, top, right, bottom = some.things[0][0].box
    >>> tuple(model.predict(boxes=torch.tensor([some.things[0][0].box]), several=False).masks.shape)
    (1, 1, 128, 128)

What was published is a decoder of 100 object queries on a large pretrained backbone; what is built here has the same
parts, small, and was written for this book.

Source: Zou et al. 2023, Segment Everything Everywhere All at Once.
Book: objects/seem
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from gadkit import weights
from gadkit.backbones.tiny import tokenizer
from gadkit.checks import check_images, check_texts, checked, whole
from gadkit.objects import eyes
from gadkit.objects.protocols import Masks, Segments
from gadkit.objects.seem_network import BOX, NONE, OFF, ON, REGION, SCRIBBLE, Answer, Config, Encoded, Network, Prompts

GRID = 4  # points a side that a box is sampled at
SAMPLES = 16  # points that a region is sampled at
SEVERAL = 3  # masks of a prompt
SURE = 0.5  # IoU that a query has to expect of its mask to be shown when nothing is asked for
_tokenizer = cache(tokenizer)
Region = tuple[UInt8[Tensor, "3 h w"], Bool[Tensor, "h w"]]


class SEEM:
    """A promptable segmenter whose prompts may be combined: all that is given of a prompt describes one object."""

    def __init__(self, network: Network, sight: eyes.Eyes) -> None:
        self.network, self.eyes = network.eval(), sight
        self.image_size: int = network.config.size
        self._image: Encoded | None = None
        self._shape = (0, 0)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.network.query.device

    @torch.no_grad()
    def set_image(self, image: UInt8[Tensor, "3 h w"]) -> "SEEM":
        """Encode an image: the expensive thing, once."""
        self._shape = tuple(check_images(image[None] if image.ndim == 3 else image, "image").shape[2:])
        self._image = self._encode(image)
        return self

    def _encode(self, image: UInt8[Tensor, "3 h w"]) -> Encoded:
        return self.network.encode(self.eyes(eyes.prepare(image[None], self.image_size).to(self.device)))

    @torch.no_grad()
    def predict(
        self,
        points: Float[Tensor, "p n 2"] | None = None,
        labels: Int[Tensor, "p n"] | None = None,
        boxes: Float[Tensor, "p 4"] | None = None,
        logits: Float[Tensor, "p l l"] | None = None,
        several: bool = True,
        *,
        text: str | Sequence[str] | None = None,
        scribbles: Float[Tensor, "p k 2"] | None = None,
        region: Region | None = None,
    ) -> Masks:
        """Masks for p prompts on the image that was set, each described by all that is given of it.

        `points` are clicks (label 1 on the object, 0 off it), `scribbles` points along a stroke on it, all in pixels.
        `text` names it, `region` is another image and the mask of an object like it; both may stand for all prompts.
        `logits` are those of an earlier answer: the memory of the turn before.  `several` asks for three masks a
        prompt, the best match first, else one.

        Raises RuntimeError before `set_image`, and ValueError for no prompt, one outside the image, a box that is
        upside down, an empty text or region, and a text beyond the context.
        """
        if self._image is None:
            raise RuntimeError("set_image: expected an image before the first prompt, got none")
        given = (points, boxes, scribbles, logits)
        count = next(
            (len(some) for some in given if some is not None), 1 if isinstance(text, str) else len(text or "x")
        )
        if all(some is None for some in (points, boxes, scribbles, text, region)) or not count:
            raise ValueError("predict: expected points, boxes, scribbles, a text or a region, got none")
        places, kinds = self._points(points, labels, boxes, scribbles, count)
        image = self._image
        if region is not None:
            image, places, kinds = self._with_region(region, places, kinds)
        rows = torch.zeros(count, dtype=torch.long)
        prompts = Prompts(
            rows, places, kinds, rows + (region is not None), self._texts(text, count), self._past(logits, count)
        )
        return self._masks(self.network(image, _on(prompts, self.device)), SEVERAL if several else 1)

    @torch.no_grad()
    def everything(self, texts: Sequence[str], threshold: float = SURE) -> Segments:
        """All objects that the queries find without a prompt, each with the place of the text that fits it best.

        `threshold` is the least IoU that a query expects of its mask.  Raises as `predict` does.
        """
        if self._image is None:
            raise RuntimeError("set_image: expected an image before the first prompt, got none")
        words = self.network.name(self._texts(check_texts(texts), len(texts)).to(self.device))
        rows = torch.zeros(1, dtype=torch.long)
        nothing = Prompts(
            rows, torch.zeros(1, 1, 2), torch.full((1, 1), NONE), rows, self._texts(None, 1), self._past(None, 1)
        )
        answer = self.network(self._image, _on(nothing, self.device))
        masks, iou = self._full(answer.masks)[0] > 0, answer.iou[0].sigmoid()
        order = iou.argsort(descending=True)
        kept = [n for n in order.tolist() if iou[n] >= threshold and masks[n].any()]
        chosen = torch.tensor(_distinct(masks, kept), dtype=torch.long, device=masks.device)
        labels = (F.normalize(answer.concept[0, chosen], dim=-1) @ words.T).argmax(1)
        return Segments(masks[chosen], labels, iou[chosen])

    def _full(self, masks: Float[Tensor, "r q l l"]) -> Float[Tensor, "r q h w"]:
        return F.interpolate(masks, self._shape, mode="bilinear")

    def _masks(self, answer: Answer, count: int) -> Masks:
        best = answer.match.topk(count, 1).indices  # (p, m)
        rows = torch.arange(len(best), device=best.device)[:, None]
        logits = answer.masks[rows, best]
        return Masks(self._full(logits) > 0, answer.iou[rows, best].sigmoid(), logits)

    def _points(self, points, labels, boxes, scribbles, count: int) -> tuple[Tensor, Tensor]:
        """All visual prompts as points in shares of width and height, with their kinds."""
        places, kinds = [], []
        if points is not None:
            labels = torch.ones(points.shape[:2], dtype=torch.long) if labels is None else labels.cpu()
            if labels.shape != points.shape[:2] or not ((labels == 0) | (labels == 1)).all():
                raise ValueError(f"labels: expected 0 or 1 for each of {tuple(points.shape[:2])} points, got {labels}")
            places.append(self._inside(points, "points")), kinds.append(torch.where(labels == 1, ON, OFF))
        elif labels is not None:
            raise ValueError("labels: expected points beside them, got none")
        if boxes is not None:
            corners = self._inside(boxes.unflatten(1, (2, 2)), "boxes")
            if not (corners[:, 0] < corners[:, 1]).all():
                raise ValueError(f"boxes: expected (left, top, right, bottom), got {boxes.tolist()}")
            places.append(box_points(corners))
            kinds.append(torch.full(places[-1].shape[:2], BOX))
        if scribbles is not None:
            places.append(self._inside(scribbles, "scribbles")), kinds.append(torch.full(scribbles.shape[:2], SCRIBBLE))
        if any(len(some) != count for some in places):
            raise ValueError(f"predict: expected as many of each prompt, got {[len(some) for some in places]}")
        if not places or not sum(some.shape[1] for some in places):
            return torch.zeros(count, 1, 2), torch.full((count, 1), NONE)
        return torch.cat(places, 1), torch.cat(kinds, 1)

    def _inside(self, points: Tensor, what: str) -> Tensor:
        """Points in pixels as shares of the image."""
        h, w = self._shape
        shares = points.detach().cpu().float() / torch.tensor([w, h])
        if not ((shares >= 0) & (shares <= 1)).all():
            raise ValueError(f"{what}: expected places within {w} x {h} pixels, got {points.tolist()}")
        return shares

    def _texts(self, text: str | Sequence[str] | None, count: int) -> Int[Tensor, "p t"]:
        if text is None:
            return torch.zeros(count, 1, dtype=torch.long)
        said = [text] * count if isinstance(text, str) else check_texts(text, "text")
        if len(said) != count or not all(one.strip() for one in said):
            raise ValueError(f"text: expected one for each of {count} prompts, none empty, got {said}")
        return text_ids(said, self.network.config.words)

    def _past(self, logits: Tensor | None, count: int) -> Float[Tensor, "p l l"]:
        if logits is None:
            return torch.full((count, 1, 1), float("nan"))
        if len(logits) != count:
            raise ValueError(f"logits: expected one for each of {count} prompts, got {len(logits)}")
        return logits.float()

    def _with_region(self, region: Region, places: Tensor, kinds: Tensor) -> tuple[Encoded, Tensor, Tensor]:
        """The image beside the region's, and the region's points beside the others."""
        other, mask = region
        if mask.shape != other.shape[1:] or not mask.any():
            raise ValueError(
                f"region: expected an image and a mask of its size that is not empty, got {mask.sum()} pixels"
            )
        mine, theirs = self._image, self._encode(other)
        both = Encoded(
            torch.cat([mine.fine, theirs.fine]),
            tuple(torch.cat(pair) for pair in zip(mine.levels, theirs.levels, strict=True)),
        )
        some = region_points(mask.cpu()).expand(len(places), -1, -1)
        return both, torch.cat([places, some], 1), torch.cat([kinds, torch.full(some.shape[:2], REGION)], 1)


def box_points(corners: Float[Tensor, "p 2 2"]) -> Float[Tensor, "p _ 2"]:
    """A grid of points that spans each box."""
    t = torch.linspace(0, 1, GRID)
    steps = torch.stack([t.repeat(GRID), t.repeat_interleave(GRID)], 1)  # (16, 2)
    return torch.lerp(corners[:, :1], corners[:, 1:], steps)


def region_points(mask: Bool[Tensor, "h w"]) -> Float[Tensor, "n 2"]:
    """Points spread over a mask, as shares of its image."""
    places = mask.nonzero()
    some = places[torch.linspace(0, len(places) - 1, SAMPLES).round().long()]
    return (some.flip(1) + 0.5) / torch.tensor([mask.shape[1], mask.shape[0]])


@checked
def text_ids(texts: Sequence[str], words: int) -> Int[Tensor, "n t"]:
    """Token ids, 0 behind the end.  Raises ValueError for a text that does not fit, and says what would be cut."""
    tokenize = _tokenizer()
    whole("words", words, 3, tokenize.context_length)
    for text in check_texts(texts):
        if len(ids := tokenize.encode(text)) > words - 2:
            cut = tokenize.decode(ids[words - 2 :]).strip()
            raise ValueError(f"text: expected at most {words - 2} tokens, got {len(ids)}; {cut!r} would be cut off")
    return tokenize(list(texts))[:, :words]


def _distinct(masks: Bool[Tensor, "q h w"], order: list[int], most: float = 0.5) -> list[int]:
    """Those masks of an order that no earlier one shares more than half of their joint area with."""
    kept: list[int] = []
    for n in order:
        if all((masks[n] & masks[k]).sum() <= most * (masks[n] | masks[k]).sum() for k in kept):
            kept.append(n)
    return kept


def _on(prompts: Prompts, where: torch.device) -> Prompts:
    return Prompts(**{name: value.to(where) for name, value in vars(prompts).items()})


def save(network: Network, path: Path, sight: str = eyes.NAMES[0]) -> None:
    """Write half-precision weights with architecture and eyes in the header; the file is whole or not there."""
    weights.write(network.state_dict(), path, {"seem": json.dumps(asdict(network.config)), "eyes": sight})


def load(source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None) -> SEEM:
    """The small SEEM from `file` or the shipped checkpoint, or the same untrained.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged one or another model's.
    """
    untrained = source.options.get("random", False)
    name = eyes.NAMES[1]
    path, config = file or weights.ASSETS / f"{source.id}.safetensors", Config()
    if not untrained:
        held = weights.header(path)
        try:
            config, name = Config(**json.loads(held["seem"])), held.get("eyes", eyes.NAMES[0])
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"weights: expected those of the small SEEM in {path.name}, got others") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(config)
    if not untrained:
        weights.fill(network, weights.read(path), "the small SEEM")
    return SEEM(network.to(where).requires_grad_(False), eyes.build(name).to(where))
