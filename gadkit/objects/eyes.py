"""The frozen eyes of the tiny universal and promptable segmenters: EfficientNet-Lite0's maps of strides 4 to 32.

    >>> from gadkit.objects.eyes import build
    >>> [tuple(m.shape[1:]) for m in build("efficientnet-random")(torch.zeros(1, 3, 64, 64))]
    [(24, 16, 16), (40, 8, 8), (112, 4, 4), (320, 2, 2)]

They learnt from ImageNet's photographs and stay as they are, so a scene is encoded once for all of its lessons.

Book: objects/universal
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.checks import check_images, one_of
from gadkit.nn import private

NETWORK, LEVELS = "tf_efficientnet_lite0", (1, 2, 3, 4)
CHANNELS, STRIDES = (24, 40, 112, 320), (4, 8, 16, 32)
NAMES = ("efficientnet-lite0", "efficientnet-random")


class Eyes(nn.Module):
    """timm's EfficientNet-Lite0 without its head, frozen; batch norm keeps the published statistics."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def train(self, mode: bool = True) -> "Eyes":
        """Training leaves them as they are."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Float[Tensor, "b 3 s s"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The maps of strides 4, 8, 16 and 32."""
        return self.network(x.contiguous(memory_format=torch.channels_last))


def build(name: str = NAMES[0]) -> Eyes:
    """The eyes with ImageNet's weights, or with random ones by seed 0.  Raises ValueError for another name."""
    one_of("eyes", name, NAMES)
    with private.without_compiler():
        import timm
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = timm.create_model(NETWORK, features_only=True, out_indices=LEVELS)
    if name == NAMES[0]:
        held = weights.read(weights.ASSETS / f"{name}.safetensors")
        weights.fill(network, {key: held[key] for key in network.state_dict()}, name)
    return Eyes(network)


def prepare(images: UInt8[Tensor, "b 3 h w"], size: int) -> Float[Tensor, "b 3 s s"]:
    """Images as the eyes were taught: squares of `size` pixels with values from -1 to 1."""
    x = check_images(images).float() / 127.5 - 1
    return F.interpolate(x, (size, size), mode="bilinear", antialias=size < min(images.shape[2:]))
