"""The parts that detectors share: the fixed picture, states that do not fit, rows of a bank, words."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from gadkit.anomaly.detectors import KNN, PatchKNN, WinCLIP, parts, winclip
from gadkit.anomaly.detectors.patches import turned
from gadkit.backbones import OpenCLIP


@pytest.fixture
def pictures(generator: torch.Generator) -> Tensor:
    """Four pictures of noise."""
    return torch.randint(256, (4, 3, 40, 40), generator=generator, dtype=torch.uint8)


def test_the_picture_by_which_a_backbone_is_known_is_three_waves(backbone: OpenCLIP) -> None:
    picture = KNN(backbone)._picture()
    assert (picture.shape, picture.dtype) == ((1, 3, 40, 40), torch.uint8)
    for channel, (down, across) in enumerate([(1, 2), (3, 1), (5, 7)]):  # waves over 6.28 down and across
        for row, column in ((0, 0), (0, 39), (13, 0), (39, 1), (20, 31)):
            wave = math.sin(down * 6.28 * row / 39 + across * 6.28 * column / 39)
            assert int(picture[0, channel, row, column]) == pytest.approx(127.5 + 127.5 * wave, abs=0.51)


def test_a_state_without_its_marks_or_with_others_is_refused(backbone: OpenCLIP, pictures: Tensor) -> None:
    detector = KNN(backbone).fit(pictures)
    state = detector.state()
    assert state.tensors["shots_"].tolist() == 4
    one = state.tensors
    for tensors in (
        {name: one[name] for name in ("bank_", "shots_")},
        {name: one[name] for name in ("bank_", "backbone")},
        one | {"shots_": torch.tensor([4, 4])},
    ):
        with pytest.raises(ValueError, match="expected tensors named backbone and shots_"):
            detector.load_state(replace(state, tensors=tensors))
    for probe in (one["backbone"][:-1], -one["backbone"], torch.zeros_like(one["backbone"])):
        with pytest.raises(ValueError, match="made with this backbone"):
            detector.load_state(replace(state, tensors=one | {"backbone": probe}))
    scaled = replace(state, tensors=one | {"backbone": 1.001 * one["backbone"], "shots_": torch.tensor([7])})
    assert detector.load_state(scaled).shots == 7


def test_two_images_can_be_left_out_and_one_cannot(backbone: OpenCLIP, pictures: Tensor) -> None:
    assert len(list(KNN(backbone).fit(pictures[:2]).leave_one_out(pictures[:2]))) == 2
    for detector in (KNN(backbone), PatchKNN(backbone)):
        with pytest.raises(ValueError, match="at least 2, to compare each with the others, got 1"):
            list(detector.fit(pictures[:1]).leave_one_out(pictures[:1]))


def test_a_bank_without_an_image_s_rows() -> None:
    bank = torch.arange(6.0)[:, None]
    assert parts.without(bank, 1, 2, 3)[:, 0].tolist() == [0, 1, 4, 5]
    assert parts.without(bank, 0, 1, 6)[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert parts.without(bank, 1, 3, 3)[:, 0].tolist() == [0, 1]  # a part of two images


def test_one_good_part_is_one(backbone: OpenCLIP, pictures: Tensor) -> None:
    one, two = (PatchKNN(backbone).fit(pictures[:n]).explain() for n in (1, 2))
    assert one == "Each spot of an image was compared with one image of a good part"
    assert two == "Each spot of an image was compared with 2 images of good parts"


def test_as_many_neighbours_as_there_are_are_enough(backbone: OpenCLIP, pictures: Tensor) -> None:
    assert KNN(backbone, k=3).fit(pictures[:3]).score(pictures).scores.shape == (4,)
    assert PatchKNN(backbone, k=5, thin=0.2).fit(pictures[:1]).bank_.shape == (5, 32)  # of 25 patches
    with pytest.raises(ValueError, match="at least k = 6 normal patches, got 5"):
        PatchKNN(backbone, k=6, thin=0.2).fit(pictures[:1])


def test_several_layers_make_one_unit_vector(backbone: OpenCLIP, pictures: Tensor) -> None:
    bank = PatchKNN(backbone, (0, 1)).fit(pictures[:1]).bank_
    assert bank.shape == (25, 64)
    torch.testing.assert_close(bank.norm(dim=1), torch.ones(25))


@pytest.mark.parametrize("turns", [3, 8])
def test_turns_are_scipy_s_rotations_about_the_middle(turns: int, generator: torch.Generator) -> None:
    from scipy.ndimage import rotate

    x = torch.randn(1, 3, 12, 12, generator=generator, dtype=torch.float64)
    inside = slice(3, 9)  # which no turn takes from outside the picture
    for i, one in enumerate(turned(x, turns)):
        expected = torch.from_numpy(rotate(x[0].numpy(), 360 * i / turns, axes=(2, 1), reshape=False, order=1))
        torch.testing.assert_close(one[0, :, inside, inside], expected[:, inside, inside], atol=1e-6, rtol=0)


@pytest.mark.parametrize(("chunk", "images"), [(1, 1), (51, 1), (52, 2), (78, 3)])
def test_a_chunk_holds_all_tokens_of_an_image(backbone: OpenCLIP, chunk: int, images: int) -> None:
    assert WinCLIP(backbone, "nut", chunk=chunk)._group() == images  # 5 x 5 patches and the class token


def test_windows_are_compared_where_there_are_two(backbone: OpenCLIP, pictures: Tensor) -> None:
    assert WinCLIP(backbone, "nut", scales=(5,)).fit().score(pictures).maps.isfinite().all()  # one window: all patches
    differ, same = torch.tensor([[[0.0, 1.0], [2.0, 1.0]]]), torch.ones(1, 2, 2)
    winclip._guard(differ, differ, 2)
    winclip._guard(same, same, 2)
    winclip._guard(differ, same[:, :1], 2)
    for patches, vectors in ((differ, same), (torch.cat([differ, differ]), torch.cat([same, differ]))):
        with pytest.raises(RuntimeError, match="all 2 windows of scale 3"):
            winclip._guard(patches, vectors, 3)
