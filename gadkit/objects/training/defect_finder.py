"""Training an OWL-ViT that knows what defects are called: single parts, boxed as a whole and by their defects.

The finders that learn from scenes are taught the names of things.  SAA asks for "defect on nut", so its finder is
taught such texts, too: general ones, or what each kind of defect is called, at random.  Eyes and text tower are those
of the book's CLIP, and stay as they are.

Source: Minderer et al., ECCV 2022, section 3 (the network and its training); the texts are ours.
Book: anomaly/saa
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from torch import Tensor

from gadkit import factory, runtime, zoo
from gadkit.factory import CATEGORIES
from gadkit.factory.render import render, survey
from gadkit.files import provenance
from gadkit.losses.detection import centres, set_loss
from gadkit.objects.owl_vit import OwlConfig, OwlViT, build, predict, processor_for, save
from gadkit.objects.towers import from_clip
from gadkit.train import Plan, batch_rows, fit

SIZE, COUNT, BATCH = 96, 1200, 16  # more of each found boxes better and SAA's defects worse, see the card
PLAN = Plan(steps=700, lr=5e-4, warmup=100, weight_decay=0.05, batch=BATCH, average=0.99, save_every=100)
FIRST = 10_000_000  # seeds of photographs, among those that the CLIP has learnt from
DEFECTIVE = 0.75
PIECES, LEAST = 4, 6  # boxes of a defect that lies in several places, and pixels that one of them has at least
GENERAL = ("defect", "damage", "flaw", "anomaly")
SURFACES = ("part", "object", "surface", "item")  # that a text may name in place of the part
FRAMES = ("{}", "a {}", "a photo of a {}", "the {}")
WORDS = {
    "scratch": ("scratch",),
    "crack": ("crack",),
    "hole": ("hole",),
    "stain": ("stain",),
    "contamination": ("contamination", "dirt"),
    "discolouration": ("discolouration", "wrong colour"),
    "broken": ("broken edge", "chipped edge"),
    "bent": ("bent edge", "deformed edge"),
    "missing": ("missing part",),
    "misplaced": ("misplaced part",),
    "misprint": ("misprint", "faulty print"),
}
PART = ""  # in place of a defect's name: the box of the part itself


@dataclass(frozen=True)
class Photographs:
    """Single parts: `boxes` hold, an image each, a defect's name or `PART` and (left, top, right, bottom) in pixels."""

    images: UInt8[Tensor, "b 3 s s"]
    categories: tuple[str, ...]
    boxes: tuple[tuple[tuple[str, tuple[int, ...]], ...], ...]


def train(out: Path, seed: int = 0, steps: int | None = None, count: int = COUNT) -> Path:
    """Train, or go on, on `count` photographs, and write `out/defect-finder.safetensors`; returns the path."""
    plan = PLAN if steps is None else Plan(**vars(PLAN) | {"steps": steps})
    where, shown, config = runtime.device(), photographs(count, seed), OwlConfig()
    runtime.seed_everything(seed)
    model = build(config)
    model.load_state_dict(from_clip(zoo.load("clip", "tiny", "cpu").model.state_dict()), strict=False)
    for part in ("text_model", "text_projection", "visual_projection"):
        getattr(model.owlvit, part).requires_grad_(False)
    model.owlvit.logit_scale.requires_grad_(False)
    model.to(where)
    what = f"defect-finder, seed {seed}, {count} photographs"
    average, seconds = fit(model.train(), objective(model, config, shown, seed), plan, out, what=what)
    path = Path(out) / "defect-finder.safetensors"
    facts = {"seed": seed, "steps": plan.steps, "photographs": count, "seconds": round(seconds, 1)}
    save(average, config, path, facts | provenance(where), "clip")
    return path


def photographs(count: int, seed: int = 0) -> Photographs:
    """Parts of the seen categories, most of them with a defect of any kind that they can have."""
    names, dice, orders = factory.split("seen"), random.Random(seed), {}
    for i in range(count):
        name = names[i % len(names)]
        defect = dice.choice(CATEGORIES[name].defects) if dice.random() < DEFECTIVE else None
        orders.setdefault((name, defect), []).append((FIRST + seed * count + i, dice.uniform(0.3, 1.0)))
    images, categories, boxes = [], [], []
    for (name, defect), some in orders.items():
        seeds, severity = torch.tensor([s for s, _ in some]), torch.tensor([v for _, v in some])
        whole = survey(name, seeds, seeds, defect, severity, SIZE)
        masks = render(name, seeds, seeds, defect, severity, SIZE).masks
        for cover, mask in zip(whole.cover > 0.5, masks, strict=True):
            found = [] if CATEGORIES[name].kind == "texture" or not cover.any() else [(PART, _box(cover))]
            boxes.append(tuple(found + ([] if defect is None else [(defect, box) for box in pieces(mask)])))
        images.append(whole.images), categories.extend([name] * len(some))
    return Photographs(torch.cat(images), tuple(categories), tuple(boxes))


def pieces(mask: Bool[Tensor, "h w"]) -> list[tuple[int, ...]]:
    """The boxes of the largest connected pieces of a mask, each a pixel wider on all sides."""
    marked = mask.numpy()
    labels, _ = ndimage.label(ndimage.binary_dilation(marked))
    found = [(int((marked & (labels == i + 1)).sum()), place) for i, place in enumerate(ndimage.find_objects(labels))]
    largest = sorted(found, key=lambda pair: -pair[0])[:PIECES]
    return [(x.start, y.start, x.stop, y.stop) for size, (y, x) in largest if size >= LEAST]


def _box(cover: Bool[Tensor, "h w"]) -> tuple[int, ...]:
    rows, columns = cover.any(1).nonzero()[:, 0], cover.any(0).nonzero()[:, 0]
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def ask(categories: Sequence[str], rng: random.Random) -> tuple[list[str], dict[tuple[str, str], int]]:
    """The texts of a step, and which of them each box belongs to, by defect and category.

    Asked for are the categories by a noun each, up to four others, and defects: either by one general text, which may
    name the part or not, or by a text for each kind.
    """
    own = sorted({*categories})
    others = [name for name in factory.split("seen") if name not in own]
    names = own + rng.sample(others, min(4, len(others)))
    texts = [rng.choice(FRAMES).format(rng.choice(CATEGORIES[name].nouns)) for name in names]
    places = {(PART, name): names.index(name) for name in own}
    if rng.random() < 0.5:
        word = rng.choice(GENERAL)
        if rng.random() < 0.6:
            general = []
            for name in own:
                general.append(len(texts))
                texts.append(f"{word} on {rng.choice(CATEGORIES[name].nouns)}")
        else:
            general = [len(texts)] * len(own)
            texts.append(rng.choice([word, f"a {word}", f"{word} on {rng.choice(SURFACES)}"]))
        return texts, places | {(d, name): at for name, at in zip(own, general, strict=True) for d in WORDS}
    for defect, words in WORDS.items():
        places |= {(defect, name): len(texts) for name in own}
        word = rng.choice(words)
        texts.append(rng.choice([word, word, f"a {word}", f"{word} on {rng.choice(SURFACES[:2])}"]))
    return texts, places


def objective(
    model: torch.nn.Module, config: OwlConfig, shown: Photographs, seed: int
) -> Callable[[int], Float[Tensor, ""]]:
    """The loss of a step: some photographs, and texts for what can be seen on them."""
    detector = OwlViT(model, processor_for(config))
    stem, where = model.owlvit.vision_model.embeddings.patch_embedding, detector.device
    with torch.no_grad():  # the eyes are frozen: every photograph passes them once
        some = runtime.progress(shown.images.split(64), "encoding")
        prepared = torch.cat([stem.join(detector.prepare(images)).half() for images in some])
    model.train()
    true = [centres(torch.tensor([box for _, box in b]).reshape(-1, 4).float() / SIZE).to(where) for b in shown.boxes]

    def loss(step: int) -> Float[Tensor, ""]:
        rows = batch_rows(len(shown.images), min(BATCH, len(shown.images)), step, seed).tolist()
        texts, places = ask([shown.categories[i] for i in rows], random.Random(f"{step}/texts"))
        labels = [torch.tensor([places[d, shown.categories[i]] for d, _ in shown.boxes[i]]).long() for i in rows]
        words = detector.encode_text(texts)
        with runtime.autocast(where):
            found = predict(model, prepared[rows].float(), words.expand(len(rows), -1, -1))
        found = tuple(some.float() for some in found)
        return set_loss(*found, [one.to(where) for one in labels], [true[i] for i in rows])

    return loss
