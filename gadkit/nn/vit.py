"""A vision transformer to read: patches in, a class token and patch tokens out.

Source: Dosovitskiy et al. 2021; registers: Darcet et al. 2024; positions: He et al. 2022, appendix A.
Book: selfsup/attention, selfsup/mae
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit.checks import checked, one_of, positive, whole
from gadkit.nn.patches import patchify


@checked
def sincos_positions(rows: int, columns: int, width: int, scale: float = 1.0) -> Float[Tensor, "n w"]:
    """Positions as waves, row-major: [sin x, cos x, sin y, cos y] with frequencies 10000 ** (-i / (width / 4)).

    Coordinates are those of the patches' centres, in patches of a grid at scale 1, whose first centre is at 0; `scale`
    is the side of a patch in that unit, so that a finer or a coarser grid covers the same area.  Raises ValueError for
    a width that is no multiple of 4 and a scale that is not positive.
    """
    positive("scale", scale), whole("rows", rows), whole("columns", columns), whole("width", width)
    if width % 4:
        raise ValueError(f"width: expected a multiple of 4, got {width}")
    omega = 10000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    y, x = torch.meshgrid(
        *((torch.arange(count, dtype=torch.float64) + 0.5) * scale - 0.5 for count in (rows, columns)), indexing="ij"
    )
    waves = [wave(c.flatten()[:, None] * omega) for c in (x, y) for wave in (torch.sin, torch.cos)]
    return torch.cat(waves, 1).float()  # (rows * columns, width)


class Block(nn.Module):
    """Pre-norm transformer block: attention between tokens, then two layers for each token alone."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def weights(self, x: Float[Tensor, "b t w"]) -> tuple[Float[Tensor, "b h t t"], Float[Tensor, "b h t d"]]:
        """Attention weights and values, by plain products, which train faster at this size."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (b, h, t, d) each
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1), v

    def forward(self, x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
        """One step of all tokens."""
        attention, v = self.weights(x)
        x = x + self.proj((attention.to(v.dtype) @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Vision transformer; the default, 1.2 million parameters, is the one that every method of the book trains.

    `image_size` is the side that it is trained at; other sides that are multiples of the patch work too, because
    positions are stretched to them.  Layer norms add 1e-5 to the variance, torch's default; MAE and DINO add 1e-6.
    """

    @checked
    def __init__(
        self,
        image_size: int = 64,
        patch_size: int = 8,
        width: int = 128,
        depth: int = 6,
        heads: int = 4,
        positions: str = "sincos",
        registers: int = 0,
    ) -> None:
        super().__init__()
        one_of("positions", positions, ("sincos", "learnt"))
        for name, count in (("image_size", image_size), ("patch_size", patch_size), ("width", width), ("heads", heads)):
            whole(name, count)
        whole("depth", depth), whole("registers", registers, 0)
        if image_size % patch_size or width % heads:
            raise ValueError(
                f"expected image_size a multiple of patch_size and width of heads, got {image_size}, {patch_size}, "
                f"{width}, {heads}"
            )
        self.config = {
            "image_size": image_size,
            "patch_size": patch_size,
            "width": width,
            "depth": depth,
            "heads": heads,
            "positions": positions,
            "registers": registers,
        }
        self.patch_size, self.width, self.depth, self.prefix = patch_size, width, depth, 1 + registers
        self.side = image_size // patch_size
        self.patch = nn.Linear(3 * patch_size**2, width)
        self.cls = nn.Parameter(torch.zeros(1, 1, width))
        self.registers = nn.Parameter(torch.zeros(1, registers, width))
        self.positions = nn.Parameter(torch.zeros(1, self.side**2, width)) if positions == "learnt" else None
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.apply(_init)
        for token in (self.cls, self.registers, *([self.positions] if positions == "learnt" else [])):
            nn.init.trunc_normal_(token, std=0.02)

    def position(self, grid: tuple[int, int]) -> Float[Tensor, "n e"]:
        """Positions of a grid's patches, in the range that the network was trained in."""
        if self.positions is None:
            return sincos_positions(*grid, self.width, self.side / max(grid)).to(self.cls)
        table = self.positions.unflatten(1, (self.side, self.side)).permute(0, 3, 1, 2)
        if grid != (self.side, self.side):
            table = F.interpolate(table, grid, mode="bicubic", align_corners=False)
        return table.flatten(2)[0].T  # (n, w)

    def embed(
        self,
        images: Float[Tensor, "b 3 h w"],
        keep: Tensor | None = None,
        swap: Tensor | None = None,
        token: Tensor | None = None,
    ) -> Float[Tensor, "b t e"]:
        """Tokens before the first block: class token, registers, patches with their positions.

        `keep` (b, m) holds the numbers of the patches to go on with, for a masked autoencoder; where `swap` (b, n) is
        true, `token` (w) takes a patch's place, for masked image modelling.
        """
        grid = images.shape[2] // self.patch_size, images.shape[3] // self.patch_size
        x = self.patch(patchify(images, self.patch_size))
        if swap is not None:
            x = torch.where(swap[..., None], token.to(x.dtype), x)
        x = x + self.position(grid)
        if keep is not None:
            x = torch.gather(x, 1, keep[..., None].expand(-1, -1, x.shape[2]))
        lead = torch.cat([self.cls, self.registers], 1).expand(len(x), -1, -1)
        return torch.cat([lead.to(x.dtype), x], 1)

    def run(self, tokens: Float[Tensor, "b t e"], layers: Sequence[int] | None = None) -> list[Tensor] | Tensor:
        """Tokens through all blocks: after the final norm, or, for `layers`, a list of those blocks' outputs.

        Blocks count from 0, or from the end when negative; the last block's output has gone through the final norm.
        """
        outputs = []
        for block in self.blocks:
            tokens = block(tokens)
            outputs.append(tokens)
        outputs[-1] = self.norm(tokens)
        return outputs[-1] if layers is None else [outputs[i] for i in layers]

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b t e"]:
        """All tokens after the final norm: 1 class token, the registers, then the patches, row-major."""
        return self.run(self.embed(images))

    def blocks_out(self, images: Float[Tensor, "b 3 h w"]) -> list[Float[Tensor, "b t e"]]:
        """The tokens after every block, the last ones after the final norm."""
        return self.run(self.embed(images), range(self.depth))

    def attention(self, images: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b heads t t"]:
        """The attention of the last block: how much each token (row) takes from every other (column)."""
        x = self.embed(images)
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1].weights(x)[0]


def _init(layer: nn.Module) -> None:
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
