"""Published SigLIPs by transformers' own classes: of one fixed image size, and NaFlex, which keeps the aspect ratio.

An image vector is an attention pool over the patches, and a text vector the last token of a text that is filled up to
the whole context: both as they were trained.  SigLIP 2's checkpoints of fixed size have the class of the first.

Source: Zhai et al., ICCV 2023; Tschannen et al. 2025, SigLIP 2.
Book: multimodal/contrastive
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.preprocess import Preprocess, check_layers, check_prepared
from gadkit.checks import check_images, check_texts, checked, warn_cut, whole
from gadkit.protocols import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, Siglip2ImageProcessor

RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
CHUNK, TEXTS = 32, 64  # images and texts encoded at once
INSTALL = 'its tokenizer needs two libraries more: pip install "gadkit[siglip]"'


class Texts:
    """What both kinds have in common: a network that lies somewhere, and a text tower with its tokenizer."""

    def __init__(self, model: nn.Module, tokenizer: "PreTrainedTokenizerBase") -> None:
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer
        self.patch_size: int = model.config.vision_config.patch_size
        self.embed_dim: int = model.config.vision_config.hidden_size
        self.context_length: int = model.config.text_config.max_position_embeddings

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.logit_scale.device

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Text vectors, not normalised.

        A text beyond the context is cut, and a warning says what is not read.  Raises ValueError for no text, an empty
        one, or anything but texts.
        """
        texts, found = check_texts(texts), []
        rows, most = self.tokenizer(texts)["input_ids"], self.context_length
        ends = self.tokenizer.num_special_tokens_to_add()  # behind the words
        warn_cut([self.tokenizer.decode(ids[most - ends : len(ids) - ends]) for ids in rows if len(ids) > most], most)
        for start in range(0, len(texts), TEXTS):
            ids = self.tokenizer(
                texts[start : start + TEXTS],
                padding="max_length",
                truncation=True,
                max_length=self.context_length,
                return_tensors="pt",
            )["input_ids"].to(self.device)
            found.append(self.model.text_model(input_ids=ids).pooler_output)
        return torch.cat(found)

    def full(self, texts: Sequence[str]) -> int:
        """How many of the texts fill the context to its end, so that their last words are probably cut off."""
        return sum(len(ids) >= self.context_length for ids in self.tokenizer(list(texts))["input_ids"])


class SigLIP(Texts):
    """transformers' `SiglipModel` with its tokenizer and preprocessing."""

    @checked
    def __init__(
        self, model: nn.Module, tokenizer: "PreTrainedTokenizerBase", preprocess: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(model, tokenizer)
        self.preprocess = preprocess
        vision = model.config.vision_config
        self.image_size: int = vision.image_size
        side = vision.image_size // vision.patch_size
        self.grid: tuple[int, int] = (side, side)
        self.depth: int = vision.num_hidden_layers
        self.strides: tuple[int, ...] = (self.patch_size,) * self.depth
        self.patch_layers: tuple[int, ...] = (-1,)

    @torch.no_grad()
    def encode_image(
        self, images: Float[Tensor, "b 3 s s"], layers: Sequence[int] = (-1,), chunk: int = CHUNK
    ) -> Tokens:
        """Image vectors (b, embed_dim), not normalised, and the patch tokens (b, n, width) after `layers`.

        Raises ValueError for a layer that does not exist, and for images that are not preprocessed.
        """
        taken, pooled, patches = check_layers(layers, self.depth), [], []
        for some in check_prepared(images, self.image_size).to(self.device).split(chunk):
            out = self.model.vision_model(pixel_values=some, output_hidden_states=bool(taken))
            pooled.append(out.pooler_output)
            patches.append([out.hidden_states[i + 1] for i in taken])
        return Tokens(torch.cat(pooled), tuple(torch.cat(parts) for parts in zip(*patches, strict=True)), self.grid)


@dataclass(frozen=True)
class Patches:
    """Images cut into patches: each has its own `grid` of rows and columns, and what is left of n is padding.

    `there` says which patches are the image's.
    """

    pixels: Float[Tensor, "b n p"]
    there: Bool[Tensor, "b n"]
    grids: Int[Tensor, "b 2"]


class NaFlex(Texts):
    """transformers' `Siglip2Model`: images of any shape in one batch, each in its own aspect ratio.

    It has no grid of its own, so it is no backbone for a detector.  `most` is the number of patches that an image may
    have; positions are interpolated to each image's grid.  Raises ValueError for `most` below 1.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        tokenizer: "PreTrainedTokenizerBase",
        processor: "Siglip2ImageProcessor",
        most: int | None = None,
    ) -> None:
        super().__init__(model, tokenizer)
        self.processor = processor
        self.most: int = whole("most", processor.max_num_patches if most is None else most)

    def preprocess(self, images: Sequence[UInt8[Tensor, "3 _ _"]] | UInt8[Tensor, "b 3 h w"]) -> Patches:
        """As many patches as `most` allows, of images that differ in size, and a batch of one size just as well.

        Raises ValueError for no images, and for anything but uint8 RGB.
        """
        if not len(images):
            raise ValueError("images: expected at least one, got none")
        held = [check_images(image[None])[0] for image in images]
        # the processor's own defaults, 16 pixels and 256 patches, are not the checkpoint's
        found = self.processor(images=held, patch_size=self.patch_size, max_num_patches=self.most, return_tensors="pt")
        return Patches(found["pixel_values"], found["pixel_attention_mask"].bool(), found["spatial_shapes"])

    @torch.no_grad()
    def encode_image(self, images: Patches, chunk: int = CHUNK) -> Float[Tensor, "b d"]:
        """Image vectors, not normalised."""
        found = []
        for some in torch.arange(len(images.pixels)).split(chunk):
            out = self.model.vision_model(
                pixel_values=images.pixels[some].to(self.device),
                pixel_attention_mask=images.there[some].to(self.device),
                spatial_shapes=images.grids[some],
            )
            found.append(out.pooler_output)
        return torch.cat(found)


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> SigLIP | NaFlex:
    """A published network; `file` is the folder of a checkpoint in transformers' format, or a file in it.

    The option `naflex` asks for one that keeps the aspect ratio.  Raises FileNotFoundError for a folder without a
    checkpoint, ValueError for another network's, and `WeightsUnavailable` for files that are neither cached nor
    reachable, or where the tokenizer's library is missing.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, Siglip2Model, SiglipModel

    at = source.id if file is None else str(file if file.is_dir() else file.parent)
    cache = {} if cache_dir is None else {"cache_dir": cache_dir}
    kind, wanted = (Siglip2Model, "siglip2") if source.options.get("naflex") else (SiglipModel, "siglip")
    if file is not None:
        _check_folder(Path(at))
    try:
        config = AutoConfig.from_pretrained(at, **cache)
        if config.model_type != wanted:
            raise ValueError(f"weights: expected those of a {wanted}, got those of a {config.model_type}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(at, **cache)
        except ImportError as error:
            raise weights.WeightsUnavailable(f"{source.id}: {INSTALL}") from error
        record = AutoImageProcessor.from_pretrained(at, **cache)
        model = kind.from_pretrained(at, **cache).to(where)
    except OSError as error:
        if file is not None:
            raise FileNotFoundError(f"weights: expected a checkpoint of transformers in {at}: {error}") from error
        raise weights.unavailable(source, f"a file of {source.id}") from error
    if kind is Siglip2Model:
        return NaFlex(model, tokenizer, record)
    size = config.vision_config.image_size
    if dict(record.size) != {"height": size, "width": size}:
        raise ValueError(f"weights: expected preprocessing to {size} x {size} pixels, got {dict(record.size)}")
    means, stds = tuple(record.image_mean), tuple(record.image_std)
    return SigLIP(model, tokenizer, Preprocess(size, means, stds, RESAMPLING[int(record.resample)]))


def _check_folder(folder: Path) -> None:
    """The files that a checkpoint cannot do without, the processor's in either of its two layouts."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"weights: expected a folder with config.json, got {folder}")
    layouts = ("processor_config.json", "preprocessor_config.json")
    if not any((folder / name).is_file() for name in layouts):
        raise FileNotFoundError(f"weights: expected {' or '.join(layouts)} in {folder}")
