"""DINO, and what DINOv2 added: masked patches (iBOT), KoLeo, registers, Sinkhorn in place of the centre.

Source: Caron et al. 2021, algorithm 1; Zhou et al. 2022 (iBOT); Oquab et al. 2024, section 4; Darcet et al. 2024.
Book: selfsup/dino
"""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gadkit.checks import one_of, positive, share
from gadkit.data.views import ASYMMETRIC, multi_crop
from gadkit.losses import dino_loss, ibot_loss, koleo, next_centre, sinkhorn
from gadkit.nn import DINOHead, ViT, cosine_momentum, ema_update, teacher_of
from gadkit.nn.masks import block_masks
from gadkit.protocols import Recipe
from gadkit.selfsup.base import SelfSupervised, together

COINCIDENT = -math.log(2e-8)  # KoLeo of class tokens that are all alike


class DINO(SelfSupervised):
    """Self-distillation without labels: the student matches a teacher that is its own running average.

    `ibot` weighs the loss on masked patches: in half of the images blocks are hidden, shares from `masked[0]` to
    `masked[1]` of the patches.  `koleo` weighs the spreading of the class tokens (summed over the large views),
    `registers` is passed to the default encoder, and `balance` says how the teacher is kept from collapse, on class
    tokens and patches: "centre" or "sinkhorn".  What is kept in the end is the teacher.

    `warmup_temperature` lets the teacher's temperature rise from there to `teacher_temperature` over the share `warmup`
    of training (the paper: 0.04 to 0.07 in 30 of 100 epochs), and `frozen` holds the last layer of the student's head
    still for a share (the paper: one epoch).  Both are off: runs of minutes have no epochs to spare.

    Betas and the rise of the decay are the official code's.  It clips each parameter's gradient at 3, and ours all of
    them together, as DINOv2 does; it has stochastic depth, and ours has none.  For runs of minutes are the few
    prototypes, a teacher whose momentum starts from 0.9 and not from 0.996, batch norm in the head, and the learning
    rate (official: 2.5e-4 at this batch).
    """

    recipe = Recipe(lr=2e-3, betas=(0.9, 0.999), weight_decay=0.04, weight_decay_end=0.4, clip=3.0)
    transient = ("student.", "student_head.", "progress")

    def __init__(
        self,
        encoder: ViT | None = None,
        *,
        prototypes: int = 256,
        small: int = 4,
        momentum: float = 0.9,
        teacher_temperature: float = 0.04,
        student_temperature: float = 0.1,
        warmup_temperature: float | None = None,
        warmup: float = 0.3,
        frozen: float = 0.0,
        balance: str = "centre",
        ibot: float = 0.0,
        masked: tuple[float, float] = (0.1, 0.5),
        koleo: float = 0.0,
        registers: int = 0,
    ) -> None:
        super().__init__(ViT(registers=registers) if encoder is None else encoder)
        if not 0 < masked[0] <= masked[1] <= 1:
            raise ValueError(f"masked: expected two shares in (0, 1] in order, got {masked}")
        if not (0 <= ibot < math.inf and 0 <= koleo < math.inf):
            raise ValueError(f"ibot, koleo: expected weights from 0, got {ibot} and {koleo}")
        width = self.encoder.width
        self.student, self.student_head = self.encoder, DINOHead(width, prototypes, norm=True)
        self.mask_token = nn.Parameter(torch.zeros(width))
        self.encoder, self.head = teacher_of(self.student), teacher_of(self.student_head)  # the teacher is the product
        self.register_buffer("centre", torch.zeros(prototypes))
        self.register_buffer("patch_centre", torch.zeros(prototypes))
        self.register_buffer("progress", torch.zeros(()))  # the share of training that is done
        self.balance = one_of("balance", balance, ("centre", "sinkhorn"))
        self.small, self.momentum = small, share("momentum", momentum, zero=True)
        self.frozen = share("frozen", frozen, zero=True)
        self.teacher_temperature = positive("teacher_temperature", teacher_temperature)
        self.student_temperature = positive("student_temperature", student_temperature)
        start = teacher_temperature if warmup_temperature is None else warmup_temperature
        self.warmup_temperature, self.warmup = positive("warmup_temperature", start), share("warmup", warmup, zero=True)
        self.ibot, self.masked, self.koleo, self.prototypes = ibot, masked, koleo, prototypes

    def views(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """Of each of `batch["images"]` two large views, by BYOL's two recipes, then small ones of half the side."""
        (images,) = self.columns(batch)
        return multi_crop(images, 2, self.small, (self.size, self.half), recipes=ASYMMETRIC)

    def collapse(self, batch_size: int) -> float:
        """Log k for class tokens, as much for patches in the images that have hidden ones, and KoLeo's at its worst."""
        patches = self.ibot * max(1, batch_size // 2) / batch_size
        return (1 + patches) * math.log(self.prototypes) + 2 * self.koleo * COINCIDENT

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """Cross-entropy of student and teacher over pairs of views (eq. 3), and the additions that are switched on.

        A head runs once over the class tokens of all its views, which share the statistics of its batch norm.
        """
        large = views[:2]
        with torch.no_grad():
            seen = together(self.encoder, large)
            teacher = self.head(torch.stack([t[:, 0] for t in seen])).float()  # (2, b, k)
        hidden = torch.cat([self.mask(v) for v in large]) if self.ibot else None
        tokens = together(lambda both: self._student(both, hidden), large)
        tokens += together(self.student, views[2:])
        student = self._student_logits(torch.stack([t[:, 0] for t in tokens]))
        targets, centre, temperature = self._targets(teacher, self.centre)
        loss = dino_loss(list(targets), list(student), centre, temperature, self.student_temperature)
        if self.koleo:
            loss = loss + self.koleo * (koleo(tokens[0][:, 0]) + koleo(tokens[1][:, 0]))
        if self.ibot:
            loss = loss + self.ibot * self._patches(torch.cat(seen), torch.cat(tokens[:2]), hidden)
        if self.training and self.balance == "centre":
            self.centre = next_centre(self.centre, list(teacher))
        return loss

    def _student(self, view: Tensor, mask: Tensor | None) -> Float[Tensor, "b t w"]:
        return self.student.run(
            self.student.embed(view, swap=mask, token=self.mask_token if mask is not None else None)
        )

    def _student_logits(self, tokens: Float[Tensor, "*n w"]) -> Float[Tensor, "*n k"]:
        return self.student_head(tokens, still=float(self.progress) < self.frozen)

    def temperature(self) -> float:
        """The teacher's temperature at this point of training."""
        if self.warmup_temperature == self.teacher_temperature:
            return self.teacher_temperature
        done = min(1.0, float(self.progress) / self.warmup) if self.warmup else 1.0
        return self.warmup_temperature + done * (self.teacher_temperature - self.warmup_temperature)

    def _targets(self, teacher: Float[Tensor, "*n k"], centre: Tensor) -> tuple[Tensor, Tensor, float]:
        """The teacher's logits with the centre and the temperature that make them targets.

        Sinkhorn balances all rows together, those of both views, as DINOv2 does.
        """
        if self.balance == "centre":
            return teacher, centre, self.temperature()
        shares = sinkhorn(teacher.flatten(0, -2), self.temperature())
        return shares.clamp(min=1e-12).log().view_as(teacher), torch.zeros_like(centre), 1.0  # softmax undoes the log

    def mask(self, view: Float[Tensor, "b 3 s s"]) -> Bool[Tensor, "b n"]:
        """Patches that the student does not see: blocks in a random half of the images.

        The shares are spread evenly from `masked[0]` to `masked[1]` over that half, so every batch, and every process,
        hides equally many patches.
        """
        b, patch = len(view), self.encoder.patch_size
        grid = view.shape[2] // patch, view.shape[3] // patch
        some, (low, high) = max(1, b // 2), self.masked
        shares = [low + (high - low) * (i + 0.5) / some for i in range(some)]
        counts = [max(1, int(part * grid[0] * grid[1])) for part in shares] + [0] * (b - some)
        return block_masks([counts[i] for i in torch.randperm(b).tolist()], grid).to(view.device)

    def _patches(
        self, seen: Float[Tensor, "b t w"], tokens: Float[Tensor, "b t w"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, ""]:
        """Cross-entropy of student and teacher on both views' patches that only the teacher sees (iBOT, eq. 2)."""
        with torch.no_grad():
            teacher = self.head(seen[:, self.encoder.prefix :][mask]).float()  # (hidden, k)
        student = self._student_logits(tokens[:, self.encoder.prefix :][mask])
        targets, centre, temperature = self._targets(teacher, self.patch_centre)
        laid = [torch.zeros(*mask.shape, x.shape[1]).to(x).index_put((mask,), x) for x in (targets, student)]
        loss = ibot_loss(*laid, mask, centre, temperature, self.student_temperature)
        if self.training and self.balance == "centre":
            self.patch_centre = next_centre(self.patch_centre, [teacher])
        return loss

    def after_step(self, progress: float) -> None:
        """The teacher follows, ever more slowly."""
        momentum = cosine_momentum(progress, self.momentum)
        ema_update(self.encoder, self.student, momentum)
        ema_update(self.head, self.student_head, momentum)
        self.progress.fill_(progress)
