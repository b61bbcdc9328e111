"""DINO, and what DINOv2 added: masked patches (iBOT), KoLeo, registers, Sinkhorn in place of the centre.

Source: Caron et al. 2021, algorithm 1; Zhou et al. 2022 (iBOT); Oquab et al. 2024, section 4; Darcet et al. 2024.
Book: selfsup/dino
"""

import math

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor, nn

from gadkit.data.views import multi_crop
from gadkit.losses import dino_loss, ibot_loss, koleo, next_centre, sinkhorn
from gadkit.nn import DINOHead, ViT, cosine_momentum, ema_update, teacher_of
from gadkit.selfsup.base import SelfSupervised

COINCIDENT = -math.log(2e-8)  # KoLeo of class tokens that are all alike


class DINO(SelfSupervised):
    """Self-distillation without labels: the student matches a teacher that is its own running average.

    `ibot` weighs the loss on masked patches (a share `masked` of them, in half of the images), `koleo` the spreading of
    the class tokens (summed over the large views), `registers` is passed to the default encoder, and `balance` says how
    the teacher is kept from collapse, on class tokens and patches: "centre" or "sinkhorn".  What is kept in the end is
    the teacher.  Few prototypes, a teacher of short memory and batch norm in the head are for runs of minutes.
    """

    lr = 2e-3
    transient = ("student.", "student_head.")

    def __init__(
        self,
        encoder: ViT | None = None,
        *,
        prototypes: int = 256,
        small: int = 4,
        momentum: float = 0.9,
        teacher_temperature: float = 0.04,
        student_temperature: float = 0.1,
        balance: str = "centre",
        ibot: float = 0.0,
        masked: float = 0.4,
        koleo: float = 0.0,
        registers: int = 0,
    ) -> None:
        super().__init__(ViT(registers=registers) if encoder is None else encoder)
        if balance not in ("centre", "sinkhorn"):
            raise ValueError(f"balance: expected centre or sinkhorn, got {balance!r}")
        width = self.encoder.width
        self.student, self.student_head = self.encoder, DINOHead(width, prototypes, norm=True)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.encoder, self.head = teacher_of(self.student), teacher_of(self.student_head)  # the teacher is the product
        self.register_buffer("centre", torch.zeros(prototypes))
        self.register_buffer("patch_centre", torch.zeros(prototypes))
        self.small, self.momentum, self.balance = small, momentum, balance
        self.teacher_temperature, self.student_temperature = teacher_temperature, student_temperature
        self.ibot, self.masked, self.koleo, self.prototypes = ibot, masked, koleo, prototypes
        self.collapse = (1 + ibot) * math.log(prototypes) + 2 * koleo * COINCIDENT

    def views(self, images: UInt8[Tensor, "b 3 h w"]) -> list[Tensor]:
        """Two large views, then small ones of half the side."""
        return multi_crop(images, 2, self.small, (self.size, self.half))

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy of student and teacher over pairs of views (eq. 3), and the additions that are switched on."""
        large = views[:2]
        with torch.no_grad():
            seen = [self.encoder(v) for v in large]
            teacher = [self.head(t[:, 0]).float() for t in seen]
        masks = [self.mask(v) if self.ibot else None for v in large]
        tokens = [self._student(v, m) for v, m in zip(large, masks, strict=True)]
        tokens += [self._student(v, None) for v in views[2:]]
        student = [self.student_head(t[:, 0]) for t in tokens]
        targets, centre, temperature = self._targets(teacher, self.centre)
        loss = dino_loss(targets, student, centre, temperature, self.student_temperature)
        if self.koleo:
            loss = loss + self.koleo * (koleo(tokens[0][:, 0]) + koleo(tokens[1][:, 0]))
        if self.ibot:
            loss = loss + self.ibot * self._patches(seen, tokens[:2], masks)
        if self.training and self.balance == "centre":
            self.centre = next_centre(self.centre, teacher)
        return loss

    def _student(self, view: Tensor, mask: Tensor | None) -> Float[Tensor, "b t w"]:
        return self.student.run(
            self.student.embed(view, swap=mask, token=self.mask_token if mask is not None else None)
        )

    def _targets(self, teacher: list[Tensor], centre: Tensor) -> tuple[list[Tensor], Tensor, float]:
        """The teacher's logits with the centre and the temperature that make them targets.

        Sinkhorn balances the rows of both views together, as DINOv2 does.
        """
        if self.balance == "centre":
            return teacher, centre, self.teacher_temperature
        shares = sinkhorn(torch.stack(teacher).flatten(0, -2), self.teacher_temperature)
        targets = shares.clamp(min=1e-12).log().view(len(teacher), *teacher[0].shape)  # softmax undoes the logarithm
        return list(targets), torch.zeros_like(centre), 1.0

    def mask(self, view: Float[Tensor, "b 3 s s"]) -> Bool[Tensor, "b n"]:
        """Patches that the student does not see: a share of them, at random, in a random half of the images."""
        b, n = len(view), (view.shape[2] // self.encoder.patch_size) * (view.shape[3] // self.encoder.patch_size)
        order = torch.rand(b, n).argsort(1).argsort(1)
        some = torch.randperm(b)[:, None] < max(1, b // 2)
        return ((order < max(1, int(self.masked * n))) & some).to(view.device)

    def _hidden(self, tokens: Float[Tensor, "b t w"], mask: Bool[Tensor, "b n"]) -> Float[Tensor, "i m w"]:
        """The tokens of masked patches, as many in each image that has any."""
        return tokens[:, self.encoder.prefix :][mask].unflatten(0, (int(mask.any(1).sum()), -1))

    def _patches(self, seen: list[Tensor], tokens: list[Tensor], masks: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy of student and teacher on the patches that only the teacher sees (iBOT, eq. 2)."""
        with torch.no_grad():
            teacher = [self.head(self._hidden(t, m)).float() for t, m in zip(seen, masks, strict=True)]
        student = [self.student_head(self._hidden(t, m)) for t, m in zip(tokens, masks, strict=True)]
        targets, centre, temperature = self._targets(teacher, self.patch_centre)
        every = torch.ones(teacher[0].shape[:2], dtype=torch.bool, device=centre.device)
        args = every, centre, temperature, self.student_temperature
        loss = torch.stack([ibot_loss(t, s, *args) for t, s in zip(targets, student, strict=True)]).mean()
        if self.training and self.balance == "centre":
            self.patch_centre = next_centre(self.patch_centre, [t.flatten(0, 1) for t in teacher])
        return loss

    def after_step(self, progress: float) -> None:
        """The teacher follows, ever more slowly."""
        momentum = cosine_momentum(progress, self.momentum)
        ema_update(self.encoder, self.student, momentum)
        ema_update(self.head, self.student_head, momentum)
