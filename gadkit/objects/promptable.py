"""SAM behind the contract of a promptable segmenter: the image is encoded once, prompts are answered many times.

    >>> import torch
    >>> from gadkit import zoo
    >>> segmenter = zoo.load("sam").set_image(torch.zeros(3, 90, 120, dtype=torch.uint8))
    >>> segmenter.predict(torch.tensor([[[60.0, 45.0]]])).masks.shape
    torch.Size([1, 3, 90, 120])

Source: Kirillov et al., Segment Anything, ICCV 2023; masks are those of its package's `SamPredictor`.
Book: objects/sam
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gadkit import weights
from gadkit.checks import check_finite, check_images, checked, describe
from gadkit.objects.architecture import SamConfig, build_sam, decode, read
from gadkit.objects.protocols import Masks

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

PUBLISHED = ("vit_b", "vit_l", "vit_h")


@dataclass(frozen=True)
class Given:
    """What was given of p prompts, in the terms of `Promptable.predict`."""

    points: Float[Tensor, "p n 2"] | None = None
    labels: Int[Tensor, "p n"] | None = None
    boxes: Float[Tensor, "p 4"] | None = None
    logits: Float[Tensor, "p l l"] | None = None


class OneImage:
    """The image that was set, and prompts about it: what SAM and SAM 2 do alike.

    Those that inherit have `device` and `image_size`, the `side` of the logits that they take back, and say how they
    encode an image, answer prompts, and enlarge logits.
    """

    side: int
    original: tuple[int, int] = (0, 0)  # height and width of the image that was set
    _embedding: Tensor | list[Tensor] | None = None

    @property
    def embedding(self) -> Tensor | list[Tensor]:
        """The encoded image.  Raises RuntimeError before `set_image`."""
        if self._embedding is None:
            raise RuntimeError("predict: expected an image first; set_image encodes it")
        return self._embedding

    @checked
    @torch.no_grad()
    def set_image(self, image: UInt8[Tensor, "3 h w"]) -> "OneImage":
        """Encode an image.  Raises ValueError for something else than one RGB image."""
        if not isinstance(image, Tensor) or image.ndim != 3:
            raise ValueError(f"image: expected a uint8 tensor of shape (3, h, w), got {describe(image)}")
        check_images(image[None], "image")
        self.original = tuple(image.shape[1:])
        self._embedding = self._encode(image)
        return self

    @checked
    @torch.no_grad()
    def predict(
        self,
        points: Float[Tensor, "p n 2"] | None = None,
        labels: Int[Tensor, "p n"] | None = None,
        boxes: Float[Tensor, "p 4"] | None = None,
        logits: Float[Tensor, "p l l"] | None = None,
        several: bool = True,
    ) -> Masks:
        """Masks for p prompts on the image that was set: clicks (label 1 on the object, 0 off it), boxes or both.

        Points without labels are on the object.  `several` asks for three masks a prompt (whole, part, part of a
        part), else one.  `logits` are those of an earlier answer, given beside the prompt.

        Raises RuntimeError before `set_image`, and ValueError for no prompt, one outside the image, a box that is
        upside down, another label than 0 or 1, or prompts that differ in number.
        """
        masks, iou = self.decode(Given(points, labels, boxes, logits), several)
        return Masks(self.enlarge(masks) > 0, iou, masks)

    @torch.no_grad()
    def decode(self, given: Given, several: bool = True) -> tuple[Float[Tensor, "p m l l"], Float[Tensor, "p m"]]:
        """`predict` without enlarging: the logits of the masks, and the IoU that is expected of each."""
        embedding = self.embedding
        return self._answer(embedding, check_prompts(given, self.original, self.side, self.device), several)


class SAM(OneImage):
    """A SAM of segment_anything, frozen, as a `Promptable`.

    Coordinates go to the network as its `SamPredictor` hands them on: scaled to the side that the network sees.
    """

    @checked
    def __init__(self, sam: "Sam") -> None:
        from segment_anything.utils.transforms import ResizeLongestSide

        self.sam = sam.eval().requires_grad_(False)
        self.image_size: int = sam.image_encoder.img_size
        self.side = sam.prompt_encoder.mask_input_size[0]
        self._resize = ResizeLongestSide(self.image_size)
        self.resized: tuple[int, int] = (0, 0)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.sam.device

    def _encode(self, image: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "1 c g g"]:
        small = self._resize.apply_image(image.permute(1, 2, 0).cpu().numpy())
        small = torch.as_tensor(small, device=self.device).permute(2, 0, 1)
        self.resized = tuple(small.shape[1:])
        return self.sam.image_encoder(self.sam.preprocess(small[None].float()))

    def _answer(self, embedding: Float[Tensor, "1 c g g"], given: Given, several: bool) -> tuple[Tensor, Tensor]:
        scale = torch.tensor([n / o for n, o in zip(self.resized[::-1], self.original[::-1], strict=True)])
        scale = scale.to(self.device)
        points = None if given.points is None else (given.points * scale, given.labels)
        boxes = None if given.boxes is None else given.boxes * scale.repeat(2)
        sparse, dense = self.sam.prompt_encoder(points, boxes, None if given.logits is None else given.logits[:, None])
        masks, iou = decode(self.sam, embedding, sparse, dense)
        used = slice(1, None) if several else slice(0, 1)
        return masks[:, used], iou[:, used]

    def enlarge(self, masks: Float[Tensor, "p m l l"]) -> Float[Tensor, "p m h w"]:
        """Logits at the size of the image that was set."""
        return self.sam.postprocess_masks(masks, self.resized, self.original)


def check_prompts(given: Given, shape: tuple[int, int], side: int, where: torch.device) -> Given:
    """The prompts on a device, for an image of `shape` (height, width) and logits of `side`; labels beside all points.

    Raises ValueError as `SAM.predict` says.
    """
    points, labels, boxes, logits = given.points, given.labels, given.boxes, given.logits
    if labels is not None and points is None:
        raise ValueError("labels: expected points with them, got none")
    if points is None and boxes is None:
        raise ValueError("prompt: expected points, boxes or both, got neither")
    height, width = shape
    if points is not None:
        points = _numbers("points", points, 3, 2, where)
        labels = torch.ones(points.shape[:2], dtype=torch.long) if labels is None else labels
        if tuple(labels.shape) != tuple(points.shape[:2]) or not bool(((labels == 0) | (labels == 1)).all()):
            expected = f"0 or 1 for each of {tuple(points.shape[:2])} points"
            raise ValueError(f"labels: expected {expected}, got {describe(labels)} with {labels.unique().tolist()}")
        labels = labels.to(where)
        _inside("points", points, width, height)
    if boxes is not None:
        boxes = _numbers("boxes", boxes, 2, 4, where)
        if not bool((boxes[:, :2] < boxes[:, 2:]).all()):
            raise ValueError(f"boxes: expected left < right and top < bottom, got {_first(boxes)}")
        _inside("boxes", boxes.view(-1, 2, 2), width, height)
    if logits is not None:
        logits = logits.to(where)
        if logits.ndim != 3 or tuple(logits.shape[1:]) != (side, side):
            raise ValueError(f"logits: expected shape (p, {side}, {side}), got {tuple(logits.shape)}")
        check_finite(logits, "logits")
    counts = {len(some) for some in (points, boxes, logits) if some is not None}
    if len(counts) > 1:
        raise ValueError(f"prompt: expected as many points as boxes and logits, got {sorted(counts)}")
    return Given(points, labels, boxes, logits)


def _numbers(what: str, given: Tensor, axes: int, last: int, where: torch.device) -> Tensor:
    """A prompt as floats.  Raises ValueError for another shape, none at all, or what is not a number."""
    if given.ndim != axes or given.shape[-1] != last or not given.numel():
        shape = "(p, n, 2), p and n from 1" if axes == 3 else "(p, 4), p from 1"
        raise ValueError(f"{what}: expected shape {shape}, got {tuple(given.shape)}")
    return check_finite(given.float(), what).to(where)


def _inside(what: str, places: Tensor, width: int, height: int) -> None:
    edge = torch.tensor([width, height], device=places.device)
    if not bool(((places >= 0) & (places <= edge)).all()):
        outside = places[((places < 0) | (places > edge)).any(-1)]
        raise ValueError(f"{what}: expected them inside the image, {width} x {height}, got {_first(outside)}")


def _first(rows: Tensor) -> list[float]:
    return [round(float(value), 2) for value in rows.flatten(0, -2)[0]]


def load(source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None) -> SAM:
    """The small SAM from `file` or the shipped weights, untrained if the row says `random`; or a published one.

    Published ones (`vit_b`, `vit_l`, `vit_h`) are read from `file`, or from `cache_dir` or torch's own cache, by
    segment_anything's registry.  Raises `WeightsUnavailable` where there is none, FileNotFoundError for a `file` that
    is not there, ValueError for a damaged one or another network's.
    """
    if (kind := source.options.get("kind")) in PUBLISHED:
        return SAM(_published(source, kind, file, cache_dir).to(where))
    if source.options.get("random"):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return SAM(build_sam(SamConfig(**source.options.get("config", {}))).eval().to(where))
    return SAM(read(file or weights.ASSETS / f"{source.id}.safetensors").to(where))


def _published(source: weights.Weights, kind: str, file: Path | None, cache_dir: str | None) -> "Sam":
    """A registry's network, filled from a local file."""
    from segment_anything import sam_model_registry

    name = source.id.rsplit("/", 1)[1]
    path = file or Path(cache_dir or Path(torch.hub.get_dir()) / "checkpoints") / name
    if file is None and not path.is_file():
        raise weights.unavailable(source, str(path))
    state = weights.checkpoint(path)
    with torch.device("meta"):
        sam = sam_model_registry[kind]()
    own = {key: value for key, value in state.items() if not key.startswith("pixel_")}
    weights.fill(sam, own, source.id)
    sam.pixel_mean, sam.pixel_std = (
        torch.tensor(three).view(3, 1, 1) for three in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
    )
    return sam.eval()
