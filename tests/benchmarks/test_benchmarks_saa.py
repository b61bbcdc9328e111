"""The contestants of SAA+'s benchmark give the same answer, or their times would say nothing."""

import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import saa
from gadkit.anomaly.detectors import build
from gadkit.anomaly.saliency import object_saliency, self_saliency

sys.path.insert(0, str(Path(__file__).parents[1] / "anomaly"))
import tiny_objects


@pytest.fixture(scope="module")
def spots() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(6, 7, 5, generator=torch.Generator().manual_seed(0)), dim=2)


def test_saliencies_agree(spots: torch.Tensor) -> None:
    flat = spots.flatten(0, 1)
    torch.testing.assert_close(saa.sorted_saliency(flat), self_saliency(flat), atol=1e-6, rtol=0)
    objects = torch.zeros(3, 6, 7, dtype=torch.bool)
    objects[0, :2], objects[1, 2:4, 1:], objects[2, 4:, :3] = True, True, True
    found = saa.looped_saliency(spots, objects)
    torch.testing.assert_close(found.flatten(), object_saliency(flat, objects.flatten(1)), atol=1e-6, rtol=0)
    assert found[objects.any(0)].min() > 0


@pytest.mark.filterwarnings("ignore::gadkit.anomaly.detectors.saa.NothingFound")
def test_plain_and_fast_agree_from_photograph_to_score(images: torch.Tensor) -> None:
    from gadkit import zoo

    networks = {"finder": tiny_objects.finder(), "segmenter": tiny_objects.segmenter()}
    detector = build("saa+", zoo.load("random", device="cpu"), "nut", **networks, prompts=saa.PROMPTS)
    rows = list(saa.whole(detector, images[:2], "s", time.process_time))
    assert [what for what, _, _ in rows] == [
        "SAA+, plain",
        "SAA+, gadkit, texts apart",
        "SAA+, gadkit, texts apart: against plain",
        "SAA+, gadkit, texts together",
        "SAA+, gadkit, texts together: against plain",
        "SAA+, texts apart: largest change of a map",
    ]
    assert rows[-1][1] < 1e-5
    assert saa.Plain(detector).score(images[:2]).maps.any(), "something was found"
