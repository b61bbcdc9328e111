"""Any open_clip CLIP with a vision transformer, as a frozen backbone: images, patches, token windows and texts.

`encode_image` and `encode_text` are CLIP as usual.  `embed_patches` and `encode_windows` split the image tower in two,
so that WinCLIP can cut windows out of an image's tokens between them.

Source: Ilharco et al., OpenCLIP, 2021; Jeong et al., WinCLIP, CVPR 2023, section 4.2.
Book: anomaly/winclip
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from gadkit.backbones.tower import Tower, check_visual
from gadkit.checks import check_finite, check_images, describe
from gadkit.protocols import Tokens

TEXTS = 256  # prompts encoded at once
PIXELS = 1 << 22  # resized at once
CHUNK = 2048  # tokens at once: large products, and the widest activation still fits a last-level cache


@dataclass(frozen=True)
class Preprocess:
    """Squash to a square with antialiased bicubic interpolation, scale to [0, 1], normalise.

    The whole image stays in view, so a map of patches is a map of the image.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @no_type_check  # check_images answers bad input
    def __call__(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Raises ValueError for anything but a batch of uint8 RGB images."""
        pieces = check_images(images).split(max(1, PIXELS // images[0, 0].numel()))
        x = torch.cat([self._squash(piece.float()) for piece in pieces])  # (b, 3, s, s)
        mean, std = (255 * x.new_tensor(v)[:, None, None] for v in (self.mean, self.std))
        return (x - mean) / std

    def _squash(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        size = (self.size, self.size)
        if x.shape[-2:] == size:
            return x
        return F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 255)  # bicubic overshoots at edges

    @classmethod
    def of(cls, visual: nn.Module) -> "Preprocess":
        """The preprocessing that open_clip records with an image tower."""
        from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

        record = getattr(visual, "preprocess_cfg", {})
        mean, std = record.get("mean", OPENAI_DATASET_MEAN), record.get("std", OPENAI_DATASET_STD)
        return cls(visual.image_size[0], tuple(mean), tuple(std))


class OpenCLIP:
    """An open_clip CLIP model whose image tower is a ViT with a class token, with its tokenizer and preprocessing.

    `tokenizer` maps a list of texts to token ids (n, context length).  The weights are read when they are first needed
    and again after they changed; nothing here needs or gives gradients.  Raises ValueError for other towers.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        preprocess: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        check_visual(model.visual)
        self.model, self.tokenizer = model.eval(), tokenizer
        visual = model.visual
        if visual.image_size[0] != visual.image_size[1]:
            raise ValueError(f"image tower: expected square images, got {visual.image_size}")
        self.preprocess = preprocess or Preprocess.of(visual)
        self.image_size: int = visual.image_size[0]
        self.patch_size: int = visual.patch_size[0]
        self.grid: tuple[int, int] = tuple(visual.grid_size)
        self.embed_dim: int = visual.output_dim
        self.context_length: int = model.context_length
        self._towers: dict[str, tuple[list[tuple[int, int]], Tower]] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.visual.positional_embedding.device

    def tower(self, precision: str = "float32") -> Tower:
        """The frozen image tower at today's weights; rebuilt only when a weight changed."""
        parameters = self.model.visual.parameters()
        stamp = [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters]
        if precision not in self._towers or self._towers[precision][0] != stamp:
            self._towers[precision] = stamp, Tower(self.model.visual, precision)
        return self._towers[precision][1]

    @no_type_check  # bad input is a ValueError
    @torch.no_grad()
    def embed_patches(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 1+n width"]:
        """X0 of preprocessed images: the class token and the patches with their positions, before `ln_pre`.

        Raises ValueError for images that are not (b, 3, image_size, image_size) finite floats, b > 0.
        """
        s, visual = self.image_size, self.model.visual
        if not isinstance(images, Tensor) or not images.is_floating_point() or images.shape[1:] != (3, s, s):
            raise ValueError(f"images: expected preprocessed floats of shape (b, 3, {s}, {s}), got {describe(images)}")
        if not len(images):
            raise ValueError("images: expected at least one image, got an empty batch")
        positions = visual.positional_embedding  # (1 + n, width)
        x = visual.conv1(check_finite(images, "images").to(positions)).flatten(2).transpose(1, 2)  # (b, n, width)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], dim=1)  # (b, 1 + n, width)
        return (x + positions).float()

    @no_type_check  # embed_patches answers bad input
    @torch.no_grad()
    def encode_image(
        self,
        images: Float[Tensor, "b 3 s s"],
        layers: Sequence[int] = (-1,),
        norm: bool = False,
        precision: str = "float32",
        chunk: int = CHUNK,
    ) -> Tokens:
        """Image vectors (b, embed_dim), not normalised, and the patch tokens (b, n, width) after `layers`.

        Blocks count from 0, or from the end when negative; with no layers only vectors are computed.  `norm` applies
        the tower's last LayerNorm to the patch tokens.  At most `chunk` tokens (but a whole image) go at once.
        Raises ValueError for a layer that does not exist, a `chunk` below 1 and as `embed_patches` does.
        """
        return self.encode_tokens(self.embed_patches(images), layers, norm, precision, chunk)

    @torch.no_grad()
    def encode_tokens(
        self,
        x0: Float[Tensor, "b t width"],
        layers: Sequence[int] = (-1,),
        norm: bool = False,
        precision: str = "float32",
        chunk: int = CHUNK,
    ) -> Tokens:
        """`encode_image` from X0 on, for a caller who needs X0 as well."""
        tower, depth = self.tower(precision), len(self.model.visual.transformer.resblocks)
        if any(not -depth <= i < depth for i in layers):
            raise ValueError(f"layers: expected numbers from {-depth} to {depth - 1}, got {tuple(layers)}")
        taken = [i % depth for i in layers]
        pieces = [tower.image(x, taken, norm) for x in x0.split(max(1, chunk // x0.shape[1]))]
        pooled = torch.cat([vectors for vectors, _ in pieces])
        patches = tuple(torch.cat(parts) for parts in zip(*(tokens for _, tokens in pieces), strict=True))
        return Tokens(pooled, patches, self.grid)

    @no_type_check  # bad input is a ValueError
    @torch.no_grad()
    def encode_windows(
        self,
        x0: Float[Tensor, "b t width"],
        windows: Int[Tensor, "w k"],
        precision: str = "float32",
        chunk: int = CHUNK,
    ) -> Float[Tensor, "b w d"]:
        """Vectors, not normalised, of windows of an image's tokens: each sees the class token and its own k patches.

        `windows` holds patch numbers, row-major; positions stay those of the whole image.
        Raises ValueError for patch numbers that are no (w, k) integers or not on the grid.
        """
        n = x0.shape[1] - 1
        if not isinstance(windows, Tensor) or windows.ndim != 2 or windows.dtype != torch.long or not windows.numel():
            raise ValueError(f"windows: expected int64 patch numbers of shape (w, k), got {describe(windows)}")
        if windows.min() < 0 or windows.max() >= n:
            raise ValueError(
                f"windows: expected patch numbers from 0 to {n - 1}, got {int(windows.min())} to {int(windows.max())}"
            )
        return self.tower(precision).windows(x0, windows.to(x0.device), whole("chunk", chunk))

    @no_type_check  # bad input is a ValueError
    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Text vectors (n, embed_dim), not normalised.

        Texts are cut after the longest one's end token instead of being padded to the context length: the causal mask
        lets nothing behind that token reach it, so the result is the same and takes a fraction of the time.
        Raises ValueError for no text, or anything but texts.
        """
        if not isinstance(texts, list | tuple) or not texts or not all(isinstance(t, str) for t in texts):
            raise ValueError(f"texts: expected a list of at least one text, got {describe(texts)}")
        tokens = self.tokenizer(list(texts)).to(self.device)
        return torch.cat([self.encode_token_ids(t) for t in tokens.split(TEXTS)]).float()

    def full(self, texts: Sequence[str]) -> int:
        """How many of the texts fill the context to its end, so that their last words are probably cut off.

        0 for a tokenizer that does not tell its end token.
        """
        end = getattr(self.tokenizer, "eot_token_id", None)
        return 0 if end is None else int((self.tokenizer(list(texts))[:, -1] == end).sum())

    def encode_token_ids(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """`encode_text` from token ids on, open to gradients: what training calls."""
        text = getattr(self.model, "text", self.model)  # a CustomTextCLIP keeps its tower apart
        pool = getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)
        causal = getattr(text, "attn_mask", None) is not None
        plain = getattr(text, "cls_emb", None) is None and not getattr(text, "use_pad_mask", False)
        if pool not in ("argmax", "eos") or not causal or not plain:
            return self.model.encode_text(tokens)
        eos = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
        ends = tokens.argmax(1) if pool == "argmax" else (tokens == eos).int().argmax(1)  # (n,)
        length = int(ends.max()) + 1
        x = text.token_embedding(tokens[:, :length]) + text.positional_embedding[:length]
        x = text.transformer(x, attn_mask=text.attn_mask[:length, :length])
        x = text.ln_final(x[torch.arange(len(x), device=x.device), ends])  # LayerNorm is per token: only the end's
        if text.text_projection is None:
            return x
        return text.text_projection(x) if isinstance(text.text_projection, nn.Linear) else x @ text.text_projection
