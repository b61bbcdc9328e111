"""The other side of `benchmarks.training`: lightly's page-long examples of SimCLR, DINO and MAE, on our encoder.

Each keeps the shape of its example: a model, a transform of PIL images, a `DataLoader`, a loop.  Heads, decoder,
losses, transforms and helpers are lightly's own; sizes, temperatures, strengths and the initial weights are those of
the method it is compared with, so the same views give the same loss.

Source: lightly 1.6, examples/pytorch/simclr.py, dino.py and mae.py.
Book: anomaly/measuring
"""

import copy
import warnings
from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from gadkit import runtime
from gadkit.data.views import MEAN, STD
from gadkit.selfsup import DINO, MAE, SimCLR
from gadkit.selfsup.base import SelfSupervised

NORMAL = {"mean": [MEAN] * 3, "std": [STD] * 3}
COLOURS = {"cj_bright": 0.4, "cj_contrast": 0.4, "cj_sat": 0.4, "cj_hue": 0.1}  # gadkit.data.views.Views at strength 1


def _same_start(ours: Iterable[nn.Module], theirs: Iterable[nn.Module]) -> None:
    """Give the linear layers of `theirs`, in order, the weights of `ours`; norms are the identity in both."""
    own, other = ([x for part in side for x in part.modules() if isinstance(x, nn.Linear)] for side in (ours, theirs))
    for one, two in zip(own, other, strict=True):
        two.load_state_dict(one.state_dict())


def _widths(head: nn.Sequential) -> tuple[int, int, int]:
    """The widths of a head: input, hidden and output."""
    linear = [layer for layer in head if isinstance(layer, nn.Linear)]
    return linear[0].in_features, linear[0].out_features, linear[-1].out_features


class SimCLRExample(nn.Module):
    """lightly's SimCLR: backbone, projection head, NT-Xent."""

    def __init__(self, like: SimCLR) -> None:
        from lightly.loss import NTXentLoss
        from lightly.models.modules import SimCLRProjectionHead
        from lightly.transforms import SimCLRTransform

        super().__init__()
        self.backbone = copy.deepcopy(like.encoder)
        self.projection_head = SimCLRProjectionHead(*_widths(like.head))
        self.projection_head.layers[-1] = nn.BatchNorm1d(like.head[-2].out_features, affine=False)  # as the paper's
        _same_start([like.head], [self.projection_head])
        self.criterion = NTXentLoss(temperature=like.temperature)
        self.transform = SimCLRTransform(input_size=like.size, min_scale=0.2, normalize=NORMAL, **COLOURS)

    def forward(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The loss of two views."""
        z0, z1 = (self.projection_head(self.backbone(x)[:, 0]) for x in views)
        return self.criterion(z0, z1)

    def after_step(self) -> None:
        """Nothing follows a step."""


class DINOExample(nn.Module):
    """lightly's DINO: a student and a teacher, each with its head."""

    def __init__(self, like: DINO) -> None:
        from lightly.loss import DINOLoss
        from lightly.models.modules import DINOProjectionHead
        from lightly.models.utils import deactivate_requires_grad
        from lightly.transforms import DINOTransform

        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # lightly calls torch's old weight_norm
            self.student_head = DINOProjectionHead(*_widths(like.head.mlp), like.prototypes, batch_norm=True)
            teacher_head = DINOProjectionHead(*_widths(like.head.mlp), like.prototypes, batch_norm=True)
        self.student_backbone, self.teacher_backbone = copy.deepcopy(like.student), copy.deepcopy(like.student)
        self.student_head.layers.load_state_dict(like.student_head.mlp.state_dict())
        with torch.no_grad():
            self.student_head.last_layer.weight_v.copy_(like.student_head.direction)
        teacher_head.load_state_dict(self.student_head.state_dict())
        self.teacher_head = teacher_head
        deactivate_requires_grad(self.teacher_backbone)
        deactivate_requires_grad(self.teacher_head)
        self.momentum = like.momentum
        self.criterion = DINOLoss(
            output_dim=like.prototypes,
            teacher_temp=like.teacher_temperature,
            student_temp=like.student_temperature,
        )
        self.transform = DINOTransform(
            global_crop_size=like.size,
            global_crop_scale=(0.3, 1.0),
            local_crop_size=like.half,
            local_crop_scale=(0.05, 0.3),
            n_local_views=like.small,
            cj_strength=1.0,
            gaussian_blur=(1.0, 0.1, 0.5),
            solarization_prob=0.2,
            normalize=NORMAL,
            **COLOURS | {"cj_sat": 0.2},
        )

    def forward(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The loss of two large views and some small ones."""
        with torch.no_grad():
            seen = torch.cat([self.teacher_backbone(x)[:, 0] for x in views[:2]])
            teacher = self.teacher_head(seen).chunk(2)  # the head sees all views at once, as ours does
        tokens = torch.cat([self.student_backbone(x)[:, 0] for x in views])
        return self.criterion(list(teacher), list(self.student_head(tokens).chunk(len(views))))

    def after_step(self) -> None:
        """The teacher follows the student."""
        from lightly.models.utils import update_momentum

        update_momentum(self.student_backbone, self.teacher_backbone, m=self.momentum)
        update_momentum(self.student_head, self.teacher_head, m=self.momentum)


class MAEExample(nn.Module):
    """lightly's MAE: masks by index, a decoder of timm's blocks; our encoder goes on with what is kept."""

    def __init__(self, like: MAE) -> None:
        from lightly.models.modules import MaskedVisionTransformerDecoderTIMM
        from lightly.transforms import MAETransform

        super().__init__()
        self.backbone, self.mask_ratio, self.patch_size = copy.deepcopy(like.encoder), like.ratio, like.patch
        width, first = like.embed.out_features, like.decoder[0]
        self.decoder_embed = nn.Linear(like.encoder.width, width)
        self.decoder = MaskedVisionTransformerDecoderTIMM(
            num_patches=like.encoder.side**2,
            embed_dim=width,
            depth=len(like.decoder),
            num_heads=first.heads,
            norm_layer=nn.LayerNorm,
        )
        self.decoder_pred = nn.Linear(width, 3 * like.patch**2)
        _same_start([like.embed, like.decoder, like.paint], [self.decoder_embed, self.decoder, self.decoder_pred])
        with torch.no_grad():
            self.decoder.mask_token.copy_(like.mask_token)
        self.criterion = nn.MSELoss()
        self.transform = MAETransform(input_size=like.size, min_scale=0.2, normalize=NORMAL)

    def forward(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The loss on the hidden patches of one view, each with its own mean and deviation taken out."""
        from lightly.models import utils

        images = views[0]
        size = len(images), self.decoder.sequence_length
        keep, hide = utils.random_token_mask(size, self.mask_ratio, device=images.device)
        encoded = self.backbone.run(self.backbone.embed(images, keep=keep[:, 1:] - 1))  # the class token is always kept
        small = self.decoder_embed(encoded)
        tokens = utils.repeat_token(self.decoder.mask_token, size)
        decoded = self.decoder(utils.set_at_index(tokens, keep, small.type_as(tokens)))
        prediction = self.decoder_pred(utils.get_at_index(decoded, hide))
        target = utils.get_at_index(utils.patchify(images, self.patch_size), hide - 1)
        return self.criterion(prediction, utils.normalize_mean_var(target))

    def after_step(self) -> None:
        """Nothing follows a step."""


EXAMPLES: dict[str, Callable[..., nn.Module]] = {"simclr": SimCLRExample, "dino": DINOExample, "mae": MAEExample}


class Photographs(Dataset):
    """PIL images in memory; item i is what `transform` makes of the i-th: its views."""

    def __init__(self, images: UInt8[Tensor, "n 3 h w"], transform: Callable) -> None:
        from PIL import Image

        self.images = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
        self.transform = transform

    def __len__(self) -> int:
        """How many there are."""
        return len(self.images)

    def __getitem__(self, index: int) -> list[Tensor]:
        """The views of one image."""
        return self.transform(self.images[index])


def loader(images: UInt8[Tensor, "n 3 h w"], example: nn.Module, batch: int, workers: int) -> DataLoader:
    """Shuffled batches of views; worker processes stay from one epoch to the next."""
    return DataLoader(
        Photographs(images, example.transform),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )


def train(example: nn.Module, batches: Iterable[list[Tensor]], like: SelfSupervised, decay: float) -> float:
    """One epoch of the examples' loop, with the optimiser and the precision of our own; returns the mean loss."""
    where = next(example.parameters()).device
    optimiser = torch.optim.AdamW(example.parameters(), lr=like.lr, weight_decay=decay, fused=True)
    total, count = torch.zeros((), device=where), 0
    for views in batches:
        with runtime.autocast(where):
            loss = example([view.to(where) for view in views])
        total += loss.detach()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        example.after_step()
        count += 1
    return total.item() / count
