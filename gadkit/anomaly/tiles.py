"""Large photographs: cut into overlapping tiles, scored tile by tile, and put together again.

A network squashes what it gets to its own size, and a spot of four pixels in a photograph of two thousand is gone
then.  A tile is as large as what the network takes, so nothing is lost; the aspect is kept, and the work grows in
proportion to the number of pixels.

The map of a photograph is the weighted mean of its tiles' maps: weights fall to the edges of a tile, where a network
sees least around, and add up to 1 at every pixel.  Its score is the highest among its tiles, each scored as the
detector scores an image.  So a defect counts as much in a large photograph as in a small one, and a change everywhere
raises all tiles; one threshold serves all photographs.

Book: intro/run-it
"""

import copy
import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.anomaly.detectors.base import batches
from gadkit.checks import check_images, checked, share, whole
from gadkit.protocols import AnomalyResult, Detector, DetectorState, Encoded

GROUP = 16  # tiles that are scored at once
COUNTS = "tiles"  # in a state's tensors: how many tiles each normal image has
PIXEL = 24  # bytes that a pixel of a tile takes on its way, beside the network: as uint8, as floats, and as a map
Window = tuple[int, int]  # the upper left corner of a tile: row and column


class Tiled:
    """A detector that cuts every image into tiles: to the detector inside, each tile is an image.

    `detector`  any detector; `fit` and `load_state` change it.
    `size`      side of a tile in pixels; None takes the side of the images that the detector's backbone encodes.
    `overlap`   the least share of a tile that the next one shows, too: below 1.

    Learnt by `fit`: `counts_`, how many tiles each normal image had.  Images may differ in size, also the normal ones:
    tiles are compared as they are, pixel by pixel.  Every call raises ValueError for images smaller than a tile.
    """

    version = 1
    counts_: tuple[int, ...]

    @checked
    def __init__(self, detector: Detector, size: int | None = None, overlap: float = 0.25) -> None:
        self.detector = detector
        self.size = detector.image_size if size is None else whole("size", size, 2)
        if share("overlap", overlap, zero=True) == 1:
            raise ValueError("overlap: expected a share in [0, 1), got 1")
        self.overlap = float(overlap)

    @property
    def image_size(self) -> int:
        """The side in pixels of what the backbone encodes of a tile."""
        return self.detector.image_size

    @property
    def shots(self) -> int:
        """How many normal images `fit` was given; 0 for none, and before `fit`."""
        return len(getattr(self, "counts_", ()))

    @property
    def map_range(self) -> tuple[float, float]:
        """As the detector has it."""
        return self.detector.map_range

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along `length` pixels: the fewest, evenly spaced, that overlap as they should.

        Raises ValueError for a length below a tile's.
        """
        if length < self.size:
            raise ValueError(f"length: expected at least the {self.size} pixels of a tile, got {length}")
        step = max(1, math.floor(self.size * (1 - self.overlap)))
        count = math.ceil((length - self.size) / step) + 1
        return [round(i * (length - self.size) / max(1, count - 1)) for i in range(count)]

    def weights(self, length: int) -> Float[Tensor, "t s"]:
        """The weight of each pixel of each of the t tiles along `length` pixels: at every pixel they add up to 1."""
        starts = self.starts(length)
        rise = torch.arange(1, self.size + 1, dtype=torch.float64)
        tent = torch.minimum(rise, rise.flip(0))  # 1 at the edges, highest in the middle
        total = torch.zeros(length, dtype=torch.float64)
        for start in starts:
            total[start : start + self.size] += tent
        return torch.stack([tent / total[start : start + self.size] for start in starts]).float()

    def bytes_at_once(self, height: int, width: int) -> int:
        """The most memory that scoring a photograph takes beside the network's: the photograph, its map and a group."""
        tiles = min(GROUP, len(self.starts(height)) * len(self.starts(width)))
        return height * width * (3 + 4) + tiles * (self.size**2 + self.image_size**2) * PIXEL

    def fit(self, normal: UInt8[Tensor, "k 3 h w"] | Iterable[Tensor] | None = None) -> "Tiled":
        """Learn from the tiles of normal images, or from none where the detector can do without."""
        counts: list[int] = []
        self.detector.fit(None if normal is None else self._tiles(normal, counts))
        self.counts_ = tuple(counts)
        return self

    def encode(self, images: UInt8[Tensor, "b 3 h w"]) -> Encoded:
        """Encode all tiles of each image; features are (b, t, ...)."""
        tiles = [self.detector.encode(torch.cat([*self._cut(image)])) for image in check_images(images)]
        self._corners(images)
        names = tiles[0].features
        return Encoded({n: torch.stack([t.features[n] for t in tiles]) for n in names}, tuple(images.shape[2:]))

    def score(self, images: UInt8[Tensor, "b 3 h w"] | Encoded) -> AnomalyResult:
        """Blended maps at the images' own size, and the highest score among an image's tiles."""
        found = []
        for i in range(len(images) if isinstance(images, Encoded) else len(check_images(images))):
            if isinstance(images, Encoded):
                tiles = Encoded({name: values[i] for name, values in images.features.items()}, (self.size, self.size))
                groups, size = (tiles[at : at + GROUP] for at in range(0, len(tiles), GROUP)), images.size
            else:
                groups, size = self._cut(images[i]), tuple(images.shape[2:])
            found.append(self._joined(map(self.detector.score, groups), size))
        return AnomalyResult(*(torch.cat([getattr(f, what) for f in found]) for what in ("maps", "scores")))

    def leave_one_out(
        self, normal: UInt8[Tensor, "k 3 h w"] | Iterable[Tensor], parts: Sequence[int] | None = None
    ) -> Iterator[AnomalyResult]:
        """As `protocols.Detector` has it; all tiles of an image are left out together, and each image has a result."""
        counts = list(getattr(self, "counts_", ()))
        if parts is not None:
            ends = [0, *torch.tensor(parts).cumsum(0).tolist()]
            counts = [sum(counts[a:b]) for a, b in zip(ends, ends[1:], strict=False)]
        pieces = self.detector.leave_one_out(_Cut(self, normal), counts or None)
        for batch in batches(normal):
            for image in batch:
                yield self._joined(pieces, tuple(image.shape[1:]))

    def explain(self) -> str:
        """How the scores came about."""
        how = self.detector.explain()
        return f"Photographs were cut into tiles of {self.size} x {self.size} pixels, each an image by itself. {how}"

    def remarks(self) -> Sequence[str]:
        """The detector's own."""
        return self.detector.remarks()

    def state(self) -> DetectorState:
        """The detector's state, and how images are cut.  Raises RuntimeError before `fit`."""
        inside = self.detector.state()
        parameters = {"size": self.size, "overlap": self.overlap, "detector": inside.detector}
        parameters |= {"version": inside.version, "parameters": dict(inside.parameters)}
        tensors = dict(inside.tensors) | {COUNTS: torch.tensor(self.counts_, dtype=torch.long)}
        return DetectorState(type(self).__name__, self.version, parameters, tensors)

    def load_state(self, state: DetectorState) -> "Tiled":
        """Become the detector that `state` came from.  Raises ValueError as the detector inside does."""
        what = (state.detector, state.version)
        if what != (type(self).__name__, self.version):
            raise ValueError(
                f"state: expected {type(self).__name__}, version {self.version}, got {what[0]}, version {what[1]}"
            )
        held, tensors = dict(state.parameters), dict(state.tensors)
        expected = {"size", "overlap", "detector", "version", "parameters"}
        if set(held) != expected or COUNTS not in tensors:
            raise ValueError(f"state: expected {', '.join(sorted(expected))} and tensors {COUNTS}, got {', '.join(held)}")
        counts = tuple(tensors.pop(COUNTS).tolist())
        other = Tiled(self.detector, held["size"], held["overlap"])
        self.detector.load_state(DetectorState(held["detector"], held["version"], held["parameters"], tensors))
        self.size, self.overlap, self.counts_ = other.size, other.overlap, counts
        return self

    def _corners(self, images: UInt8[Tensor, "b 3 h w"]) -> list[Window]:
        height, width = images.shape[-2:]
        if min(height, width) < self.size:
            raise ValueError(
                f"images: expected at least the {self.size} x {self.size} pixels of a tile, got {height} x {width}"
            )
        return [(top, left) for top in self.starts(height) for left in self.starts(width)]

    def _cut(self, image: UInt8[Tensor, "3 h w"]) -> Iterator[UInt8[Tensor, "t 3 s s"]]:
        """The tiles of an image row by row, a group at a time."""
        corners, size = self._corners(image), self.size
        for at in range(0, len(corners), GROUP):
            some = corners[at : at + GROUP]
            yield torch.stack([image[:, top : top + size, left : left + size] for top, left in some])

    def _tiles(
        self, normal: Tensor | Iterable[Tensor], counts: list[int] | None = None
    ) -> Iterator[UInt8[Tensor, "t 3 s s"]]:
        """The tiles of all normal images; the number of each image's is added to `counts`."""
        for batch in batches(normal):
            for image in batch:
                yield from self._cut(image)
                if counts is not None:
                    counts.append(len(self._corners(image)))

    def _joined(self, pieces: Iterator[AnomalyResult], size: Window) -> AnomalyResult:
        """The map and score of one image of that size; as many results as its tiles need are taken from `pieces`."""
        down, across = self.weights(size[0]), self.weights(size[1])
        corners = [(top, left) for top in self.starts(size[0]) for left in self.starts(size[1])]
        heat, scores = torch.zeros(size), []
        while len(scores) < len(corners):
            piece = next(pieces)
            for tile, score in zip(piece.maps, piece.scores, strict=True):
                at = len(scores)
                if not at:
                    heat, down, across = heat.to(tile), down.to(tile), across.to(tile)
                (top, left), row, column = corners[at], *divmod(at, len(across))
                window = heat[top : top + self.size, left : left + self.size]
                window += tile * down[row, :, None] * across[column]
                scores.append(score)
        return AnomalyResult(heat[None], torch.stack(scores).amax(0, keepdim=True))


class _Cut:
    """The tiles of normal images, as often as they are read."""

    def __init__(self, tiled: Tiled, normal: Tensor | Iterable[Tensor]) -> None:
        self.tiled, self.normal = copy.copy(tiled), normal

    def __iter__(self) -> Iterator[Tensor]:
        return self.tiled._tiles(self.normal)
