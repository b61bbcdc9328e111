"""Any open_clip CLIP with a vision transformer, as a frozen backbone: images, patches, token windows and texts.

`encode_image` and `encode_text` are CLIP as usual.  `embed_patches` and `encode_windows` split the image tower in two,
so that WinCLIP can cut windows out of an image's tokens between them.

Source: Ilharco et al., OpenCLIP, 2021; Jeong et al., WinCLIP, CVPR 2023, section 4.2.
Book: anomaly/winclip, anomaly/parity
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.preprocess import Preprocess, check_layers, check_prepared
from gadkit.backbones.tower import Tower, check_visual
from gadkit.checks import check_texts, checked, describe, warn_cut, whole
from gadkit.nn import private
from gadkit.protocols import Tokens

TEXTS = 256  # prompts encoded at once
CHUNK = 2048  # tokens at once: large products, and the widest activation still fits a last-level cache


def preprocess_of(visual: nn.Module) -> Preprocess:
    """The preprocessing that open_clip records with an image tower."""
    with private.without_compiler():
        import open_clip

    record = getattr(visual, "preprocess_cfg", {})
    mean = record.get("mean", open_clip.OPENAI_DATASET_MEAN)
    std = record.get("std", open_clip.OPENAI_DATASET_STD)
    return Preprocess(visual.image_size[0], tuple(mean), tuple(std))


def embed(visual: nn.Module, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b t width"]:
    """The class token and the patches of images with their positions, before `ln_pre`; open to gradients."""
    x = visual.conv1(images).flatten(2).transpose(1, 2)  # (b, n, width)
    x = torch.cat([visual.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1), x], dim=1)  # (b, 1 + n, width)
    return x + visual.positional_embedding.to(x.dtype)


def reads(text: nn.Module) -> bool:
    """Whether a text tower is causal and gives what stands at the end token, as that of the first CLIP does."""
    plain = getattr(text, "cls_emb", None) is None and not getattr(text, "use_pad_mask", False)
    return _pool(text) in ("argmax", "eos") and getattr(text, "attn_mask", None) is not None and plain


def ends(text: nn.Module, tokens: Int[Tensor, "n t"]) -> Int[Tensor, "n"]:
    """Where the end tokens stand, for a text tower that `reads`."""
    eos = getattr(text, "text_eos_id", getattr(text, "eos_id", None))
    return tokens.argmax(1) if _pool(text) == "argmax" else (tokens == eos).int().argmax(1)


def _pool(text: nn.Module) -> str | None:
    return getattr(text, "text_pool_type", None) or getattr(text, "pool_type", None)


def pooled(text: nn.Module, x: Float[Tensor, "n t width"], at: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
    """Text vectors from the last block's tokens: LayerNorm is per token, so only those at the ends pass it."""
    x = text.ln_final(x[torch.arange(len(x), device=x.device), at])
    if text.text_projection is None:
        return x
    return text.text_projection(x) if isinstance(text.text_projection, nn.Linear) else x @ text.text_projection


class OpenCLIP:
    """An open_clip CLIP model whose image tower is a ViT with a class token, with its tokenizer and preprocessing.

    `tokenizer` maps a list of texts to token ids (n, context length).  The weights are read when they are first needed
    and again after they changed; nothing here needs or gives gradients.  Raises ValueError for other towers.
    """

    @checked
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
        self.preprocess = preprocess or preprocess_of(visual)
        self.image_size: int = visual.image_size[0]
        self.patch_size: int = visual.patch_size[0]
        self.grid: tuple[int, int] = tuple(visual.grid_size)
        self.embed_dim: int = visual.output_dim
        self.depth: int = len(visual.transformer.resblocks)
        self.strides: tuple[int, ...] = (self.patch_size,) * self.depth
        self.context_length: int = model.context_length
        self.patch_layers: tuple[int, ...] = (-1,)
        self._towers: dict[str, tuple[list[tuple[int, int | None]], Tower]] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.visual.positional_embedding.device

    @property
    def text(self) -> nn.Module:
        """The text tower: a CustomTextCLIP keeps it apart."""
        return getattr(self.model, "text", self.model)

    def tower(self, precision: str = "float32") -> Tower:
        """The frozen image tower at today's weights; rebuilt when a weight changed, or may have."""
        stamp = [(p.data_ptr(), private.version(p)) for p in self.model.visual.parameters()]
        uncounted = any(count is None for _, count in stamp)
        if uncounted or precision not in self._towers or self._towers[precision][0] != stamp:
            self._towers[precision] = stamp, Tower(self.model.visual, precision)
        return self._towers[precision][1]

    @torch.no_grad()
    def embed_patches(self, images: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b t width"]:
        """X0 of preprocessed images: the class token and the patches with their positions, before `ln_pre`.

        Raises ValueError for images that are not (b, 3, image_size, image_size) finite floats, b > 0.
        """
        visual = self.model.visual
        x = check_prepared(images, self.image_size).to(visual.positional_embedding)
        return embed(visual, x).float()

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
        tower, taken = self.tower(precision), check_layers(layers, self.depth)
        images = max(1, whole("chunk", chunk) // x0.shape[1])  # at once
        pieces = [tower.image(x, taken, norm) for x in x0.split(images)]
        pooled = torch.cat([vectors for vectors, _ in pieces])
        patches = tuple(torch.cat(parts) for parts in zip(*(tokens for _, tokens in pieces), strict=True))
        return Tokens(pooled, patches, self.grid)

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

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Text vectors (n, embed_dim), not normalised.

        Texts are cut after the longest one's end token instead of being padded to the context length: the causal mask
        lets nothing behind that token reach it, so the result is the same and takes a fraction of the time.
        A text beyond the context is cut, and a warning says what is not read.  Raises ValueError for no text, an empty
        one, or anything but texts.
        """
        tokens = self.tokenizer(check_texts(texts)).to(self.device)
        warn_cut(self._rests(texts, tokens), self.context_length)
        return torch.cat([self.encode_token_ids(t) for t in tokens.split(TEXTS)]).float()

    def full(self, texts: Sequence[str]) -> int:
        """How many of the texts fill the context to its end, so that their last words are probably cut off.

        0 for a tokenizer that does not name its end token.
        """
        end = getattr(self.tokenizer, "eot_token_id", None)
        return 0 if end is None else int((self.tokenizer(list(texts))[:, -1] == end).sum())

    def _rests(self, texts: Sequence[str], tokens: Int[Tensor, "n t"]) -> list[str]:
        """What is cut off, of texts that are cut."""
        end, most = getattr(self.tokenizer, "eot_token_id", None), self.context_length - 2  # start and end have a place
        long = [] if end is None else (tokens[:, -1] == end).nonzero()[:, 0].tolist()
        found = [self.tokenizer.decode(self.tokenizer.encode(texts[i])[most:]) for i in long]
        return [rest for rest in found if rest]

    def encode_token_ids(self, tokens: Int[Tensor, "n t"]) -> Float[Tensor, "n d"]:
        """`encode_text` from token ids on, open to gradients: what training calls."""
        if not reads(text := self.text):
            return self.model.encode_text(tokens)
        at = ends(text, tokens)
        length = int(at.max()) + 1
        x = text.token_embedding(tokens[:, :length]) + text.positional_embedding[:length]
        return pooled(text, text.transformer(x, attn_mask=text.attn_mask[:length, :length]), at)

    def at(self, image_size: int) -> "OpenCLIP":
        """The same network for images of another size, with which it shares its weights.

        The positions of patches are interpolated, bilinearly and without antialiasing, as AnomalyCLIP does.  Raises
        ValueError for a size below two patches or with a remainder, and for a preprocessing of the caller's own.
        """
        side, step = whole("image_size", image_size, 2 * self.patch_size), self.patch_size
        if side == self.image_size:
            return self
        if side % step or not isinstance(self.preprocess, Preprocess):
            raise ValueError(
                f"image_size: expected whole patches of {step} pixels and gadkit's preprocessing, got {side} and "
                f"{describe(self.preprocess)}"
            )
        model = copy.deepcopy(self.model, {id(p): p for p in (*self.model.parameters(), *self.model.buffers())})
        visual, grid = model.visual, (side // step,) * 2
        held = visual.positional_embedding.detach()
        square = held[1:].T.unflatten(1, self.grid)[None]  # (1, width, rows, columns)
        new = F.interpolate(square, grid, mode="bilinear", align_corners=False)[0].flatten(1).T  # (n, width)
        visual.positional_embedding = nn.Parameter(torch.cat([held[:1], new]))
        visual.image_size, visual.grid_size = (side, side), grid
        return OpenCLIP(model, self.tokenizer, replace(self.preprocess, size=side))


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> OpenCLIP:
    """Published weights by open_clip's own call, from `file`, the cache or the network.

    The row's id is open_clip's architecture and tag; its option `image_size` stands for images of another size.  Raises
    `WeightsUnavailable` for weights that are neither cached nor reachable, FileNotFoundError for a `file` that is not
    there.
    """
    with private.without_compiler():
        import open_clip

    architecture, tag = source.id.split("/")
    if file is not None:
        weights.verified(file)
    try:
        model = open_clip.create_model(architecture, pretrained=str(file or tag), device=where, cache_dir=cache_dir)
    except RuntimeError as error:
        if "download" not in str(error):  # the file was there, and something is wrong with it
            raise
        repository = open_clip.get_pretrained_cfg(architecture, tag)["hf_hub"].strip("/")
        missing = f"open_clip_model.safetensors of {repository}"
        raise weights.unavailable(source, missing) from error
    found = OpenCLIP(model, open_clip.get_tokenizer(architecture))
    return found.at(source.options.get("image_size", found.image_size))
