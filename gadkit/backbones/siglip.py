"""A published SigLIP or SigLIP 2 of one fixed image size, by transformers' own class, as a frozen backbone.

Its image vector is an attention pool over the patches, and its text vector the last token of a text that is filled up
to the whole context: both as they were trained.  SigLIP 2's checkpoints of fixed size have the same class.

Source: Zhai et al., ICCV 2023; Tschannen et al. 2025, SigLIP 2.
Book: multimodal/contrastive
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.preprocess import Preprocess, check_layers, check_prepared
from gadkit.checks import check_texts, checked
from gadkit.protocols import Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RESAMPLING = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
CHUNK, TEXTS = 32, 64  # images and texts encoded at once
INSTALL = "its tokenizer needs two libraries more: pip install sentencepiece protobuf"


class SigLIP:
    """transformers' `SiglipModel` with its tokenizer and preprocessing."""

    @checked
    def __init__(
        self, model: nn.Module, tokenizer: "PreTrainedTokenizerBase", preprocess: Callable[[Tensor], Tensor]
    ) -> None:
        vision, text = model.config.vision_config, model.config.text_config
        self.model, self.tokenizer, self.preprocess = model.eval().requires_grad_(False), tokenizer, preprocess
        self.image_size: int = vision.image_size
        self.patch_size: int = vision.patch_size
        side = vision.image_size // vision.patch_size
        self.grid: tuple[int, int] = (side, side)
        self.embed_dim: int = vision.hidden_size
        self.depth: int = vision.num_hidden_layers
        self.strides: tuple[int, ...] = (self.patch_size,) * self.depth
        self.context_length: int = text.max_position_embeddings
        self.patch_layers: tuple[int, ...] = (-1,)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.logit_scale.device

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

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Text vectors, not normalised.  Raises ValueError for no text, or anything but texts."""
        texts, found = check_texts(texts), []
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


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> SigLIP:
    """A published network; `file` is the folder of a checkpoint in transformers' format, or a file in it.

    Raises FileNotFoundError for a folder without a checkpoint, ValueError for another network's, and
    `WeightsUnavailable` for files that are neither cached nor reachable, or where the tokenizer's library is missing.
    """
    from transformers import AutoConfig, AutoImageProcessor, AutoTokenizer, SiglipModel

    at = source.id if file is None else str(file if file.is_dir() else file.parent)
    cache = {} if cache_dir is None else {"cache_dir": cache_dir}
    if file is not None:
        _check_folder(Path(at))
    try:
        config = AutoConfig.from_pretrained(at, **cache)
        if config.model_type != "siglip":
            raise ValueError(f"weights: expected those of a siglip, got those of a {config.model_type}")
        try:
            tokenizer = AutoTokenizer.from_pretrained(at, **cache)
        except ImportError as error:
            raise weights.WeightsUnavailable(f"{source.id}: {INSTALL}") from error
        record = AutoImageProcessor.from_pretrained(at, **cache)
        model = SiglipModel.from_pretrained(at, **cache)
    except OSError as error:
        if file is not None:
            raise FileNotFoundError(f"weights: expected a checkpoint of transformers in {at}: {error}") from error
        raise weights.unavailable(source, f"a file of {source.id}") from error
    size = config.vision_config.image_size
    if dict(record.size) != {"height": size, "width": size}:
        raise ValueError(f"weights: expected preprocessing to {size} x {size} pixels, got {dict(record.size)}")
    means, stds = tuple(record.image_mean), tuple(record.image_std)
    return SigLIP(model.to(where), tokenizer, Preprocess(size, means, stds, RESAMPLING[int(record.resample)]))


def _check_folder(folder: Path) -> None:
    """The files that a checkpoint cannot do without, the processor's in either of its two layouts."""
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"weights: expected a folder with config.json, got {folder}")
    layouts = ("processor_config.json", "preprocessor_config.json")
    if not any((folder / name).is_file() for name in layouts):
        raise FileNotFoundError(f"weights: expected {' or '.join(layouts)} in {folder}")
