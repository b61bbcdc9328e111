"""The memory of colours: against loops over cells, and what it must find and must miss."""

import math

import pytest
import torch
from torch import Tensor

from gadkit.anomaly.detectors import backbone_of, build
from gadkit.anomaly.detectors.colour import Colour
from gadkit.backbones import Encoder
from gadkit.nn import ViT


@pytest.fixture(scope="module")
def eyes() -> Encoder:
    return Encoder(ViT(16, 8, width=16, depth=1, heads=1), 16)


def cell_means(image: Tensor, cells: int) -> list[list[list[float]]]:
    """Mean colours by loops; a cell goes from the pixel in which it begins to the one in which it ends."""
    _, height, width = image.shape

    def span(i: int, length: int) -> range:
        return range(i * length // cells, math.ceil((i + 1) * length / cells))

    def mean(rows: range, columns: range) -> list[float]:
        return [
            sum(int(image[c, y, x]) for y in rows for x in columns) / (255 * len(rows) * len(columns)) for c in range(3)
        ]

    return [[mean(span(r, height), span(c, width)) for c in range(cells)] for r in range(cells)]


@pytest.mark.parametrize("where", ["anywhere", "in place"])
def test_scores_are_those_of_the_plain_loops(eyes: Encoder, images: Tensor, where: str) -> None:
    cells, good, new = 3, images[:2, :, :10, :7], images[2:, :, :10, :7]
    detector = Colour(eyes, cells, where).fit(good)
    found = detector.score(new)
    known = [cell_means(image, cells) for image in good]
    for image, score in zip(new, found.scores, strict=True):
        worst = 0.0
        for r, row in enumerate(cell_means(image, cells)):
            for c, colour in enumerate(row):
                if where == "anywhere":
                    far = min(math.dist(colour, other) for one in known for line in one for other in line)
                else:
                    far = math.dist(colour, [sum(one[r][c][k] for one in known) / 2 for k in range(3)])
                worst = max(worst, far)
        assert score.item() == pytest.approx(worst, abs=1e-6)


def test_it_finds_a_colour_and_nothing_else(eyes: Encoder) -> None:
    good = torch.full((1, 3, 32, 32), 100, dtype=torch.uint8)
    good[:, :, 8:16, 8:16] = 200
    moved, painted = torch.full_like(good, 100), good.clone()
    moved[:, :, 20:28, 4:12] = 200
    painted[:, 0, 24:26, 24:26] = 250
    detector = Colour(eyes, cells=32).fit(good)
    found = detector.score(torch.cat([moved, painted]))
    assert found.scores[0] == 0, "the same colours at another place"
    assert found.scores[1].item() == pytest.approx(150 / 255)
    assert (found.maps[1] > 0.1).nonzero().min() >= 23
    assert (found.maps[1] > 0.1).nonzero().max() <= 26
    assert Colour(eyes, cells=32, where="in place").fit(good).score(moved).scores[0] > 0.5


def test_what_it_cannot_do(eyes: Encoder, untyped: None) -> None:
    with pytest.raises(ValueError, match="Colour compares with normal images, so it needs some"):
        Colour(eyes).fit()
    with pytest.raises(ValueError, match="where: expected one of anywhere, in place, got 'here'"):
        Colour(eyes, where="here")
    with pytest.raises(ValueError, match="cells: expected a whole number from 1"):
        Colour(eyes, cells=0)
    with pytest.raises(ValueError, match="--backbone: colour works on pixels, so it expects none, got 'dino'"):
        backbone_of("colour", "dino")
    assert backbone_of("colour") == "random"
    assert isinstance(build("colour", eyes), Colour)
