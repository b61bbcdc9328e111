"""Detection as `gadkit detect` does it: images a second, seconds to the first score, and the search beside anomalib's.

The whole is measured with the detector that is taken where nobody chose one.  The search is PatchKNN's against that of
anomalib's PatchCore and AnomalyDINO, where anomalib is installed, on the same features: those of the default backbone.
anomalib's parts are used as they are, but for what is not search: its feature extractor gives our features, and its map
is neither enlarged nor blurred.  PatchCore's Euclidean distance d of unit vectors becomes our 1 - cos, d * d / 2.

Book: anomaly/measuring
"""

import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor, nn

from benchmarks import Timing, best
from gadkit import runtime, zoo
from gadkit.anomaly.detectors import DETECTORS, PatchKNN, build, default
from gadkit.protocols import AnomalyResult, Backbone, Encoded

NAME = default(normal=True)
Score = Callable[[], AnomalyResult]


def rows(shots: int = 16, count: int = 16, size: int = 224, rounds: int = 3, start: bool = True) -> Iterator[Timing]:
    """Speeds of the whole and of the search, ratios, and the largest difference of maps; `start` starts programs."""
    where, eyes = runtime.device(), DETECTORS[NAME].backbone
    backbone = zoo.load(eyes)
    normal, images = pictures(shots, size).to(where), pictures(count, size, 1).to(where)
    detector = build(NAME, backbone).fit(normal)
    seconds = best({"score": lambda: detector.score(images)}, rounds)["score"]
    setting = f"{shots} good parts, {size} px, {eyes}, {where}, {torch.get_num_threads()} threads"
    yield f"{NAME}, scored", count / seconds, f"images/s, {setting}"
    yield from _search(backbone, PatchKNN(backbone).fit(normal), normal, images, rounds)
    if start:
        yield from _starts(shots, size)


def pictures(count: int, size: int, seed: int = 0) -> UInt8[Tensor, "b 3 s s"]:
    """Coarse random pictures with some noise."""
    draw = torch.Generator().manual_seed(seed)
    coarse = nn.functional.interpolate(torch.rand(count, 3, 9, 9, generator=draw), (size, size), mode="bicubic")
    noise = 0.1 * torch.rand(count, 3, size, size, generator=draw)
    return (255 * (0.9 * coarse + noise)).round().clamp(0, 255).to(torch.uint8)


def _search(backbone: Backbone, detector: PatchKNN, normal: Tensor, images: Tensor, rounds: int) -> Iterator[Timing]:
    """The search alone, ours and anomalib's, on features that are there already."""
    encoded = detector.encode(images)
    grid = Encoded(encoded.features, backbone.grid)  # maps on the grid of patches: nothing is enlarged
    contestants: dict[str, Score] = {"gadkit": lambda: detector.score(grid)}
    contestants |= rivals(detector.encode(normal).features["patches"], encoded.features["patches"])
    seconds = best(contestants, rounds)
    ours = contestants["gadkit"]()
    for name, took in seconds.items():
        yield f"{name}, search", took / len(images) * 1000, f"ms/image, {len(detector.bank_)} patches in the bank"
        if name != "gadkit":
            yield f"gadkit / {name}", took / seconds["gadkit"], "times as fast"
            theirs = contestants[name]()
            yield f"{name}: largest difference of a map", float((theirs.maps - ours.maps).abs().max()), ""
    if len(contestants) == 1:
        yield "anomalib", math.nan, "not installed"


def rivals(bank: Float[Tensor, "k r c e"], patches: Float[Tensor, "b r c e"]) -> dict[str, Score]:
    """anomalib's PatchCore and AnomalyDINO with the unit vectors `bank` in memory, to score those of `patches`."""
    try:
        from anomalib.models.image.anomaly_dino.torch_model import AnomalyDINOModel
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel
    except ImportError:
        return {}

    class Dino(AnomalyDINOModel):
        """Without its own network, which it would download."""

        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.num_neighbours, self.masking, self.coreset_subsampling = 1, False, False
            self.patch_size, self.embedding_store = 1, []
            self.register_buffer("memory_bank", torch.empty(0))
            self.anomaly_map_generator = _AsItIs()

        def extract_features(self, image_tensor: Tensor) -> Tensor:
            return image_tensor.flatten(2).transpose(1, 2)  # (b, n, e): what comes are features already

    core = PatchcoreModel(["layer1"], "resnet18", pre_trained=False, num_neighbors=1)
    core.feature_extractor = _Given()
    core.feature_pooler = nn.Identity()
    core.anomaly_map_generator = _AsItIs()
    core.memory_bank, dino = bank.flatten(0, 2), Dino()
    dino.memory_bank = bank.flatten(0, 2)
    given = patches.permute(0, 3, 1, 2)  # (b, e, r, c)

    def patchcore() -> AnomalyResult:
        answer = core(given)
        return AnomalyResult(answer.anomaly_map[:, 0].square() / 2, answer.pred_score.square() / 2)

    def anomaly_dino() -> AnomalyResult:
        answer = dino(given)
        return AnomalyResult(answer.anomaly_map[:, 0], answer.pred_score[:, 0])

    core.eval(), dino.eval()
    return {"anomalib's PatchCore": patchcore, "anomalib's AnomalyDINO": anomaly_dino}


class _Given(nn.Module):
    """In place of a feature extractor: what it gets are features already."""

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"layer1": features}


class _AsItIs(nn.Module):
    """In place of a generator of maps: the distances of patches stay as they are."""

    def forward(self, distances: Tensor, _: object) -> Tensor:
        return distances


def _starts(shots: int, size: int) -> Iterator[Timing]:
    """From the start of the program to its first line, with good parts and with a fitted detector."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for where, count, seed in (("good", shots, 0), ("new", 1, 1)):
            (folder / where).mkdir()
            for i, image in enumerate(pictures(count, size, seed)):
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / where / f"{i}.png")
        fitted = folder / "part.gad"
        subprocess.run(
            [*_command("fit"), "--normal", folder / "good", "--out", fitted],
            check=True,
            stderr=subprocess.DEVNULL,
        )
        for what, options in {
            f"with {shots} good parts": ["--normal", folder / "good"],
            "with a fitted detector": ["--fitted", fitted],
        }.items():
            took = min(_first_line([*_command("detect"), folder / "new", "--json", *options]) for _ in range(2))
            yield f"start to the first score, {what}", took, "s"


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", "gadkit", name]


def _first_line(command: list[str | Path]) -> float:
    """Seconds until a program has written its first line, a score."""
    begin = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        line = process.stdout.readline()
        took = time.perf_counter() - begin
        process.communicate()
    json.loads(line)["score"]  # KeyError or ValueError where the program failed
    return took
