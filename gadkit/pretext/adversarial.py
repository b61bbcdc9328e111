"""A critic for generated images: it learns to separate them from photographs, and the generator to deceive it.

Book: pretext/generation
"""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call

from gadkit.checks import checked, whole


@checked
def critic(width: int = 32) -> nn.Sequential:
    """A small convolutional critic: images (b, 3, s, s) to logits (b, 1, s/8, s/8), one a region, high for real.

    As in DCGAN (Radford et al. 2016), but without batch normalisation and with a logit for each region.  Raises
    ValueError for a width below 1.
    """
    whole("width", width)
    layers: list[nn.Module] = []
    for before, after in ((3, width), (width, 2 * width), (2 * width, 4 * width)):
        layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(4 * width, 1, 3, 1, 1))


@checked
def adversarial(
    discriminator: nn.Module, real: Float[Tensor, "b 3 s s"], fake: Float[Tensor, "n 3 s s"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """The critic's loss and the generator's, for one optimiser over both.

    The critic's, -log D(real) - log(1 - D(fake)), sends no gradient to `fake`; the generator's, -log D(fake), none to
    the critic.  A critic that cannot decide gives 2 log 2 and log 2.  Goodfellow et al. 2014, eq. 1 and section 3.
    """
    loss = F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake.detach())).mean()
    frozen = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    return loss, F.softplus(-functional_call(discriminator, frozen, (fake,))).mean()


@checked
def add_gradient(visible: Tensor, hidden: Tensor) -> Float[Tensor, ""]:
    """`visible` in value, `visible + hidden` in its gradient: an opponent's loss says nothing about progress."""
    return visible + hidden - hidden.detach()


class Decoder(nn.Module):
    """A code to an image: 4 x 4 positions, then doubled until the side is reached (Radford et al. 2016)."""

    def __init__(self, code: int, size: int = 64, width: int = 64) -> None:
        super().__init__()
        if size < 8 or size & (size - 1):
            raise ValueError(f"size: expected a power of two from 8 on, got {size}")
        self.width = width
        self.spread = nn.Linear(code, width * 16)
        steps, layers = size.bit_length() - 3, []  # 4 -> 8 -> ... -> size
        for i in range(steps):
            before, after = max(8, width >> i), 3 if i == steps - 1 else max(8, width >> (i + 1))
            layers += [nn.GELU(), nn.ConvTranspose2d(before, after, 4, 2, 1)]
        self.grow = nn.Sequential(*layers)

    def forward(self, code: Float[Tensor, "b c"]) -> Float[Tensor, "b 3 s s"]:
        """Draw one image a code, in the units of a normalised view."""
        return self.grow(self.spread(code).view(-1, self.width, 4, 4))
