"""What every detector of words does before and after its network: check images and texts, and turn shares into pixels.

    from gadkit import zoo

    detector = zoo.load("owl-vit")
    found = detector.detect(images, ["a gear", "a red button"])

The two families are `gadkit.objects.owl_vit` and `gadkit.objects.grounding_dino`.

Book: objects/open-vocabulary
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import weights
from gadkit.checks import check_images, check_texts, checked, share
from gadkit.losses.detection import corners
from gadkit.objects.protocols import Boxes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

PIXELS = 1 << 22  # of images that go through the network at once, after they were resized
LAYOUTS = ("processor_config.json", "preprocessor_config.json")  # of today's transformers, and of earlier ones


def asked(texts: Sequence[str]) -> list[str]:
    """Return the texts without space around them.  Raises ValueError for no text, or one that is empty."""
    return [text.strip() for text in check_texts(texts)]


def fitted(text: str, tokenizer: "PreTrainedTokenizerBase", most: int) -> str:
    """The text as far as it fits into `most` tokens, those at its ends included; a warning says what is cut off."""
    held = tokenizer(text, return_offsets_mapping=True)
    if len(held["input_ids"]) <= most:
        return text
    end = held["offset_mapping"][most - 2][1]  # where the last token that fits ends; one place is the end token's
    warnings.warn(
        f"texts: a text of {len(held['input_ids'])} tokens is cut to {most}: {text[end:].strip()!r} is not read",
        stacklevel=4,
    )
    return text[:end].strip()


def at_once(images: UInt8[Tensor, "b 3 h w"], side: int) -> Iterator[UInt8[Tensor, "_ 3 h w"]]:
    """The images in batches that the network can take when they are `side` pixels wide."""
    return iter(check_images(images).split(max(1, PIXELS // side**2)))


@checked
def answer(
    scores: Float[Tensor, "b n q"],
    boxes: Float[Tensor, "b n 4"],
    size: tuple[int, int],
    threshold: float,
) -> list[Boxes]:
    """Of every image the boxes whose best query scores at least `threshold`, the surest first.

    `boxes` are (centre x, centre y, width, height) in shares of an image of `size` (height, width); the answer's are
    (left, top, right, bottom) in pixels, cut at the image's edges, and those without an area are left out.
    """
    share("threshold", threshold, zero=True)
    height, width = size
    far = boxes.new_tensor([width, height, width, height])
    places = (corners(boxes.float()) * far).clamp(min=0).minimum(far)  # (b, n, 4)
    best, labels = scores.float().max(2)  # (b, n)
    found = []
    for score, label, place in zip(best, labels, places, strict=True):
        kept = (score >= threshold) & (place[:, 2:] > place[:, :2]).all(1)
        order = score[kept].argsort(descending=True, stable=True)
        found.append(Boxes(place[kept][order], score[kept][order], label[kept][order]))
    return found


@checked
def without_doubles(found: Boxes, overlap: float = 0.5) -> Boxes:
    """The same answer without boxes that overlap a surer one of the same label by more than `overlap` (IoU)."""
    from torchvision.ops import batched_nms

    share("overlap", overlap)
    kept = batched_nms(found.boxes, found.scores, found.labels, overlap)
    return Boxes(found.boxes[kept], found.scores[kept], found.labels[kept])


def published(
    source: weights.Weights,
    model: type["PreTrainedModel"],
    processor: Callable[..., "ProcessorMixin"],
    file: Path | None,
    cache_dir: str | None,
) -> tuple["PreTrainedModel", "ProcessorMixin"]:
    """A model and its processor by transformers' own `from_pretrained`: from `file`, the cache or the network.

    `file` is the checkpoint in a folder that also holds config.json, the tokenizer's files, and the processor's in
    either layout (`processor_config.json`, or `preprocessor_config.json` of earlier versions).  Raises
    FileNotFoundError where one of them is missing, and `WeightsUnavailable` for what is neither cached nor reachable.
    """
    where: Any = source.id
    if file is not None:
        where = weights.verified(file).parent
        weights.verified(where / "config.json")
        if not any((where / layout).is_file() for layout in LAYOUTS):
            raise FileNotFoundError(f"weights: expected {' or '.join(LAYOUTS)} in {where}, got neither")
    try:
        network = model.from_pretrained(where, cache_dir=cache_dir, weights_only=True)
        return network.eval(), processor(where, cache_dir=cache_dir)
    except OSError as error:
        if file is not None:
            raise ValueError(f"weights: {where} can't be read as {source.id}: {str(error).splitlines()[0]}") from error
        raise weights.unavailable(source, "model.safetensors, config.json or a file of the processor") from error
