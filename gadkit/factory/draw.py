"""Random numbers with names: the same seed gives the same picture, in any batch, on any device.

Every number is a hash of (seed of the image, name of the quantity), so no image depends on its neighbours in the batch
or on the order of the calls, and two renderings of one seed agree in everything but what was changed on purpose.

Book: intro/factory
"""

import zlib
from functools import lru_cache

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked

Number = int | float

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio as a signed integer: successive multiples are well spread


def _mix(z: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """The finaliser of SplitMix64 (Steele et al. 2014) in wrapping int64; `>>` keeps the sign, hence the masks."""
    z = (z ^ ((z >> 30) & 0x3FFFFFFFF)) * -4658895280553007687
    z = (z ^ ((z >> 27) & 0x1FFFFFFFFF)) * -7723592293110705685
    return z ^ ((z >> 31) & 0x1FFFFFFFF)


def _unit(z: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    return ((z >> 40) & 0xFFFFFF).float() / 0x1000000  # 24 bits: exact in float32


@lru_cache(maxsize=4)
def _grain(device: torch.device) -> Float[Tensor, "n"]:
    """A fixed reel of Gaussian numbers, made on the CPU for every device; each image reads it from its own place."""
    return torch.randn(1 << 20, generator=torch.Generator().manual_seed(0)).to(device)


class Draw:
    """Named random numbers for a batch: one independent stream an image.

    `seeds` has shape (b,).  Scalars come as (b, 1, 1), ready to broadcast against pixels.
    """

    @checked
    def __init__(self, seeds: Int[Tensor, "b"]) -> None:
        self.keys = _mix(seeds.long() * _GOLDEN + 1)

    def _key(self, name: str) -> Int[Tensor, "b"]:
        return _mix(self.keys ^ (zlib.crc32(name.encode()) * 2654435761))

    def uniform(self, name: str, low: Number = 0.0, high: Number = 1.0) -> Float[Tensor, "b 1 1"]:
        """Uniform on [low, high)."""
        return (low + (high - low) * _unit(self._key(name)))[:, None, None]

    def integer(self, name: str, low: int, high: int) -> Float[Tensor, "b 1 1"]:
        """Whole numbers from low to high, both included, as floats."""
        return (low + (high + 1 - low) * self.uniform(name)).floor()

    def chance(self, name: str, p: Number = 0.5) -> Float[Tensor, "b 1 1"]:
        """1 with probability p, else 0."""
        return (self.uniform(name) < p).float()

    def lattice(self, name: str, rows: int, columns: int) -> Float[Tensor, "b rows columns"]:
        """Independent uniform numbers on [-1, 1), one a lattice point."""
        steps = torch.arange(rows * columns, device=self.keys.device) * _GOLDEN
        return (_unit(_mix(self._key(name)[:, None] + steps)) * 2 - 1).view(-1, rows, columns)

    def gaussian(self, name: str, *shape: int) -> Float[Tensor, "b ..."]:
        """Standard normal numbers of the given shape a sample, for sensor noise."""
        reel = _grain(self.keys.device)
        count = int(torch.tensor(shape).prod())
        at = (self._key(name) & 0xFFFFF)[:, None] + torch.arange(count, device=reel.device)
        return reel[at & 0xFFFFF].view(-1, *shape)
