"""The line for near-duplicates: it is believed where its groups are things, and not where it chains strangers."""

import pytest
import torch
import torch.nn.functional as F

from gadkit import factory, zoo
from gadkit.backbones import Encoder
from gadkit.curation import curate, prepare, twins
from gadkit.curation.likeness import Line, holds, line_between, saved_again
from gadkit.evaluation.features import encode


@pytest.fixture(scope="module")
def eyes() -> Encoder:
    return zoo.load("simclr")


@pytest.fixture(scope="module")
def fixture() -> torch.Tensor:
    """Forty photographs of one gear, in a jig below a camera: (40, 3, 64, 64)."""
    return factory.render("gear", torch.arange(40), 7, size=64, nuisance=0.15).images


def left(eyes: Encoder, images: torch.Tensor) -> tuple[Line, torch.Tensor]:
    """The line of a collection, and the rows that it leaves."""
    x = encode(eyes, images).pooled
    line = line_between(eyes, images, x, x)
    return line, twins(prepare(x), line.cosine).unique()


def test_photographs_in_one_fixture_are_not_one_photograph(eyes: Encoder, fixture: torch.Tensor) -> None:
    line, rows = left(eyes, fixture)
    assert line.of != "taken again"
    assert line.retaken < 0.5 < line.cosine
    x = prepare(encode(eyes, fixture).pooled)
    assert len(twins(x, line.retaken).unique()) < 5, "the line of images taken again would leave next to nothing"
    assert len(rows) >= 30, "of forty photographs of one gear most are kept"


def test_copies_and_what_was_saved_again_go_from_a_fixture_too(eyes: Encoder, fixture: torch.Tensor) -> None:
    images = torch.cat([fixture, saved_again(fixture[:10]), fixture[10:20]])
    line, rows = left(eyes, images)
    assert line.of == "saved again"
    assert 36 <= len(rows) <= 42
    assert not set(rows.tolist()) & {*range(50, 60)}, "no copy stays"


def test_the_same_things_photographed_again_and_again_go(eyes: Encoder) -> None:
    seeds = torch.arange(5)
    shots = [
        factory.render(category, seeds, seeds, size=64, nuisance=nuisance).images
        for category in ("gear", "bottle", "leaf")
        for nuisance in (1, 0.985, 0.97, 0.955)
    ]
    line, rows = left(eyes, torch.cat(shots))  # of 60 photographs, each has three like it: a line that cuts is right
    assert line.of == "taken again"
    assert line.cosine == line.retaken > 0.8
    assert 12 <= len(rows) <= 25


def test_a_chain_does_not_hold_and_a_burst_does() -> None:
    angles = torch.arange(30) * 0.1
    chain = torch.stack([angles.cos(), angles.sin()], 1)
    line = float(torch.tensor(0.11).cos())
    strangers = torch.eye(40)[:, :40]
    assert not holds(F.pad(chain, (0, 40))[:, :42], line), "one group has everything"
    both = torch.cat([F.pad(chain, (0, 40)), F.pad(strangers, (2, 0))])
    assert not holds(both, line), "a group of less than half, whose ends are strangers"
    bursts = torch.cat([F.pad(chain[:2].repeat(10, 1), (0, 40)), F.pad(strangers, (2, 0))])
    assert holds(bursts, line)
    assert holds(strangers, 0.5), "nothing goes"


def test_all_copies_of_one_image_are_one() -> None:
    x = torch.randn(1, 16, generator=torch.Generator().manual_seed(0)).repeat(7, 1)
    assert curate(x, 5, duplicates=1.0).kept.tolist() == [0]
    assert curate(torch.cat([x, -x[:1]]), 5, duplicates=1.0).kept.tolist() == [0, 7]


def test_saved_again_is_the_same_to_the_eye(fixture: torch.Tensor) -> None:
    again = saved_again(fixture[:3])
    assert again.shape == fixture[:3].shape
    assert 0 < (again.float() - fixture[:3].float()).abs().mean() < 5
