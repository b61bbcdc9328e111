"""The contracts that the package is built on: what a backbone or a text encoder gives, what a detector answers.

Read this file first.  Everything above it is written against these types, so a chapter can swap a tiny model of our own
for a published one, or one detector for another, without changing a line.

Book: anomaly/winclip
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn


@dataclass(frozen=True)
class Tokens:
    """The output of a backbone for a batch of images.

    `pooled` is the image vector (the backbone's own choice of CLS, mean or attention pool); `patches` holds one
    tensor a requested layer, row-major and without prefix tokens (layers may differ in width); `grid` is
    (rows, columns) with n = rows * columns.
    """

    pooled: Float[Tensor, "b d"]
    patches: tuple[Float[Tensor, "b n _"], ...]
    grid: tuple[int, int]


@runtime_checkable
class Backbone(Protocol):
    """A frozen image encoder together with the preprocessing it was trained with.

    Its layers are blocks or stages.  All of them come on one `grid` of patches, `patch_size` pixels wide; in its own
    network a layer may have had another width, which `strides` gives.
    """

    image_size: int  # side of a preprocessed image, in pixels
    patch_size: int  # side of a patch, in pixels
    grid: tuple[int, int]  # rows and columns of patches
    embed_dim: int  # length of an image vector
    depth: int  # number of layers
    strides: tuple[int, ...]  # pixels from one position to the next in each layer's own network
    patch_layers: tuple[int, ...]  # the layers that describe a patch well, unless one knows better

    @property
    def device(self) -> torch.device:
        """Where the network lies; preprocessed images may lie elsewhere."""

    def preprocess(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Resize and normalise raw images, as the weights expect them."""

    def encode_image(self, images: Float[Tensor, "b 3 s s"], layers: Sequence[int] = (-1,)) -> Tokens:
        """Encode preprocessed images; `layers` counts blocks from 0, or from the end when negative."""


@runtime_checkable
class TextEncoder(Protocol):
    """A frozen text encoder together with its tokenizer.

    Text vectors are compared by their cosine: what their length means differs from encoder to encoder.
    """

    embed_dim: int  # length of a text vector

    @property
    def device(self) -> torch.device:
        """Where the network lies, and the text vectors with it."""

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Encode a list of texts; a warning says what of them is too long to be read.

        Raises ValueError for no text, an empty one, or anything but texts.
        """

    def full(self, texts: Sequence[str]) -> int:
        """How many of the texts fill the encoder's context to its end, so that their last words are not read."""


@dataclass(frozen=True)
class Recipe:
    """The constants of AdamW with which a method is trained: data, from which `gadkit.train.Plan.of` makes a plan.

    `lr` is the peak learning rate at `batch` samples a step; another batch scales it in proportion.  `weight_decay`
    goes along half a cosine to `weight_decay_end`, if there is one.  `warmup` is a share of the steps.
    """

    lr: float = 1e-3
    batch: int = 128
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.05
    weight_decay_end: float | None = None
    clip: float = 1.0  # the longest gradient; infinite: none is shortened
    warmup: float = 0.1


@runtime_checkable
class Method(Protocol):
    """A way to learn an encoder: an `nn.Module` with its own views and its own loss."""

    encoder: nn.Module
    needs: tuple[str, ...]  # the columns of a batch that `views` takes, such as "images"
    pool: str  # what stands for an image afterwards: "cls", the class token, or "mean", that of the patch tokens
    lr: float  # the peak learning rate of its recipe
    recipe: Recipe
    transient: tuple[str, ...]  # prefixes of the parts that serve learning only, and are not shipped

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Make the views that the loss compares, from a mapping that holds a tensor (b, ...) for each of `needs`."""

    def collapse(self, batch_size: int) -> float:
        """The loss of a network that maps all inputs to one point, to compare with; NaN where it depends on data."""

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The objective of one step."""

    def after_step(self, progress: float) -> Sequence[nn.Parameter] | None:
        """Follow the optimiser's step (teacher average, centre, prototypes); `progress` runs from 0 to 1.

        Parameters that are returned begin anew: the optimiser forgets what it knew of them.
        """


@dataclass(frozen=True)
class AnomalyResult:
    """A detector's answer for a batch of images: higher means more anomalous.

    `maps` has the height and width of the images that were given, `scores` one number an image.
    """

    maps: Float[Tensor, "b h w"]
    scores: Float[Tensor, "b"]


@dataclass(frozen=True)
class Encoded:
    """Images as a detector has encoded them: `features` by name, whose first axis counts images, and their `size`.

    `size` is the height and width of the images, and so of the maps to come.  `encoded[2:5]` has images 2 to 4.
    """

    features: Mapping[str, Tensor]
    size: tuple[int, int]

    def __len__(self) -> int:
        """The number of images."""
        return len(next(iter(self.features.values())))

    def __getitem__(self, some: slice) -> "Encoded":
        """A slice of the images."""
        return Encoded({name: values[some] for name, values in self.features.items()}, self.size)


@dataclass(frozen=True)
class DetectorState:
    """A fitted detector without its backbone: what a file has to hold.

    `detector` names its class and `version` the layout of its state.  `parameters` are the arguments of `__init__`,
    ready for JSON; `tensors` are what `fit` learnt, on the CPU and contiguous, ready for safetensors.
    """

    detector: str
    version: int
    parameters: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


@runtime_checkable
class Detector(Protocol):
    """An anomaly detector, by scikit-learn's rules.

    Hyper-parameters go to `__init__`, and what is learnt by `fit` ends in an underscore.  Images are uint8 RGB of any
    size; results are on their device.  `gadkit.anomaly.detectors` lists all detectors, and has a base class.
    """

    @property
    def image_size(self) -> int:
        """The side in pixels of the images that the backbone encodes: larger references only cost memory."""

    @property
    def shots(self) -> int:
        """How many normal images `fit` was given; 0 for none, and before `fit`."""

    @property
    def map_range(self) -> tuple[float, float]:
        """Between which values of a map colours run, where no maps of held-out normal images can say so.

        Below the first all is usual; at the second the detector is sure.
        """

    def fit(self, normal: UInt8[Tensor, "k 3 h w"] | Iterable[Tensor] | None = None) -> "Detector":
        """Learn from k normal images: one batch, or batches, each of any size, that are read once and not kept.

        None asks for zero-shot detection, and is a ValueError where there is none.
        """

    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Encoded:
        """Do what is expensive, once; the result can be scored after any `fit`, and needs none."""

    def score(self, images: UInt8[Tensor, "b 3 h w"] | Encoded) -> AnomalyResult:
        """Score images, or what `encode` made of them, and every pixel.  Raises RuntimeError before `fit`."""

    def leave_one_out(
        self, normal: UInt8[Tensor, "k 3 h w"] | Iterable[Tensor], parts: Sequence[int] | None = None
    ) -> Iterator[AnomalyResult]:
        """The normal images of `fit` in their order, each scored as if it had not been given; the detector stays.

        `normal` is what `fit` was given; batches are read more than once.  `parts` says how many images in a row show
        one part: these are left out together, and a result then holds some images of one part.  Without it each image
        is a part, and a result holds one image.  Raises ValueError for fewer than two parts, or another number of
        images than `shots`.
        """

    def explain(self) -> str:
        """How the scores came about, in a sentence for the report.  Raises RuntimeError before `fit`."""

    def remarks(self) -> Sequence[str]:
        """Remarks for the user, to be read before the scores are trusted; usually none."""

    def state(self) -> DetectorState:
        """The fitted detector without its backbone, to be saved.  Raises RuntimeError before `fit`."""

    def load_state(self, state: DetectorState) -> "Detector":
        """Become the detector that `state` came from.

        Raises ValueError for the state of another detector, another version, or another backbone.
        """


@dataclass(frozen=True)
class TestSet:
    """One product: k normal `references`, and n `images` to score with `masks` and a defect's name each.

    A good image's defect is "good" and its mask empty; a defective one whose mask is empty has none, and counts for
    image measures only (`marked`).  `noun` is what the product is called, by default the category's name.
    """

    __test__ = False  # the name starts with Test, and pytest would collect it

    category: str
    references: UInt8[Tensor, "k 3 h w"]
    images: UInt8[Tensor, "n 3 h w"]
    masks: Bool[Tensor, "n h w"]
    defects: tuple[str, ...]
    noun: str = ""

    @property
    def labels(self) -> Bool[Tensor, "n"]:
        """True where an image shows a defect."""
        return torch.tensor([d != "good" for d in self.defects])

    @property
    def marked(self) -> Bool[Tensor, "n"]:
        """True where a mask says all that there is to mark: at good images, and at defects that have a mask."""
        return ~self.labels | self.masks.flatten(1).any(1)

    @property
    def object_name(self) -> str:
        """The product as a noun, for detectors that read: "metal nut" for a folder `metal_nut`."""
        return self.noun or self.category.replace("_", " ")
