"""WinCLIP and WinCLIP+: defects found by what a vision-language model calls flawless, and by a few normal images.

CLIP compares the image, and every small window of it, with two text vectors, "normal" and "anomalous".  WinCLIP+ adds
how unlike each window and patch is to its nearest counterpart in normal reference images.

Source: Jeong et al., WinCLIP: Zero-/Few-Shot Anomaly Classification and Segmentation, CVPR 2023.
Book: anomaly/winclip
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.anomaly.detectors.parts import shares, without
from gadkit.anomaly.detectors.reading import Reading
from gadkit.anomaly.maps import association, harmonic_mean, spread_windows, upsample, window_indices
from gadkit.anomaly.prompts import WINCLIP, PromptEnsemble
from gadkit.backbones.openclip import CHUNK, OpenCLIP
from gadkit.backbones.preprocess import by_pillow
from gadkit.backbones.tower import PRECISIONS
from gadkit.checks import check_images, one_of, positive, whole
from gadkit.protocols import AnomalyResult

Maps = dict[int | str, Tensor]  # one (b, rows, columns) map a window scale, and "image" or "patch"


class WinCLIP(Reading):
    """Zero-shot detection from an object's name; few-shot (WinCLIP+) once normal images were given to `fit`.

    `object_name`    what is in the images, as a noun: "metal nut".
    `prompts`        states and templates; any `PromptEnsemble`.
    `temperature`    of the softmax over the two text similarities.
    `scales`         window sides, in patches.
    `text_pooling`   "mean" of raw text vectors, or "normalised": of unit vectors.
    `patch_norm`     whether the reference patches pass the tower's last LayerNorm.
    `fusion`         of the zero-shot and the reference map: "mean", "sum" or "harmonic".
    `patch_layer`    the block whose patch tokens are compared with the references', from 0 or from the end.
    `image_term`     whether the score of the whole image is one of the maps in the zero-shot map's harmonic mean.
    `resize`         "torch", antialiased bicubic on floats, or "pil", Pillow's bicubic on bytes as CLIP was trained.
    `precision`      of the image tower's blocks: "float32" or "bfloat16".
    `chunk`          tokens, or features compared, at once: bounds the memory, changes no result.

    Learnt by `fit`: `text_vectors_` (2, d), normal and anomalous, `reference_windows_` {scale: (k w, d)} and
    `reference_patches_` (k n, width), all of unit length; the last two are None without references.
    Encoded are `vectors` (b, d), `patches` (b, n, width) and, for every scale, `windows/2` (b, w, d), of unit length.
    Raises ValueError for arguments outside these; `fit`, `encode` and `score` also raise RuntimeError when all windows
    of an image embed alike although its patches differ.
    """

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
        patch_layer: int = -1,
        image_term: bool = True,
        resize: str = "torch",
        precision: str = "float32",
        chunk: int = CHUNK,
    ) -> None:
        super().__init__(backbone, object_name, prompts)
        if not isinstance(scales, tuple | list) or len({s for s in scales if isinstance(s, int)}) != len(scales):
            raise ValueError(f"scales: expected different whole numbers of patches, got {scales!r}")
        if not scales and not image_term:
            raise ValueError("scales: expected at least one where the map has no image term, got none")
        self.temperature, self.scales = positive("temperature", temperature), tuple(scales)
        self.text_pooling = one_of("text_pooling", text_pooling, ("mean", "normalised"))
        self.patch_norm, self.image_term = bool(patch_norm), bool(image_term)
        self.fusion = one_of("fusion", fusion, ("mean", "sum", "harmonic"))
        self.patch_layer = whole("patch_layer", patch_layer, -backbone.depth, backbone.depth - 1)
        self.resize = one_of("resize", resize, ("torch", "pil"))
        self.precision, self.chunk = one_of("precision", precision, PRECISIONS), whole("chunk", chunk)
        self._windows = {s: window_indices(backbone.grid, s).to(backbone.device) for s in self.scales}

    @property
    def map_range(self) -> tuple[float, float]:
        """Zero-shot the probability of damage, undecided at 0.5; with references half of it is a distance."""
        return (0.2, 0.55) if self.shots else (0.4, 1.0)

    def explain(self) -> str:
        """How the scores came about."""
        words = f"Each image was compared with descriptions of a good and of a damaged {self.object_name.strip()}"
        images = "image" if self.shots == 1 else "images"
        return words + (f", and each spot of it with {self.shots} {images} of good parts" if self.shots else "")

    @torch.no_grad()
    def zero_shot_maps(self, images: UInt8[Tensor, "b 3 h w"]) -> dict[int | str, Float[Tensor, "b r c"]]:
        """The language-guided maps, on the grid of patches: "image" (its one score everywhere) and one a scale.

        Their harmonic mean is the zero-shot map; "image" is there with `image_term` only.  Raises as `score` does.
        """
        self._check_fitted()
        return _join([self._zero_shot(self._encode(some, full=False)) for some in self._split(images)])

    @torch.no_grad()
    def few_shot_maps(self, images: UInt8[Tensor, "b 3 h w"]) -> dict[int | str, Float[Tensor, "b r c"]]:
        """The reference maps, on the grid of patches: "patch" and one a scale, in [0, 1].

        Their mean is WinCLIP+'s reference map.  Raises as `score` does, and RuntimeError without references.
        """
        self._check_fitted()
        if not self.shots:
            raise RuntimeError("few_shot_maps: fit(normal) first, with normal images to compare with")
        return _join([self._few_shot(self._encode(some, full=True)) for some in self._split(images)])

    def _fit(self, normal: Iterator[Tensor] | None) -> None:
        parts = [] if normal is None else [self._encode(some, full=True) for some in normal]
        unit, sides = self.text_pooling == "normalised", self.prompts.texts(self.object_name)
        self.text_vectors_ = torch.stack([self._pool(texts, unit) for texts in sides])
        self.reference_windows_ = self.reference_patches_ = None
        if parts:
            self.reference_patches_ = torch.cat([part["patches"].flatten(0, 1) for part in parts])
            self.reference_windows_ = {
                s: torch.cat([part[f"windows/{s}"].flatten(0, 1) for part in parts]) for s in self.scales
            }

    def _others(self, normal: Tensor | Iterable[Tensor], counts: Sequence[int]) -> Iterator["WinCLIP"]:
        """As the base class has it, but from what `fit` has encoded."""
        for first, last in shares(counts):
            yield self._with(
                reference_patches_=without(self.reference_patches_, first, last, self.shots),
                reference_windows_={
                    s: without(bank, first, last, self.shots) for s, bank in self.reference_windows_.items()
                },
            )

    def _encode(self, images: Tensor, full: bool) -> dict[str, Tensor]:
        clip, how = self.backbone, {"precision": self.precision, "chunk": self.chunk}
        patches = full or self.shots > 0
        x0 = clip.embed_patches(clip.preprocess(self._resized(images).to(clip.device)))
        tokens = clip.encode_tokens(x0, layers=(self.patch_layer,) if patches else (), norm=self.patch_norm, **how)
        windows = {s: F.normalize(clip.encode_windows(x0, w, **how), dim=-1) for s, w in self._windows.items()}
        for scale, vectors in windows.items():
            _guard(x0[:, 1:], vectors, scale)
        found = {"vectors": F.normalize(tokens.pooled, dim=-1)}
        if patches:
            found["patches"] = F.normalize(tokens.patches[0], dim=-1)
        return found | {f"windows/{s}": vectors for s, vectors in windows.items()}

    def _score(self, features: dict[str, Tensor], size: tuple[int, int]) -> AnomalyResult:
        score, grid = self._probability(features["vectors"]), harmonic_mean(list(self._zero_shot(features).values()))
        if self.shots:
            few = torch.stack(list(self._few_shot(features).values())).mean(dim=0)  # (b, r, c)
            score, grid = (score + few.amax(dim=(1, 2))) / 2, self._fuse(grid, few)
        return AnomalyResult(upsample(grid, size), score)

    def _names(self) -> tuple[str, ...]:
        return ("vectors", "patches", *(f"windows/{s}" for s in self.scales))

    def _split(self, images: Tensor) -> tuple[Tensor, ...]:
        return check_images(images).split(self._group())

    def _learnt(self) -> dict[str, Tensor]:
        kept = {"text_vectors_": self.text_vectors_}
        if self.shots:
            kept["reference_patches_"] = self.reference_patches_
            kept |= {f"reference_windows_/{s}": bank for s, bank in self.reference_windows_.items()}
        return kept

    def _take(self, tensors: dict[str, Tensor]) -> None:
        self.text_vectors_ = tensors["text_vectors_"]
        self.reference_windows_ = self.reference_patches_ = None
        if self.shots:
            self.reference_patches_ = tensors["reference_patches_"]
            self.reference_windows_ = {s: tensors[f"reference_windows_/{s}"] for s in self.scales}

    def _resized(self, images: Tensor) -> Tensor:
        """Images as the backbone's preprocessing shall get them: with Pillow there is nothing left to resize."""
        side = self.backbone.image_size
        if self.resize == "torch" or images.shape[2:] == (side, side):
            return images
        return by_pillow(images, side, side)

    def _probability(self, vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Of "anomalous" against "normal"."""
        return (vectors @ self.text_vectors_.T / self.temperature).softmax(dim=-1)[..., 1]

    def _zero_shot(self, features: dict[str, Tensor]) -> Maps:
        grid, maps = self.backbone.grid, {}
        if self.image_term:
            maps["image"] = self._probability(features["vectors"])[:, None, None].expand(-1, *grid)
        votes = {s: self._probability(features[f"windows/{s}"]) for s in self.scales}
        return maps | {s: spread_windows(scores, grid, s) for s, scores in votes.items()}

    def _few_shot(self, features: dict[str, Tensor]) -> Maps:
        grid = self.backbone.grid
        near = association(features["patches"], self.reference_patches_, self.chunk).unflatten(1, grid)
        banks = self.reference_windows_
        far = {s: association(features[f"windows/{s}"], banks[s], self.chunk) for s in self.scales}
        return {"patch": near, **{s: spread_windows(scores, grid, s) for s, scores in far.items()}}

    def _fuse(self, zero: Tensor, few: Tensor) -> Tensor:
        if self.fusion == "harmonic":
            return harmonic_mean([zero, few])
        return (zero + few) / 2 if self.fusion == "mean" else zero + few


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
