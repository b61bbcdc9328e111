"""The small vision transformer as a backbone."""

import pytest
import torch
import torch.nn.functional as F

from gadkit.backbones import Encoder
from gadkit.data.views import normalise
from gadkit.nn import ViT


@pytest.fixture
def vit() -> ViT:
    """A small one with larger weights than at the start, and registers."""
    network = ViT(width=32, depth=3, heads=2, registers=2)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return network


def test_preprocessing_squashes_and_normalises(images: torch.Tensor) -> None:
    encoder = Encoder(ViT(width=32, depth=1, heads=2))
    x = encoder.preprocess(images)
    assert x.shape == (4, 3, 96, 96)
    expected = F.interpolate(images.float(), (96, 96), mode="bicubic", antialias=True).clamp(0, 255) / 255
    torch.testing.assert_close(x, normalise(expected), rtol=1e-5, atol=1e-5)


def test_tokens_are_the_networks_without_its_prefix(vit: ViT, images: torch.Tensor) -> None:
    encoder = Encoder(vit, image_size=64)
    x = encoder.preprocess(images)
    tokens = encoder.encode_image(x, layers=(0, -1, 2))
    with torch.no_grad():
        whole, blocks = vit(x), vit.blocks_out(x)
    assert tokens.grid == (8, 8)
    assert torch.equal(tokens.pooled, whole[:, 0])
    assert torch.equal(tokens.patches[0], blocks[0][:, 3:])  # what a block gives, before any norm
    assert torch.equal(tokens.patches[1], whole[:, 3:])
    assert torch.equal(tokens.patches[2], tokens.patches[1])
    assert not tokens.pooled.requires_grad


def test_the_mean_of_the_patches_may_stand_for_the_image(vit: ViT, images: torch.Tensor) -> None:
    encoder = Encoder(vit, image_size=96, pool="mean")
    tokens = encoder.encode_image(encoder.preprocess(images))
    torch.testing.assert_close(tokens.pooled, tokens.patches[0].mean(1))
    assert tokens.grid == (12, 12)


def test_an_image_is_encoded_alike_in_any_company(vit: ViT, images: torch.Tensor) -> None:
    encoder = Encoder(vit.train(), image_size=64)
    x = encoder.preprocess(images)
    torch.testing.assert_close(
        encoder.encode_image(x).pooled[2:3], encoder.encode_image(x[2:3]).pooled, rtol=1e-4, atol=1e-5
    )


def test_images_come_to_the_network(images: torch.Tensor) -> None:
    """Preprocessed images lie where the photographs did; on a GPU kernel that is another place than the network's."""
    elsewhere = Encoder(ViT().to("meta"))
    assert elsewhere.encode_image(torch.zeros(1, 3, 96, 96)).pooled.device.type == "meta"
    here, x = Encoder(ViT()), torch.rand(1, 3, 96, 96)
    torch.testing.assert_close(here.encode_image(x.double()).pooled, here.encode_image(x).pooled)


def test_what_it_says_of_itself(vit: ViT) -> None:
    encoder = Encoder(vit)
    assert (encoder.image_size, encoder.patch_size, encoder.embed_dim, encoder.depth) == (96, 8, 32, 3)
    assert (encoder.grid, encoder.strides, encoder.patch_layers, encoder.pool) == ((12, 12), (8, 8, 8), (-1,), "cls")
    assert encoder.device.type == "cpu"


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_refused(vit: ViT) -> None:
    with pytest.raises(ValueError, match="pool: expected one of cls, mean, got 'max'"):
        Encoder(vit, pool="max")
    with pytest.raises(ValueError, match="image_size: expected a multiple of the patch, 8, got 90"):
        Encoder(vit, image_size=90)
    encoder, x = Encoder(vit, image_size=64), torch.zeros(1, 3, 64, 64)
    for bad in (x.byte(), x[..., :56], x[0], x.numpy()):
        with pytest.raises(ValueError, match=r"images: expected preprocessed floats \(b, 3, 64, 64\), got"):
            encoder.encode_image(bad)
    with pytest.raises(ValueError, match="images: expected at least one"):
        encoder.encode_image(x[:0])
    with pytest.raises(ValueError, match="images: expected finite numbers"):
        encoder.encode_image(x.log())
    with pytest.raises(ValueError, match="layers: expected numbers from -3 to 2, got 3"):
        encoder.encode_image(x, layers=(0, 3))
