"""UniADet's idea against a form with loops, on a network whose layers differ in grid and width."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from suite import textured
from torch import Tensor

from gadkit import zoo
from gadkit.anomaly.detectors.uniadet import UniADet, untrained
from gadkit.backbones import OpenCLIP
from gadkit.protocols import AnomalyResult, Backbone

Heads = dict[str, Tensor]


@pytest.fixture(scope="module")
def eyes() -> Backbone:
    return zoo.load("efficientnet-random")


@pytest.fixture(scope="module")
def clip(tiny_clip: Callable) -> OpenCLIP:
    return tiny_clip(image_size=64, width=64, layers=3)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(3)


def near(ours: Tensor, theirs: Tensor, atol: float = 1e-6) -> None:
    torch.testing.assert_close(ours, theirs.float(), rtol=0, atol=atol)


@torch.no_grad()
def literal(detector: UniADet, image: Tensor) -> tuple[Tensor, float]:
    """A map and a score, patch by patch, in double precision."""
    eyes, heads = detector.backbone, {name: pair.double() for name, pair in detector.heads.items()}
    tokens = eyes.encode_image(eyes.preprocess(image[None]), detector.layers)

    def probability(vector: Tensor, pair: Tensor) -> float:
        cosines = [float(vector @ side / vector.norm() / side.norm()) / detector.temperature for side in pair]
        return math.exp(cosines[1]) / (math.exp(cosines[0]) + math.exp(cosines[1]))

    grids, wholes = [], []
    for number, layer in enumerate(detector.layers):
        patches, count = tokens.patches[number][0].double(), max(1, eyes.patch_size // eyes.strides[layer]) ** 2
        width = patches.shape[1] // count  # a channel's values within a patch stand side by side
        vectors = [torch.stack([p[c * count : (c + 1) * count].mean() for c in range(width)]) for p in patches]
        grids.append(torch.tensor([probability(v, heads[f"patch.{number}"]) for v in vectors]).view(eyes.grid))
        wholes.append(probability(torch.stack(vectors).mean(0), heads[f"image.{number}"]))
    grid, size = torch.stack(grids).mean(0), tuple(image.shape[1:])
    score = (1 - detector.peak) * sum(wholes) / len(wholes) + detector.peak * float(grid.max())
    full = F.interpolate(grid[None, None], size, mode="bilinear", align_corners=False)[0, 0].numpy()
    sigma = [detector.sigma * side for side in size]
    return torch.from_numpy(gaussian_filter(full, sigma) if detector.sigma else full), score


@pytest.mark.parametrize(
    "arguments", [{}, {"peak": 0.0, "sigma": 0.0}, {"temperature": 0.2, "peak": 1.0}, {"layers": (-1, 2)}], ids=str
)
def test_it_is_what_the_docstring_says(eyes: Backbone, pictures: Tensor, arguments: dict) -> None:
    heads = untrained(eyes, arguments.get("layers"), seed=1)
    detector = UniADet(eyes, {name: 3 * pair for name, pair in heads.items()}, **arguments).fit()  # lengths don't count
    found = detector.score(pictures)
    for i, picture in enumerate(pictures):
        grid, score = literal(detector, picture)
        near(found.maps[i], grid), near(found.scores[i], torch.tensor(score))


def test_any_backbone_will_do(clip: OpenCLIP, pictures: Tensor) -> None:
    detector = UniADet(clip, untrained(clip, (0, 2)), layers=(0, 2)).fit()
    assert detector.encode(pictures).features["patch.1"].shape == (3, 64, 64)
    grid, score = literal(detector, pictures[0])
    near(detector.score(pictures).maps[0], grid), near(detector.score(pictures).scores[0], torch.tensor(score))


def test_batches_change_nothing_and_heads_travel(eyes: Backbone, pictures: Tensor) -> None:
    detector = UniADet(eyes, untrained(eyes, seed=1), peak=0.25).fit()
    together = detector.score(pictures)
    for chunk in (1, 2):
        found = UniADet(eyes, untrained(eyes, seed=1), peak=0.25, chunk=chunk).fit().score(pictures)
        near(found.maps, together.maps), near(found.scores, together.scores)
    other = UniADet(eyes, untrained(eyes, seed=2)).fit().load_state(detector.state())
    result: AnomalyResult = other.score(pictures)
    assert torch.equal(result.maps, together.maps)
    assert other.heads["patch.0"].tolist() == detector.heads["patch.0"].tolist()


def test_normal_images_are_refused(clip: OpenCLIP, pictures: Tensor) -> None:
    with pytest.raises(ValueError, match="normal images: UniADet scores an image by itself, so it takes none"):
        UniADet(clip, untrained(clip)).fit(pictures)


PAIR = torch.zeros(2, 64)
BAD = [
    None,
    {"patch.0": 1, "image.0": 2},
    {},
    {"patch.0": PAIR},
    {"patch.0": PAIR, "image.0": PAIR, "image.1": PAIR},
    {"patch.0": PAIR, "image.0": PAIR[0]},
    {"patch.0": PAIR, "image.0": PAIR[:1]},
    {"patch.0": PAIR, "image.0": PAIR * torch.nan},
    {"patch.0": torch.zeros(2, 32), "image.0": PAIR},
]


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("heads", BAD, ids=range(len(BAD)))
def test_bad_heads_are_named(clip: OpenCLIP, heads: object) -> None:
    with pytest.raises(ValueError, match=r"heads.*: expected"):
        UniADet(clip, heads)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    "arguments",
    [
        {"layers": ()},
        {"layers": 1},
        {"layers": (3,)},
        {"temperature": 0.0},
        {"peak": 1.5},
        {"sigma": -1.0},
        {"chunk": 0},
    ],
    ids=str,
)
def test_bad_arguments_are_named(clip: OpenCLIP, arguments: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        UniADet(clip, untrained(clip), **arguments)
