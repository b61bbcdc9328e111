"""Masked autoencoders: hide three quarters of the patches, and paint them from the rest.

Source: He et al. 2022, section 3 and appendix A.
Book: selfsup/mae
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit.checks import checked
from gadkit.data.views import Views
from gadkit.losses import mae_loss
from gadkit.nn import ViT, patchify, sincos_positions, unpatchify
from gadkit.nn.vit import Block
from gadkit.protocols import Recipe
from gadkit.selfsup.base import SelfSupervised


@checked
def random_masking(
    n: int, patches: int, ratio: float, noise: Float[Tensor, "n p"] | None = None
) -> tuple[Int[Tensor, "n k"], Float[Tensor, "n p"], Int[Tensor, "n p"]]:
    """Which patches stay, k = int(p (1 - ratio)); the mask, 1 where one was removed; and how to undo the shuffle.

    Patches stay in the order of their `noise`, smallest first.  Raises ValueError if nothing would be left or removed.
    """
    kept = int(patches * (1 - ratio))
    if not 0 < kept < patches:
        raise ValueError(f"ratio: expected one that keeps some of {patches} patches and removes some, got {ratio}")
    noise = torch.rand(n, patches) if noise is None else noise
    shuffle = noise.argsort(1)
    restore = shuffle.argsort(1)
    mask = (restore >= kept).float()
    return shuffle[:, :kept], mask, restore


class MAE(SelfSupervised):
    """An encoder that sees the visible patches only, and a small decoder that paints the others.

    `norm_pix` asks for each patch with its own mean and deviation taken out, which learns better features and paints
    pictures that look wrong until both are put back.  Betas, decay and the lack of clipping are the official code's.
    Its learning rate, 7.5e-5 at this batch, is for hundreds of epochs of a network seventy times as large.  The layer
    norms add torch's 1e-5 to the variance, and not 1e-6.
    """

    recipe = Recipe(lr=1.5e-3, betas=(0.9, 0.95), clip=math.inf)
    pool = "mean"  # no loss reaches the class token except through attention

    def __init__(
        self,
        encoder: ViT | None = None,
        *,
        ratio: float = 0.75,
        norm_pix: bool = True,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__(encoder)
        self.ratio, self.norm_pix, self.patch = ratio, norm_pix, self.encoder.patch_size
        self.embed = nn.Linear(self.encoder.width, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.decoder = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.paint = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3 * self.patch**2))
        self.view = Views(self.size, (0.2, 1.0), strength=0.0)

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """One view of each of `batch["images"]`, cropped and mirrored; masking is augmentation enough (section 4.1)."""
        (images,) = self.columns(batch)
        return [self.view(images)]

    def collapse(self, batch_size: int) -> float:
        """(e - 1) / e, every patch painted in its mean; of plain pixels it depends on the pictures: NaN."""
        e = 3 * self.patch**2
        return (e - 1) / e if self.norm_pix else math.nan

    def forward(
        self, images: Float[Tensor, "b 3 s s"], noise: Float[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b n e"], Float[Tensor, "b n"]]:
        """A prediction for every patch, and the mask."""
        grid = images.shape[2] // self.patch, images.shape[3] // self.patch
        keep, mask, restore = (
            x.to(images.device) for x in random_masking(len(images), math.prod(grid), self.ratio, noise)
        )
        seen = self.embed(self.encoder.run(self.encoder.embed(images, keep=keep)))  # (b, 1 + k, w)
        return self.decode(seen, restore, grid), mask

    def decode(self, seen: Float[Tensor, "b t w"], restore: Int[Tensor, "b n"], grid: tuple[int, int]) -> Tensor:
        """Mask tokens take the places of what was hidden; with positions of its own the decoder paints all patches."""
        lead = self.encoder.prefix
        hidden = self.mask_token.to(seen.dtype).expand(len(seen), restore.shape[1] + lead - seen.shape[1], -1)
        x = torch.cat([seen[:, lead:], hidden], 1)
        x = torch.gather(x, 1, restore[..., None].expand(-1, -1, x.shape[2]))
        x = x + sincos_positions(*grid, x.shape[2], self.encoder.side / max(grid)).to(x)
        x = torch.cat([seen[:, :lead], x], 1)
        for block in self.decoder:
            x = block(x)
        return self.paint(x)[:, lead:]

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Mean squared error on what was hidden."""
        prediction, mask = self(views[0])
        return mae_loss(prediction, patchify(views[0], self.patch), mask, self.norm_pix)

    @torch.no_grad()
    def reconstruct(
        self, images: Float[Tensor, "b 3 s s"], noise: Float[Tensor, "b n"] | None = None
    ) -> tuple[Float[Tensor, "b 3 s s"], Float[Tensor, "b 3 s s"], Float[Tensor, "b 3 s s"]]:
        """The visible patches (others at 0), the painted ones, and those in the true patches' mean and spread.

        The last needs the truth, so it is for looking at only; without `norm_pix` it equals the second.  Visible
        patches are the photograph's own in both.
        """
        grid = images.shape[2] // self.patch, images.shape[3] // self.patch
        prediction, mask = self(images, noise)
        target, hidden = patchify(images, self.patch), mask[..., None].bool()
        undone = prediction.float()
        if self.norm_pix:
            undone = undone * (target.var(2, keepdim=True) + 1e-6).sqrt() + target.mean(2, keepdim=True)
        pictures = (0 * target, prediction.float(), undone)
        return tuple(unpatchify(torch.where(hidden, p, target), self.patch, grid) for p in pictures)
