"""Views: torchvision's arithmetic on one image, parameters of its own for every image, and nothing at strength 0."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as tv

from gadkit.data import views
from gadkit.data.views import Views, colour_jitter, crop, flip, multi_crop

SQUARE = (1.0, 1.0)
WHOLE = {"scale": SQUARE, "ratio": SQUARE}
RANDOM: dict[str, Callable[[Tensor], Tensor]] = {
    "crop": lambda x: crop(x, 24),
    "colour_jitter": lambda x: colour_jitter(x, share=1.0),
    "hue": lambda x: colour_jitter(x, 0.0, 0.0, 0.0, 0.5, share=1.0),
    "blur": lambda x: views.blur(x, share=1.0),
}
SOME: dict[str, Callable[[Tensor, float], Tensor]] = {
    "flip": views.flip,
    "greyscale": views.greyscale,
    "blur": lambda x, share: views.blur(x, (1.0, 2.0), share),
    "solarise": views.solarise,
    "colour_jitter": lambda x, share: colour_jitter(x, share=share),
}


@pytest.fixture
def picture() -> Tensor:
    """A face in colour, from scikit-image's wheel: [0, 1], (1, 3, 96, 96)."""
    from skimage import data

    return torch.from_numpy(data.astronaut()[:192, 160:352].copy()).permute(2, 0, 1)[None, :, ::2, ::2] / 255


@pytest.fixture
def alike(picture: Tensor) -> Tensor:
    """The face sixteen times: (16, 3, 96, 96)."""
    return picture.expand(16, -1, -1, -1).contiguous()


def bytes_of(x: Tensor) -> Tensor:
    """[0, 1] to uint8."""
    return (255 * x).round().to(torch.uint8)


def box_of(x: Tensor, size: int, seed: int, **options: tuple[float, float]) -> Tensor:
    """Which parts `crop` takes: (b, 4) left, top, width, height, read off an image that shows its own coordinates."""
    height, width = x.shape[2:]
    row, column = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    ruler = torch.stack([column, row, 0 * row]).expand(len(x), -1, -1, -1)
    seen = crop(ruler, size, **options, generator=torch.Generator().manual_seed(seed))
    first, last = size // 4, size - 1 - size // 4  # away from the border, where a filter would reach beyond the image
    found = []
    for line in (seen[:, 0].mean(1), seen[:, 1].mean(2)):  # (b, size) coordinates along a row, and along a column
        step = (line[:, last] - line[:, first]) / (last - first)
        found.append((line[:, first] - (first + 0.5) * step, step * size))
    (left, wide), (top, tall) = found
    return torch.stack([left, top, wide, tall], 1)


@pytest.mark.parametrize("size", [32, 64, 96, 128])
def test_a_crop_of_everything_is_torchvisions_antialiased_resize(picture: Tensor, size: int) -> None:
    expected = tv.resize(picture, [size, size], antialias=True)
    torch.testing.assert_close(crop(picture, size, **WHOLE), expected, rtol=0, atol=1e-6)


def test_a_crop_of_everything_at_its_own_size_is_the_image(picture: Tensor) -> None:
    torch.testing.assert_close(crop(picture, 96, **WHOLE), picture, rtol=0, atol=1e-6)
    torch.testing.assert_close(crop(bytes_of(picture), 96, **WHOLE), picture, rtol=0, atol=1e-6)


def test_an_enlarged_crop_is_what_grid_sample_takes_from_that_box(alike: Tensor) -> None:
    options = {"scale": (0.05, 0.2)}
    left, top, wide, tall = box_of(alike, 64, 3, **options).T
    theta = torch.zeros(16, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = wide / 96, tall / 96
    theta[:, 0, 2], theta[:, 1, 2] = (2 * left + wide) / 96 - 1, (2 * top + tall) / 96 - 1
    grid = F.affine_grid(theta, [16, 3, 64, 64], align_corners=False)
    expected = F.grid_sample(alike, grid, padding_mode="border", align_corners=False)
    taken = crop(alike, 64, **options, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(taken, expected, rtol=0, atol=1e-4)


def test_a_reduced_crop_is_torchvisions_resized_crop_inside() -> None:
    """On a smooth image, where half a pixel of torchvision's whole-pixel box hardly shows; its rim sees no further."""
    y, x = torch.meshgrid(torch.linspace(0, 6, 96), torch.linspace(0, 6, 96), indexing="ij")
    smooth = torch.stack([x.sin(), y.cos(), (x + y).sin()])[None] / 2 + 0.5
    left, top, wide, tall = box_of(smooth, 24, 5, scale=(0.5, 0.6))[0].round().int().tolist()
    expected = tv.resized_crop(smooth, top, left, tall, wide, [24, 24], antialias=True)
    taken = crop(smooth, 24, (0.5, 0.6), generator=torch.Generator().manual_seed(5))
    assert (taken - expected)[..., 1:-1, 1:-1].abs().max() < 0.04
    assert (taken - tv.resize(smooth, [24, 24]))[..., 1:-1, 1:-1].abs().max() > 0.3  # and not what any crop would be


def test_a_reduced_crop_does_not_alias() -> None:
    stripes = (torch.arange(96) % 2).float().expand(4, 3, 96, 96)
    assert crop(stripes, 24, (0.9, 1.0)).std() < 0.03
    assert stripes[..., ::4].std() == 0  # what sampling alone would see: nothing of the brightness in between


@pytest.mark.parametrize("shape", [(96, 96), (60, 120)])
def test_crops_keep_to_the_area_the_shape_and_the_image(shape: tuple[int, int]) -> None:
    height, width = shape
    left, top, wide, tall = box_of(torch.zeros(512, 3, *shape), 32, 0, scale=(0.1, 0.4), ratio=(0.8, 1.25)).T
    area, ratio = wide * tall / (height * width), wide / tall
    assert 0.99 * 0.1 < area.min() < 0.12
    assert 0.38 < area.max() < 1.01 * 0.4
    assert 0.99 * 0.8 < ratio.min() < 0.82
    assert 1.22 < ratio.max() < 1.01 * 1.25
    for start, extent, side in ((left, wide, width), (top, tall, height)):
        assert start.min() > -0.2
        assert (start + extent).max() < side + 0.2
        place = start / (side - extent)  # uniform from one end to the other
        assert abs(place.mean() - 0.5) < 0.05
        assert place.std().item() == pytest.approx(12**-0.5, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "strengths", "theirs"),
    [
        ("brightness", (0.4, 0.0, 0.0, 0.0), tv.adjust_brightness),
        ("contrast", (0.0, 0.4, 0.0, 0.0), tv.adjust_contrast),
        ("saturation", (0.0, 0.0, 0.4, 0.0), tv.adjust_saturation),
        ("hue", (0.0, 0.0, 0.0, 0.1), tv.adjust_hue),
    ],
)
def test_colours_are_shaken_as_torchvision_does(picture: Tensor, kind: str, strengths: tuple, theirs: Callable) -> None:
    """The factor is found on a patch of one colour, and then has to explain the photograph."""
    known = torch.tensor([0.5, 0.4, 0.3])[None, :, None, None].expand(1, 3, 2, 2).clone()
    known[..., 1] += 0.1
    factors = torch.linspace(-0.1, 0.1, 4001) if kind == "hue" else torch.linspace(0.6, 1.4, 4001)
    trials = torch.stack([theirs(known[0], f.item()) for f in factors])
    found = []
    for seed in range(4):
        seen = colour_jitter(known, *strengths, share=1.0, generator=torch.Generator().manual_seed(seed))
        found.append(factor := factors[(trials - seen).abs().flatten(1).amax(1).argmin()].item())
        ours = colour_jitter(picture, *strengths, share=1.0, generator=torch.Generator().manual_seed(seed))
        torch.testing.assert_close(ours, theirs(picture, factor), rtol=0, atol=2e-3)
    assert max(found) - min(found) > 0.1 * (factors[-1] - factors[0])


def test_grey_blur_negative_and_mirror_are_torchvisions(picture: Tensor) -> None:
    torch.testing.assert_close(views.greyscale(picture, 1.0), tv.rgb_to_grayscale(picture, 3), rtol=0, atol=1e-3)
    blurred = tv.gaussian_blur(picture, [7, 7], [1.3, 1.3])
    torch.testing.assert_close(views.blur(picture, (1.3, 1.3), 1.0), blurred, rtol=0, atol=1e-5)
    assert torch.equal(views.solarise(picture, 1.0), tv.solarize(picture, 0.5))
    assert torch.equal(views.flip(picture, 1.0), tv.horizontal_flip(picture))


@pytest.mark.parametrize("name", RANDOM)
def test_every_image_of_a_batch_has_parameters_of_its_own(alike: Tensor, name: str) -> None:
    assert len(RANDOM[name](alike).unique(dim=0)) == len(alike)


@pytest.mark.parametrize("name", SOME)
def test_a_share_of_the_images_is_changed_and_the_others_are_not(picture: Tensor, name: str) -> None:
    small = picture[..., ::4, ::4].expand(400, -1, -1, -1)
    assert torch.equal(SOME[name](small, 0.0), small)
    changed = (SOME[name](small, 0.3) != small).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4
    assert (SOME[name](small, 1.0) != small).flatten(1).any(1).all()


def test_zero_strength_changes_nothing(alike: Tensor) -> None:
    torch.testing.assert_close(colour_jitter(alike, 0.0, 0.0, 0.0, 0.0, share=1.0), alike, rtol=0, atol=1e-6)
    recipe = Views(96, strength=0.0, mirror=0.0, **WHOLE)
    torch.testing.assert_close(views.denormalise(recipe(bytes_of(alike))), alike, rtol=0, atol=1e-6)


def test_mirrored_twice_is_not_mirrored(alike: Tensor) -> None:
    assert torch.equal(flip(flip(alike, 1.0), 1.0), alike)


@given(st.floats(-0.5, 0.5))
def test_a_turn_of_hue_can_be_turned_back_and_leaves_grey_alone(turn: float) -> None:
    colours, by = torch.rand(1, 3, 8, 8), torch.tensor([turn])
    turned = views._turn_hue(colours, by)
    torch.testing.assert_close(views._turn_hue(turned, -by), colours, rtol=0, atol=1e-5)
    torch.testing.assert_close(turned.amax(1), colours.amax(1))
    grey = colours[:, :1].expand(-1, 3, -1, -1)
    torch.testing.assert_close(views._turn_hue(grey, by), grey)


@pytest.mark.parametrize("strength", [0.5, 1.0, 3.0])
def test_colours_stay_in_range(alike: Tensor, strength: float) -> None:
    seen = views.denormalise(Views(48, strength=strength, solarised=0.5)(bytes_of(alike)))
    assert seen.min() > -1e-5
    assert seen.max() < 1 + 1e-5


def test_a_view_is_drawn_from_its_generator_and_from_nothing_else(alike: Tensor) -> None:
    images, recipe, state = bytes_of(alike), Views(32, solarised=0.2), torch.get_rng_state()
    one, again, other = (recipe(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    torch.manual_seed(1)
    assert torch.equal(recipe(images), one)  # without one: torch's own, which the training loop seeds


def test_mixed_precision_around_a_view_does_not_blur_it(alike: Tensor) -> None:
    images, recipe = bytes_of(alike), Views(32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = recipe(images, torch.Generator().manual_seed(1))
    assert inside.dtype == torch.float32
    assert torch.equal(inside, recipe(images, torch.Generator().manual_seed(1)))


def test_many_crops_are_a_few_large_and_some_small(alike: Tensor) -> None:
    large, small = (48, 16)
    seen = multi_crop(bytes_of(alike), 2, 3, (large, small))
    assert [v.shape for v in seen] == [(16, 3, large, large)] * 2 + [(16, 3, small, small)] * 3
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[2], seen[3])


def test_large_crops_hold_at_least_the_share_and_small_ones_at_most() -> None:
    """A photograph that is black but for the middle of its left edge tells little; one of a ramp tells how wide."""
    ramp = bytes_of(torch.linspace(0, 1, 128).expand(64, 3, 128, 128))
    seen = multi_crop(ramp, 1, 1, (32, 32), share=0.3, strength=0.0)
    wide_large, wide_small = (views.denormalise(v).amax((1, 2, 3)) - views.denormalise(v).amin((1, 2, 3)) for v in seen)
    assert wide_large.min() > (0.3 * 3 / 4) ** 0.5 - 0.08
    assert wide_small.max() < (0.3 * 4 / 3) ** 0.5 + 0.01
    assert wide_small.min() < 0.3


def test_normalise_and_back(picture: Tensor) -> None:
    torch.testing.assert_close(views.denormalise(views.normalise(picture)), picture)
    one = views.normalise(torch.tensor([views.MEAN, views.MEAN + views.STD])[:, None, None, None].expand(2, 3, 2, 2))
    torch.testing.assert_close(one.flatten(1).mean(1), torch.tensor([0.0, 1.0]))


def test_the_factorys_photographs_are_roughly_standard_once_normalised() -> None:
    from gadkit.factory.pool import unlabelled

    x = views.normalise(views.to_float(unlabelled(60, size=32).images))
    assert abs(x.mean()) < 0.1
    assert 0.8 < x.std() < 1.1


def test_resize_keeps_all_of_the_image_and_its_range(images: Tensor) -> None:
    seen = views.resize(images, 24)
    assert seen.shape == (4, 3, 24, 24)
    assert 0 <= seen.min() <= seen.max() <= 1
    whole = images.float().mean((2, 3)) / 255
    torch.testing.assert_close(seen.mean((2, 3)), whole, rtol=0, atol=0.01)


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_refused(images: Tensor) -> None:
    for scale, ratio in (((0.0, 1.0), SQUARE), ((0.5, 1.1), SQUARE), ((0.5, 0.2), SQUARE), (SQUARE, (2.0, 0.5))):
        with pytest.raises(ValueError, match="crop: expected 0 < scale <= 1 and ratio > 0 in order"):
            crop(images, 24, scale, ratio)
    for options in (
        {"strength": -1.0},
        {"strength": float("nan")},
        {"blurred": 1.5},
        {"mirror": -0.1},
        {"solarised": float("nan")},
        {"jitter": (0.4, 0.4, -0.2, 0.1)},
        {"jitter": (0.4, 0.4, 0.4, 0.7)},
        {"size": 0},
    ):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: expected"):
            Views(**options)
    for sigma in ((0.0, 1.0), (2.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0)):
        with pytest.raises(ValueError, match=r"sigma: expected (two positive deviations|tuple)"):
            views.blur(images.float(), sigma)
    with pytest.raises(ValueError, match=r"share: expected a share in \[0, 1\]"):
        flip(images.float(), 1.1)
    with pytest.raises(ValueError, match=r"(jitter|brightness): expected"):
        colour_jitter(images.float(), brightness=float("nan"))
    with pytest.raises(ValueError, match="size: expected a whole number from 1"):
        crop(images, 0)
    with pytest.raises(ValueError, match="expected dtype uint8"):
        views.resize(images.float(), 24)
    with pytest.raises(ValueError, match=r"expected shape \(b, 3, h, w\)"):
        Views(24)(images[:, :2])
