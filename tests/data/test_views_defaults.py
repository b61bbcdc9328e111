"""The default options of views: SimCLR's recipe, by its values."""

import torch

from gadkit.data.views import Views, blur, colour_jitter, crop, denormalise, flip, greyscale, solarise


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_a_view_is_64_pixels_with_simclr_s_shares(images: torch.Tensor) -> None:
    ours = Views()(images, draws())
    g = draws()
    x = crop(images, 64, (0.2, 1.0), (3 / 4, 4 / 3), g)
    x = flip(x, 0.5, g)
    x = colour_jitter(x, 0.4, 0.4, 0.4, 0.1, share=0.8, generator=g)
    x = greyscale(x, 0.2, g)
    x = blur(x, (0.1, 2.0), 0.5, g)  # 1 + 64 / 64 pixels
    assert ours.shape == (4, 3, 64, 64)
    torch.testing.assert_close(denormalise(ours), x, atol=1e-6, rtol=0)


def test_each_step_s_defaults(images: torch.Tensor) -> None:
    x = images.float() / 255
    assert torch.equal(crop(images, 16, generator=draws()), crop(images, 16, (0.2, 1.0), (0.75, 4 / 3), draws()))
    assert torch.equal(flip(x, generator=draws()), flip(x, 0.5, draws()))
    assert torch.equal(greyscale(x, generator=draws()), greyscale(x, 0.2, draws()))
    assert torch.equal(blur(x, generator=draws()), blur(x, (0.1, 2.0), 0.5, draws()))
    assert torch.equal(solarise(x, generator=draws()), solarise(x, 0.2, 0.5, draws()))
    ours = colour_jitter(x, generator=draws())
    assert torch.equal(ours, colour_jitter(x, 0.4, 0.4, 0.4, 0.1, 0.8, draws()))


def test_nothing_is_solarised_unless_asked_for(images: torch.Tensor) -> None:
    plain = Views(scale=(1.0, 1.0), ratio=(1.0, 1.0), strength=0.0, mirror=0.0)(images, draws())
    assert torch.equal(
        plain, Views(scale=(1.0, 1.0), ratio=(1.0, 1.0), strength=0.0, mirror=0.0, solarised=0.0)(images, draws())
    )
