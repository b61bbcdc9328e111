"""Training OWL-ViT: the book's own CLIP, two heads, and the boxes of scenes.

As the authors do, the towers begin as those of a trained CLIP, and its image projection as that of the class head.  The
text tower stays as it is, and so do the eyes: every scene passes them once.

Source: Minderer et al., ECCV 2022, section 3.
Book: objects/open-vocabulary
"""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit import runtime, zoo
from gadkit.backbones.tiny import EYES
from gadkit.factory import CATEGORIES, captions, scenes
from gadkit.files import provenance
from gadkit.losses.detection import centres, set_loss
from gadkit.objects.owl_vit import OwlConfig, OwlViT, build, predict, processor_for, save
from gadkit.objects.towers import from_clip
from gadkit.objects.training import shared
from gadkit.objects.training.words import TAUGHT, truth
from gadkit.train import Plan, batch_rows, fit

SCENES = 4096
BATCH = 32
PLAN = Plan(steps=5000, lr=1e-3, warmup=200, weight_decay=0.05, batch=BATCH, average=0.998, save_every=500)
STARTS = {  # what the towers begin as, and the architecture that this asks for
    "clip": OwlConfig(),
    "clip-scratch": OwlConfig(image_size=96, patch_size=8, layers=5, mean=0.45, std=0.27, stem="convolutions"),
    "": OwlConfig(image_size=96, patch_size=8, layers=5, mean=0.45, std=0.27, stem="convolutions"),
}
LEAST = 0.15  # a thing of which less is visible is no object to learn from


def train(out: Path, seed: int = 0, steps: int | None = None, start: str = "clip", count: int = SCENES) -> Path:
    """Train, or go on, on `count` scenes, and write `out/owl-vit.safetensors`; returns the path.

    `start` names the CLIP that the towers begin as, "" none: then the whole network learns, its words too.
    """
    plan = PLAN if steps is None else Plan(**vars(PLAN) | {"steps": steps})
    where = runtime.device()
    runtime.seed_everything(seed)
    config = STARTS[start]
    model = build(config)
    if start:
        model.load_state_dict(from_clip(zoo.load(start, "tiny", "cpu").model.state_dict()), strict=False)
    model.owlvit.text_model.requires_grad_(False)
    model.owlvit.text_projection.requires_grad_(False)
    model.owlvit.visual_projection.requires_grad_(False), model.owlvit.logit_scale.requires_grad_(False)
    model.to(where)
    shown = shared.rendered(count, seed, out)
    what = f"owl-vit, seed {seed}, {count} scenes, from {start or 'scratch'}"
    average, seconds = fit(model.train(), objective(model, config, shown, seed), plan, out, what=what)
    path = Path(out) / "owl-vit.safetensors"
    facts = {"seed": seed, "steps": plan.steps, "scenes": count, "start": start, "seconds": round(seconds, 1)}
    save(average, config, path, facts | provenance(where))
    return path


def objective(
    model: torch.nn.Module, config: OwlConfig, shown: scenes.Scenes, seed: int
) -> Callable[[int], Float[Tensor, ""]]:
    """The loss of a step: some scenes, and for every category that is taught a text in words of its own."""
    detector = OwlViT(model, processor_for(config))
    prepared = encode(detector, shown, config)
    model.train()
    boxes, labels = zip(*(truth(things, TAUGHT, LEAST) for things in shown.things), strict=True)
    where, far = detector.device, shown.images.shape[-1]
    true = [centres(some / far).to(where) for some in boxes]
    named = [some.to(where) for some in labels]

    def loss(step: int) -> Float[Tensor, ""]:
        rows = batch_rows(len(shown), min(BATCH, len(shown)), step, seed)
        words = detector.encode_text(ask(TAUGHT, random.Random(f"{seed}/{step}/texts")))  # (q, d)
        with runtime.autocast(where):
            found = predict(model, prepared[rows.to(where)].float(), words.expand(len(rows), -1, -1))
        return set_loss(*(some.float() for some in found), [named[i] for i in rows], [true[i] for i in rows])

    return loss


def ask(categories: Sequence[str], rng: random.Random) -> list[str]:
    """A text for each category: one of its nouns in one of the captions' templates."""
    return [rng.choice(captions.TEMPLATES).format(rng.choice(CATEGORIES[name].nouns)) for name in categories]


@torch.no_grad()
def encode(detector: OwlViT, shown: scenes.Scenes, config: OwlConfig) -> Tensor:
    """Prepared scenes or, where the stem has frozen eyes, the eyes' maps of them, which the stem takes instead."""
    stem = detector.model.owlvit.vision_model.embeddings.patch_embedding
    found = []
    for images in runtime.progress(shown.images.split(64), "encoding"):
        prepared = detector.prepare(images)
        found.append((stem.join(prepared) if config.stem in EYES else prepared).half())
    return torch.cat(found)
