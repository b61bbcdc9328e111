"""Training OWL-ViT: the book's own CLIP, two heads, and the boxes of scenes.

As the authors do, the towers begin as those of a trained CLIP, and its image projection as that of the class head.  The
text tower stays as it is, and so do the eyes: every scene passes them once.  So that words without boxes are not
forgotten, photographs of single parts are named beside: four on a square, and in each quarter the token that fits its
name best learns it.

Source: Minderer et al., ECCV 2022, section 3; for names without boxes Zhou et al., Detic, ECCV 2022.
Book: objects/open-vocabulary
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gadkit import factory, runtime, zoo
from gadkit.backbones.tiny import EYES
from gadkit.factory import CATEGORIES, captions, scenes
from gadkit.files import provenance
from gadkit.losses.detection import centres, focal_loss, set_loss
from gadkit.objects.owl_vit import OwlConfig, OwlViT, build, predict, processor_for, save
from gadkit.objects.towers import from_clip
from gadkit.objects.training import shared
from gadkit.objects.training.words import TAUGHT, WITHHELD, truth
from gadkit.train import Plan, batch_rows, fit

SCENES = 4096
BATCH = 32
PLAN = Plan(steps=5000, lr=1e-3, warmup=200, weight_decay=0.05, batch=BATCH, average=0.998, save_every=500)
STARTS = {  # what the towers begin as, and the architecture that this asks for
    "clip": OwlConfig(),
    **{name: OwlConfig(stem=name) for name in EYES},
    "clip-scratch": OwlConfig(image_size=96, patch_size=8, layers=5, mean=0.45, std=0.27, stem="convolutions"),
    "": OwlConfig(image_size=96, patch_size=8, layers=5, mean=0.45, std=0.27, stem="convolutions"),
}
NAMES = TAUGHT + WITHHELD  # what photographs are named by
CLIPS = ("clip", "clip-scratch")  # of `STARTS`
TEXT = ("owlvit.text_model.", "owlvit.text_projection.", "owlvit.logit_scale")  # a CLIP's words
TYPICAL = 64  # scenes from which eyes without a CLIP take each channel's mean and deviation
SQUARES, SIDE = 1024, 64  # of four photographs, and the side of one in pixels
PHOTOGRAPHS = 10_000_000  # the first of their seeds, among those that the CLIP has learnt from
NAMING = 1.0  # weight of their loss
LEAST = 0.15  # a thing of which less is visible is no object to learn from


def train(
    out: Path,
    seed: int = 0,
    steps: int | None = None,
    start: str = "clip",
    count: int = SCENES,
    batch: int = BATCH,
    named: int = SQUARES,
) -> Path:
    """Train, or go on, on `count` scenes, `batch` a step, and write `out/owl-vit.safetensors`; returns the path.

    `start` names the CLIP that the towers begin as, or frozen eyes on which an image tower learns from nothing; with
    "" even its convolutions do.  The text tower is a CLIP's in every case, and `named` squares are drawn to name.
    """
    steps = PLAN.steps if steps is None else steps
    plan = replace(PLAN, steps=steps, warmup=min(PLAN.warmup, steps // 4), batch=batch)
    where = runtime.device()
    runtime.seed_everything(seed)
    config = STARTS[start]
    model = build(config)
    clip = start if start in CLIPS else CLIPS[0]
    held = from_clip(zoo.load(clip, "tiny", "cpu").model.state_dict())
    read = TEXT if clip != start else ("",)
    model.load_state_dict({k: v for k, v in held.items() if k.startswith(read)}, strict=False)
    model.owlvit.text_model.requires_grad_(False)
    model.owlvit.text_projection.requires_grad_(False)
    model.owlvit.visual_projection.requires_grad_(False), model.owlvit.logit_scale.requires_grad_(False)
    model.to(where)
    shown = shared.rendered(count, seed, out)
    if start in EYES:
        stem = model.owlvit.vision_model.embeddings.patch_embedding
        stem.standardise(OwlViT(model, processor_for(config)).prepare(shown.images[:TYPICAL]))
    what = f"owl-vit, seed {seed}, {count} scenes, from {start or 'scratch'}"
    loss = objective(model, config, shown, seed, squares(seed, named), batch)
    average, seconds = fit(model.train(), loss, plan, out, what=what)
    path = Path(out) / "owl-vit.safetensors"
    facts = {
        "seed": seed,
        "steps": plan.steps,
        "scenes": count,
        "batch": batch,
        "start": start,
        "seconds": round(seconds, 1),
    }
    save(average, config, path, facts | provenance(where), start if start in CLIPS else None)
    return path


def squares(seed: int = 0, count: int = SQUARES) -> tuple[UInt8[Tensor, "b 3 s s"], Int[Tensor, "b 4"]]:
    """Squares of four photographs of single sound parts, and their places in `NAMES`, row by row."""
    lot = torch.Generator().manual_seed(seed)
    labels = torch.arange(4 * count)[torch.randperm(4 * count, generator=lot)] % len(NAMES)
    photographs = torch.empty(4 * count, 3, SIDE, SIDE, dtype=torch.uint8)
    for label, name in enumerate(NAMES):
        mine = (labels == label).nonzero()[:, 0]
        if len(mine):
            seeds = PHOTOGRAPHS + 4 * count * seed + mine
            photographs[mine] = factory.render(name, seeds, seeds, size=SIDE).images
    rows = photographs.unflatten(0, (count, 2, 2)).permute(0, 3, 1, 4, 2, 5)  # (b, 3, 2, side, 2, side)
    return rows.reshape(count, 3, 2 * SIDE, 2 * SIDE), labels.view(count, 4)


def naming(logits: Float[Tensor, "b n q"], labels: Int[Tensor, "b 4"]) -> Float[Tensor, ""]:
    """The loss of squares: of each quarter's tokens the one that fits the name best is it, all others are nothing."""
    half = round(logits.shape[1] ** 0.5) // 2
    grid = logits.unflatten(1, (2, half, 2, half)).transpose(2, 3)  # (b, 2, 2, half, half, q)
    quarters, named = grid.flatten(3, 4).flatten(0, 2), labels.flatten()  # (4b, half^2, q)
    rows = torch.arange(len(named), device=logits.device)
    truth = torch.zeros_like(quarters)
    truth[rows, quarters.detach()[rows, :, named].argmax(1), named] = 1
    return focal_loss(quarters, truth).sum() / len(named)


def objective(
    model: torch.nn.Module,
    config: OwlConfig,
    shown: scenes.Scenes,
    seed: int,
    photographs: tuple[UInt8[Tensor, "b 3 s s"], Int[Tensor, "b 4"]] | None = None,
    batch: int = BATCH,
) -> Callable[[int], Float[Tensor, ""]]:
    """The loss of a step: some scenes, and for every category that is taught a text in words of its own."""
    detector = OwlViT(model, processor_for(config))
    squared = None if photographs is None else encode(detector, photographs[0], config)
    prepared = encode(detector, shown.images, config)
    model.train()
    boxes, labels = zip(*(truth(things, TAUGHT, LEAST) for things in shown.things), strict=True)
    where, far = detector.device, shown.images.shape[-1]
    true = [centres(some / far).to(where) for some in boxes]
    named = [some.to(where) for some in labels]

    def loss(step: int) -> Float[Tensor, ""]:
        rows = batch_rows(len(shown), min(batch, len(shown)), step, seed)
        words = detector.encode_text(ask(TAUGHT, random.Random(f"{seed}/{step}/texts")))  # (q, d)
        with runtime.autocast(where):
            found = predict(model, prepared[rows.to(where)].float(), words.expand(len(rows), -1, -1))
        total = set_loss(*(some.float() for some in found), [named[i] for i in rows], [true[i] for i in rows])
        if squared is None:
            return total
        few = batch_rows(len(squared), min(batch // 2, len(squared)), step, seed)
        words = detector.encode_text(ask(NAMES, random.Random(f"{seed}/{step}/names")))
        with runtime.autocast(where):
            logits, _ = predict(model, squared[few.to(where)].float(), words.expand(len(few), -1, -1))
        return total + NAMING * naming(logits.float(), photographs[1][few].to(where))

    return loss


def ask(categories: Sequence[str], rng: random.Random) -> list[str]:
    """A text for each category: one of its nouns in one of the captions' templates."""
    return [rng.choice(captions.TEMPLATES).format(rng.choice(CATEGORIES[name].nouns)) for name in categories]


@torch.no_grad()
def encode(detector: OwlViT, images: UInt8[Tensor, "b 3 s s"], config: OwlConfig) -> Tensor:
    """Prepared images or, where the stem has frozen eyes, the eyes' maps of them, which the stem takes instead."""
    stem = detector.model.owlvit.vision_model.embeddings.patch_embedding
    found = []
    for some in runtime.progress(images.split(64), "encoding"):
        prepared = detector.prepare(some)
        found.append((stem.join(prepared) if config.stem in EYES else prepared).half())
    return torch.cat(found)
