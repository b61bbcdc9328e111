"""Detectors as modules from resized pixels to scores and maps, in operations that every runtime has.

What a detector has learnt is constant here: its memory of good parts, and the vectors of its texts, so that a detector
that reads needs no text tower any more.

Book: intro/run-it
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit.anomaly.detectors.anomalyclip import AnomalyCLIP
from gadkit.anomaly.detectors.knn import PatchKNN
from gadkit.anomaly.detectors.patches import Patches, top_mean
from gadkit.anomaly.detectors.subspace import SubspaceAD, residual
from gadkit.anomaly.detectors.winclip import WinCLIP
from gadkit.anomaly.maps import window_indices
from gadkit.backbones.openclip import embed
from gadkit.backbones.preprocess import Preprocess, check_layers
from gadkit.backbones.tower import Tower
from gadkit.backbones.value_stream import matrix, streams
from gadkit.protocols import Tokens

Answer = tuple[Float[Tensor, "b"], Float[Tensor, "b r c"]]  # scores and maps
LEAST = 1e-30  # of a distance that is inverted: 0 times infinity is no number


class Prepared(nn.Module):
    """Resized pixels as a network takes them."""

    def __init__(self, preprocess: Preprocess) -> None:
        super().__init__()
        for name in ("mean", "std"):
            self.register_buffer(name, 255 * torch.tensor(getattr(preprocess, name)).view(3, 1, 1))

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b 3 s s"]:
        """Normalised."""
        return (pixels - self.mean) / self.std


class Eyes(nn.Module):
    """The eyes of a detector on patches as one module: pixels to tokens, without a check, a copy or a choice."""

    def __init__(self, detector: Patches) -> None:
        super().__init__()
        self.detector, backbone = detector, detector.backbone
        self.network = backbone.model  # so that its weights are this module's
        self.prepared = Prepared(backbone.preprocess)

    def tokens(self, pixels: Float[Tensor, "b 3 s s"]) -> Tokens:
        """The tokens of the detector's layers."""
        backbone = self.detector.backbone
        layers = [i % backbone.depth for i in self.detector.layers]
        return backbone.tokens(self.prepared(pixels), layers)

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b n e"]:
        """The vectors of patches, row by row."""
        return self.detector.described(self.tokens(pixels))


class PatchGraph(Eyes):
    """A detector on patches as one module: pixels to scores and maps."""

    def __init__(self, detector: Patches) -> None:
        super().__init__(detector)
        self.far, learnt = HEADS[type(detector)](detector)
        for name, value in learnt.items():
            self.register_buffer(name, value.cpu())

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Answer:
        """Scores and maps."""
        tokens = self.tokens(pixels)
        far = self.far(self, self.detector.described(tokens))  # (b, n)
        scores = top_mean(far, self.detector.top)
        if self.detector.extent:
            scores = scores + self.detector.extent * cosine_distances(tokens.pooled, self.vectors)
        return scores, far.unflatten(1, self.detector.backbone.grid)


class ReadingGraph(nn.Module):
    """What graphs of detectors on a CLIP share: pixels to the image tower's first tokens."""

    def __init__(self, detector: WinCLIP | AnomalyCLIP) -> None:
        super().__init__()
        visual = detector.backbone.model.visual
        self.detector, self.visual = detector, visual
        self.prepared, self.tower = Prepared(detector.backbone.preprocess), Tower(visual, pack=False)
        self.register_buffer("text", detector.text_vectors_.cpu())  # (2, d)

    def start(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b t width"]:
        """The class token and the patches with their positions."""
        return embed(self.visual, self.prepared(pixels))

    def probability(self, vectors: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Of "anomalous" against "normal"; vectors of any length."""
        cosines = F.normalize(vectors, dim=-1) @ self.text.T
        return (cosines / self.detector.temperature).softmax(dim=-1)[..., 1]


class WindowGraph(ReadingGraph):
    """WinCLIP, and WinCLIP+ where it was fitted on good parts."""

    def __init__(self, detector: WinCLIP) -> None:
        super().__init__(detector)
        grid = detector.backbone.grid
        for scale in detector.scales:
            windows = window_indices(grid, scale)  # (w, k)
            self.register_buffer(f"tokens_{scale}", F.pad(windows + 1, (1, 0)))  # the class token first
            cover = torch.zeros(len(windows), grid[0] * grid[1]).scatter_(1, windows, 1.0)  # which patches a window has
            self.register_buffer(f"cover_{scale}", cover)
        if detector.shots:
            self.register_buffer("patches", detector.reference_patches_.cpu())
            for scale, bank in detector.reference_windows_.items():
                self.register_buffer(f"bank_{scale}", bank.cpu())

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Answer:
        """Scores and maps."""
        detector, x0 = self.detector, self.start(pixels)
        layers = check_layers((detector.patch_layer,), detector.backbone.depth) if detector.shots else []
        vectors, patches = self.tower.image(x0, layers, detector.patch_norm)
        score, windows = self.probability(vectors), self._windows(x0)
        maps = [self._spread(self.probability(windows[scale]), scale) for scale in detector.scales]
        maps += [score[:, None].expand_as(maps[0]) if maps else self._everywhere(score)] * detector.image_term
        heat = _harmonic(maps)  # (b, n)
        if detector.shots:
            far = [cosine_distances(patches[0], self.patches) / 2]
            for scale, found in windows.items():
                far.append(self._spread(cosine_distances(found, getattr(self, f"bank_{scale}")) / 2, scale))
            few = torch.stack(far).mean(0)
            score, heat = (score + few.amax(1)) / 2, self._fuse(heat, few)
        return score, heat.unflatten(1, detector.backbone.grid)

    def _windows(self, x0: Float[Tensor, "b t width"]) -> dict[int, Float[Tensor, "b w d"]]:
        x = self.tower.ln_pre(x0)
        qkv, found = self.tower.blocks[0].project(x), {}
        for scale in self.detector.scales:
            tokens = getattr(self, f"tokens_{scale}")  # (w, 1 + k)
            seen, joint = (values[:, tokens].flatten(0, 1) for values in (x, qkv))
            found[scale] = self.tower.sequences(seen, joint).unflatten(0, (-1, len(tokens)))
        return found

    def _spread(self, scores: Float[Tensor, "b w"], scale: int) -> Float[Tensor, "b n"]:
        cover = getattr(self, f"cover_{scale}")
        return cover.sum(0) / ((1 / scores.clamp(min=LEAST)) @ cover)

    def _everywhere(self, score: Float[Tensor, "b"]) -> Float[Tensor, "b n"]:
        rows, columns = self.detector.backbone.grid
        return score[:, None].expand(-1, rows * columns)

    def _fuse(self, zero: Float[Tensor, "b n"], few: Float[Tensor, "b n"]) -> Float[Tensor, "b n"]:
        if self.detector.fusion == "harmonic":
            return _harmonic([zero, few.clamp(min=LEAST)])
        return (zero + few) / (2 if self.detector.fusion == "mean" else 1)


class PromptGraph(ReadingGraph):
    """AnomalyCLIP; its maps are not smoothed yet."""

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Answer:
        """Scores and maps."""
        detector, tower = self.detector, self.tower
        layers = check_layers(detector.layers, detector.backbone.depth)
        classes, taken = streams(tower, self.start(pixels), detector.blocks, layers)
        vectors = matrix(tower, tower.ln_post(classes) if detector.class_norm else classes)[:, 0]
        maps = [self.probability(matrix(tower, tower.ln_post(patches))) for patches in taken]  # (b, n) each
        heat = torch.stack(maps).mean(0)
        return self.probability(vectors), heat.unflatten(1, detector.backbone.grid)


def cosine_distances(queries: Float[Tensor, "*b e"], bank: Float[Tensor, "m e"], k: int = 1) -> Float[Tensor, "*b"]:
    """`knn.distances` from rows of unit length, in operations that every runtime has."""
    cosines = F.normalize(queries, dim=-1) @ bank.T
    nearest = cosines.amax(-1, keepdim=True) if k == 1 else cosines.topk(k, dim=-1).values
    return (1 - nearest).clamp(min=0).mean(-1)


def _harmonic(maps: list[Tensor]) -> Tensor:
    return len(maps) / sum(1 / values for values in maps)


def _plane(detector: SubspaceAD) -> tuple[Callable, dict[str, Tensor]]:
    learnt = {"axes": detector.axes_, "origin": detector.mean_, "vectors": F.normalize(detector.vectors_, dim=1)}
    return lambda graph, patches: residual(patches, graph.axes, graph.origin), learnt


def _memory(detector: PatchKNN) -> tuple[Callable, dict[str, Tensor]]:
    learnt = {name: F.normalize(getattr(detector, f"{name}_"), dim=1) for name in ("bank", "vectors")}
    return lambda graph, patches: cosine_distances(patches, graph.bank, detector.k), learnt


HEADS: dict[type, Callable] = {SubspaceAD: _plane, PatchKNN: _memory}  # how far patches are from what is normal
GRAPHS: dict[type, Callable[..., nn.Module]] = {
    WinCLIP: WindowGraph,
    PatchKNN: PatchGraph,
    SubspaceAD: PatchGraph,
    AnomalyCLIP: PromptGraph,
}
