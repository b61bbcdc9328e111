"""WinCLIP and WinCLIP+: defects found by what a vision-language model calls flawless, and by a few normal images.

CLIP compares the image, and every small window of it, with two text vectors, "normal" and "anomalous".  WinCLIP+ adds
how unlike each window and patch is to its nearest counterpart in normal reference images.

Source: Jeong et al., WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation, CVPR 2023.
Book: anomaly/winclip
"""

import math
from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.anomaly.maps import association, harmonic_mean, spread_windows, upsample, window_indices
from gadkit.anomaly.prompts import WINCLIP, PromptEnsemble
from gadkit.backbones.openclip import CHUNK, OpenCLIP
from gadkit.backbones.tower import PRECISIONS
from gadkit.checks import check_images, describe
from gadkit.protocols import AnomalyResult

Maps = dict[int | str, Tensor]  # one (b, rows, columns) map a window scale, and "image" or "patch"


@dataclass(frozen=True)
class Seen:
    """Images as WinCLIP sees them, in unit vectors.

    Of the images, of their patches (None where nobody asked) and of their windows, {scale: (b, w, d)}; `size` is the
    images' height and width.
    """

    vectors: Float[Tensor, "b d"]
    patches: Float[Tensor, "b n width"] | None
    windows: dict[int, Tensor]
    size: tuple[int, int]


class WinCLIP:
    """Zero-shot detection from an object's name; few-shot (WinCLIP+) once normal images were given to `fit`.

    `object_name`    what is in the images, as a noun: "metal nut".
    `prompts`        states and templates; any `PromptEnsemble`.
    `temperature`    of the softmax over the two text similarities.
    `scales`         window sides, in patches.
    `text_pooling`   "mean" of raw text vectors, or "normalised": of unit vectors.
    `patch_norm`     whether the reference patches pass the tower's last LayerNorm.
    `fusion`         of the zero-shot and the reference map: "mean", "sum" or "harmonic".
    `precision`      of the image tower's blocks: "float32" or "bfloat16".
    `chunk`          tokens, or features compared, at once: bounds the memory, changes no result.

    Learnt by `fit`: `text_vectors_` (2, d), normal and anomalous, `reference_windows_` {scale: (k w, d)} and
    `reference_patches_` (k n, width), all of unit length; the last two are None without references.
    Raises ValueError for arguments outside these.
    """

    @no_type_check  # bad input is a ValueError
    def __init__(
        self,
        backbone: OpenCLIP,
        object_name: str,
        *,
        prompts: PromptEnsemble = WINCLIP,
        temperature: float = 0.07,
        scales: tuple[int, ...] = (2, 3),
        text_pooling: str = "mean",
        patch_norm: bool = False,
        fusion: str = "mean",
        precision: str = "float32",
        chunk: int = CHUNK,
    ) -> None:
        if not isinstance(backbone, OpenCLIP) or not isinstance(prompts, PromptEnsemble):
            raise ValueError(
                f"expected an OpenCLIP and a PromptEnsemble, got {describe(backbone)}, {describe(prompts)}"
            )
        _check("text_pooling", text_pooling, ("mean", "normalised"))
        _check("fusion", fusion, ("mean", "sum", "harmonic"))
        _check("precision", precision, tuple(PRECISIONS))
        if not isinstance(temperature, int | float) or not 0 < temperature < math.inf:
            raise ValueError(f"temperature: expected a positive number, got {temperature!r}")
        if not isinstance(chunk, int) or chunk < 1:
            raise ValueError(f"chunk: expected a whole number of at least 1, got {chunk!r}")
        if not isinstance(scales, tuple | list) or len({s for s in scales if isinstance(s, int)}) != len(scales):
            raise ValueError(f"scales: expected different whole numbers of patches, got {scales!r}")
        prompts.texts(object_name)  # complains about a bad name here, not in fit
        self.backbone, self.object_name, self.prompts = backbone, object_name, prompts
        self.temperature, self.scales, self.text_pooling = temperature, tuple(scales), text_pooling
        self.patch_norm, self.fusion, self.precision, self.chunk = patch_norm, fusion, precision, chunk
        self._windows = {s: window_indices(backbone.grid, s).to(backbone.device) for s in self.scales}

    @no_type_check  # check_images answers bad input
    @torch.no_grad()
    def fit(self, normal: UInt8[Tensor, "k 3 h w"] | None = None) -> "WinCLIP":
        """Encode the prompts and, for WinCLIP+, the windows and patches of k normal images.

        Raises ValueError for anything but None or a batch of uint8 RGB images.
        """
        references = None if normal is None else [self._see(x) for x in self._groups(normal, "normal images")]
        self.text_vectors_ = torch.stack([self._pool(texts) for texts in self.prompts.texts(self.object_name)])
        self.reference_windows_ = self.reference_patches_ = None
        if references is not None:
            self.reference_patches_ = torch.cat([patches.flatten(0, 1) for _, patches, _ in references])
            self.reference_windows_ = {
                s: torch.cat([windows[s].flatten(0, 1) for _, _, windows in references]) for s in self.scales
            }
        return self

    @no_type_check  # check_images answers bad input
    @torch.no_grad()
    def score(self, images: UInt8[Tensor, "b 3 h w"]) -> AnomalyResult:
        """Maps at the images' own size and one score an image, on the images' device.

        Zero-shot both lie in [0, 1].  Raises ValueError for anything but a batch of uint8 RGB images, RuntimeError
        before `fit` or when all windows of an image embed alike.
        """
        self._check_fitted()
        patches = self.reference_patches_ is not None
        found = [self.judge(self._seen(group, patches)) for group in self._groups(images, "images")]
        return AnomalyResult(
            *(torch.cat([getattr(f, name) for f in found]).to(images.device) for name in ("maps", "scores"))
        )

    @no_type_check
    @torch.no_grad()
    def see(self, images: UInt8[Tensor, "b 3 h w"]) -> "Seen":
        """Encode images once, to be judged many times: after another `fit`, say, with more references.

        `score(images)` is `judge(see(images))`, but holds the embeddings of a few images at a time only.  Raises as
        `score` does; needs no `fit`.
        """
        seen = [self._seen(group) for group in self._groups(images, "images")]
        windows = {s: torch.cat([one.windows[s] for one in seen]) for s in self.scales}
        vectors, patches = (torch.cat([getattr(one, name) for one in seen]) for name in ("vectors", "patches"))
        return Seen(vectors, patches, windows, seen[0].size)

    @no_type_check
    @torch.no_grad()
    def judge(self, seen: "Seen") -> AnomalyResult:
        """Maps and scores of images that `see` has encoded.  Raises RuntimeError before `fit`."""
        self._check_fitted()
        score, grid = (
            self._judge(seen.vectors),
            harmonic_mean(list(self._zero_shot(seen.vectors, seen.windows).values())),
        )
        if self.reference_patches_ is not None:
            few = torch.stack(list(self._few_shot(seen.patches, seen.windows).values())).mean(dim=0)  # (b, r, c)
            score, grid = (score + few.amax(dim=(1, 2))) / 2, self._fuse(grid, few)
        return AnomalyResult(upsample(grid, seen.size), score)

    @no_type_check
    @torch.no_grad()
    def window_embeddings(self, images: UInt8[Tensor, "b 3 h w"]) -> dict[int, Float[Tensor, "b w d"]]:
        """Unit vectors of all windows, row-major, for every scale.  Raises as `score` does; needs no `fit`."""
        seen = [self._see(group, patches=False)[2] for group in self._groups(images, "images")]
        return {s: torch.cat([windows[s] for windows in seen]) for s in self.scales}

    @no_type_check
    @torch.no_grad()
    def zero_shot_maps(self, images: UInt8[Tensor, "b 3 h w"]) -> dict[int | str, Float[Tensor, "b r c"]]:
        """The language-guided maps, on the grid of patches: "image" (its one score everywhere) and one a scale.

        Their harmonic mean is the zero-shot map.  Raises as `score` does.
        """
        self._check_fitted()
        seen = [self._see(group, patches=False) for group in self._groups(images, "images")]
        return _join([self._zero_shot(vectors, windows) for vectors, _, windows in seen])

    @no_type_check
    @torch.no_grad()
    def few_shot_maps(self, images: UInt8[Tensor, "b 3 h w"]) -> dict[int | str, Float[Tensor, "b r c"]]:
        """The reference maps, on the grid of patches: "patch" and one a scale, in [0, 1].

        Their mean is WinCLIP+'s reference map.  Raises as `score` does, and RuntimeError without references.
        """
        self._check_fitted()
        if self.reference_patches_ is None:
            raise RuntimeError("few_shot_maps: fit(normal) first, with normal images to compare with")
        seen = [self._see(group) for group in self._groups(images, "images")]
        return _join([self._few_shot(patches, windows) for _, patches, windows in seen])

    def _seen(self, images: Tensor, patches: bool = True) -> "Seen":
        return Seen(*self._see(images, patches), tuple(images.shape[2:]))

    def _groups(self, images: Any, what: str) -> tuple[Tensor, ...]:
        """Groups of images whose tokens fit a chunk, at least one image each."""
        rows, columns = self.backbone.grid
        return check_images(images, what).split(max(1, self.chunk // (1 + rows * columns)))

    def _see(self, images: Tensor, patches: bool = True) -> tuple[Tensor, Tensor | None, dict[int, Tensor]]:
        """Unit vectors of images (b, d), of their patches (b, n, width) and of their windows {scale: (b, w, d)}."""
        clip, how = self.backbone, {"precision": self.precision, "chunk": self.chunk}
        x0 = clip.embed_patches(clip.preprocess(images.to(clip.device)))
        tokens = clip.encode_tokens(x0, layers=(-1,) if patches else (), norm=self.patch_norm, **how)
        windows = {s: F.normalize(clip.encode_windows(x0, w, **how), dim=-1) for s, w in self._windows.items()}
        for scale, vectors in windows.items():
            _guard(x0[:, 1:], vectors, scale)
        return F.normalize(tokens.pooled, dim=-1), F.normalize(tokens.patches[0], dim=-1) if patches else None, windows

    def _pool(self, texts: list[str]) -> Tensor:
        vectors = self.backbone.encode_text(texts)  # (n, d)
        if self.text_pooling == "normalised":
            vectors = F.normalize(vectors, dim=-1)
        return F.normalize(vectors.mean(dim=0), dim=0)

    def _judge(self, vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """The probability of "anomalous" against "normal"."""
        return (vectors @ self.text_vectors_.T / self.temperature).softmax(dim=-1)[..., 1]

    def _zero_shot(self, vectors: Tensor, windows: dict[int, Tensor]) -> Maps:
        grid = self.backbone.grid
        maps = {s: spread_windows(self._judge(w), grid, s) for s, w in windows.items()}
        return {"image": self._judge(vectors)[:, None, None].expand(-1, *grid), **maps}

    def _few_shot(self, patches: Tensor, windows: dict[int, Tensor]) -> Maps:
        grid = self.backbone.grid
        near = association(patches, self.reference_patches_, self.chunk).unflatten(1, grid)
        far = {s: association(w, self.reference_windows_[s], self.chunk) for s, w in windows.items()}
        return {"patch": near, **{s: spread_windows(scores, grid, s) for s, scores in far.items()}}

    def _fuse(self, zero: Tensor, few: Tensor) -> Tensor:
        if self.fusion == "harmonic":
            return harmonic_mean([zero, few])
        return (zero + few) / 2 if self.fusion == "mean" else zero + few

    def _check_fitted(self) -> None:
        if not hasattr(self, "text_vectors_"):
            raise RuntimeError("this WinCLIP is not fitted yet: call fit() for zero-shot or fit(normal) with images")


def _check(what: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{what}: expected one of {', '.join(allowed)}, got {value!r}")


def _join(parts: list[Maps]) -> Maps:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _guard(patches: Float[Tensor, "b n width"], vectors: Float[Tensor, "b w d"], scale: int) -> None:
    """Raise RuntimeError if windows that differ going in come out alike, as when batch and sequence are mixed up."""
    differ = (patches - patches[:, :1]).abs().amax(dim=(1, 2)) > 1e-6 * patches.abs().amax(dim=(1, 2))
    alike = (vectors - vectors[:, :1]).abs().amax(dim=(1, 2)) < 1e-6
    if vectors.shape[1] > 1 and bool((differ & alike).any()):
        raise RuntimeError(
            f"all {vectors.shape[1]} windows of scale {scale} of an image embed alike, although its patches differ. "
            "Either the weights are degenerate, or the transformer was fed sequence-first where it expects batch-first "
            "(or the reverse), so that every window attended to the wrong axis."
        )
