"""Training Grounding DINO: nouns, nouns with colours, and phrases that are true of one thing in a scene.

Its loss is the model's own: focal on every token of a phrase, L1 and generalized IoU, after Hungarian matching, of the
decoder's answers and of the encoder's proposals; `phrased_loss` says what of it had to be mended.

Source: Liu et al., Grounding DINO, ECCV 2024, section 3.5.
Book: objects/open-vocabulary
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit import runtime
from gadkit.factory import CATEGORIES, captions, scenes
from gadkit.files import provenance
from gadkit.losses.detection import centres
from gadkit.objects.grounding_dino import Caption, DinoConfig, GroundingDino, batched, build, processor_for, save
from gadkit.objects.training import shared
from gadkit.objects.training.words import TAUGHT, WITHHELD
from gadkit.objects.vocabulary import learn_pieces
from gadkit.train import Plan, batch_rows, fit

if TYPE_CHECKING:
    from transformers import GroundingDinoConfig

SCENES = 4096
BATCH = 24
PLAN = Plan(steps=4000, lr=1e-3, warmup=200, weight_decay=0.05, batch=BATCH, average=0.998, save_every=500)
SCALE = 0.02  # of the model's loss, whose focal part is a sum over all tokens of all queries
LEAST = 0.15  # a thing of which less is visible is no object to learn from
PHRASES = 8  # in a caption of nouns
RELATED = 0.3  # share of captions that have phrases such as "the gear left of the bolt"
COLOURED = 0.3  # share of nouns with a colour before them, where it has a plain one
Pairs = list[tuple[str, list[int]]]  # phrases, and the places of the things that each is true of


def train(out: Path, seed: int = 0, steps: int | None = None, stem: str = DinoConfig.stem, count: int = SCENES) -> Path:
    """Train, or go on, on `count` scenes, and write `out/grounding-dino.safetensors`; returns the path.

    `stem` is what the image encoder begins with, one of `gadkit.objects.grounding_dino.STEMS`.
    """
    plan = planned(PLAN.steps if steps is None else steps)
    where = runtime.device()
    runtime.seed_everything(seed)
    config, pieces = DinoConfig(stem=stem), learn_pieces(corpus())
    processor = processor_for(config, pieces)
    model = build(config, len(processor.tokenizer)).to(where)
    shown = shared.rendered(count, seed, out)
    what = f"grounding-dino, seed {seed}, {count} scenes, {stem}"
    detector = GroundingDino(model, processor)
    average, seconds = fit(model.train(), objective(detector, shown, seed), plan, out, what=what)
    path = Path(out) / "grounding-dino.safetensors"
    facts = {"seed": seed, "steps": plan.steps, "scenes": count, "batch": BATCH, "seconds": round(seconds, 1)}
    save(average, config, pieces, path, facts | provenance(where))
    return path


def planned(steps: int) -> Plan:
    """The recipe over so many steps; a short one warms up sooner, and its average reaches back less far."""
    forgets = max(0.9, 1 - 8 / max(steps, 1))  # .998 over 4,000 steps
    return replace(PLAN, steps=steps, warmup=min(PLAN.warmup, steps // 4), average=min(PLAN.average, forgets))


def corpus() -> list[str]:
    """What the word pieces are learnt from: words of the seen categories, of captions, colours and places."""
    nouns = [noun for name in scenes.object_categories("seen") for noun in CATEGORIES[name].nouns]
    states = [*captions.NORMAL, *captions.ANOMALOUS, *(words for some in captions.BY_DEFECT.values() for words in some)]
    places = ["the left of", "right of", "above", "below", "on the", "largest smallest leftmost rightmost topmost"]
    colours = [*scenes.words.COLOURS, "bottommost"]
    return [*nouns, *captions.TEMPLATES, *(words.format("part") for words in states), *places, *colours] * 4


def objective(detector: GroundingDino, shown: scenes.Scenes, seed: int) -> Callable[[int], Float[Tensor, ""]]:
    """The loss of a step: some scenes, half of them mirrored where no phrase speaks of a side, each with a caption."""
    model, where, far = detector.model, detector.device, shown.images.shape[-1]
    pictures, model.loss_function = shown.images.to(where), phrased_loss

    def loss(step: int) -> Float[Tensor, ""]:
        rng = random.Random(f"{seed}/{step}/captions")
        rows = batch_rows(len(shown), min(BATCH, len(shown)), step, seed)
        pairs = [phrases(shown.things[i], rng) for i in rows]
        images, labels, asked = pictures[rows.to(where)], [], []
        for place, (i, some) in enumerate(zip(rows, pairs, strict=True)):
            truth = target(shown.things[i], some, far)
            if rng.random() < 0.5 and not any(text.startswith("the ") for text, _ in some):
                images[place] = images[place].flip(2)
                truth["boxes"] = truth["boxes"] * torch.tensor([-1.0, 1, 1, 1]) + torch.tensor([1.0, 0, 0, 0])
            labels.append({name: value.to(where) for name, value in truth.items()})
            asked.append(one_caption(detector, [text for text, _ in some]))
        ids, mask = batched(asked, where)
        torch.manual_seed(seed * 1_000_003 + step)  # of dropout
        out = model(pixel_values=detector.prepare(images), input_ids=ids, attention_mask=mask, labels=labels)
        return SCALE * out.loss

    return loss


def phrased_loss(
    logits: Float[Tensor, "b n t"],
    labels: Sequence[Mapping[str, Tensor]],
    device: torch.device,
    pred_boxes: Float[Tensor, "b n 4"],
    config: "GroundingDinoConfig",
    label_maps: Sequence[Float[Tensor, "_ t"] | Int[Tensor, "_ t"]],
    text_mask: Bool[Tensor, "b n t"],
    encoder_logits: Float[Tensor, "b n t"],
    encoder_pred_boxes: Float[Tensor, "b n 4"],
    **more: object,
) -> tuple[Float[Tensor, ""], dict[str, Tensor], None]:
    """The library's loss of the decoder's answers and of the encoder's proposals, with every phrase in its own caption.

    The library puts the rows of all captions' label maps below one another, and looks for a phrase of image i as many
    rows further down as caption i has phrases.  That is right for the first image of a batch, and for the second where
    both captions are equally long; the others get phrases of other captions.  Here each is looked up in its own map.
    """
    from transformers.loss.loss_grounding_dino import GroundingDinoHungarianMatcher, GroundingDinoImageLoss

    class Phrased(GroundingDinoImageLoss):
        def _get_target_classes_one_hot(self, outputs: Any, targets: Any, indices: Any) -> Tensor:
            of_images = zip(outputs["label_maps"], targets, indices, strict=True)
            rows = [its_map[one["class_labels"][matched]] for its_map, one, (_, matched) in of_images]
            found = torch.zeros_like(outputs["logits"], dtype=torch.long)
            found[self._get_source_permutation_idx(indices)] = torch.cat(rows).long()
            return found

    matcher = GroundingDinoHungarianMatcher(config.class_cost, config.bbox_cost, config.giou_cost)
    criterion = Phrased(matcher, config.focal_alpha, ["labels", "boxes"])
    shares = {"loss_ce": 2.0, "loss_bbox": config.bbox_loss_coefficient, "loss_giou": config.giou_loss_coefficient}
    parts = {}
    for end, scores, boxes in (("", logits, pred_boxes), ("_enc", encoder_logits, encoder_pred_boxes)):
        held = {"logits": scores, "pred_boxes": boxes, "label_maps": label_maps, "text_mask": text_mask}
        parts |= {name + end: shares[name] * value for name, value in criterion(held, labels).items()}
    return sum(parts.values()), parts, None


def phrases(things: Sequence[scenes.Thing], rng: random.Random) -> Pairs:
    """The phrases of a caption: nouns, true of something or of nothing, or phrases that are each true of one thing."""
    taught = [place for place, thing in enumerate(things) if thing.category in TAUGHT and thing.visible > LEAST]
    hidden = {noun for name in WITHHELD for noun in CATEGORIES[name].nouns}
    if rng.random() < RELATED:
        told = [
            (text, [place])
            for place in taught
            for text in things[place].expressions
            if not any(f" {noun}" in text for noun in hidden)
        ]
        if told:
            return rng.sample(told, min(len(told), 3))
    found: dict[str, list[int]] = {}
    for place in taught:
        found.setdefault(things[place].category, []).append(place)
    names = [*found, *rng.sample([name for name in TAUGHT if name not in found], PHRASES - min(PHRASES, len(found)))]
    rng.shuffle(names)
    return [_noun(name, found.get(name, []), things, rng) for name in names]


def _noun(name: str, places: list[int], things: Sequence[scenes.Thing], rng: random.Random) -> tuple[str, list[int]]:
    noun = rng.choice(CATEGORIES[name].nouns)
    colours = {things[place].colour for place in places}
    if rng.random() < COLOURED and "" not in colours:
        colour = rng.choice([*colours] or [*scenes.words.COLOURS])
        return f"{colour} {noun}", [place for place in places if things[place].colour == colour]
    return noun, places


def target(things: Sequence[scenes.Thing], pairs: Pairs, far: int) -> Mapping[str, Tensor]:
    """What the model's loss wants to know: boxes (centre x, centre y, width, height) in shares, and their phrases."""
    boxes = torch.tensor([things[place].box for _, places in pairs for place in places]).reshape(-1, 4)
    labels = [number for number, (_, places) in enumerate(pairs) for _ in places]
    return {"boxes": centres(boxes / far), "class_labels": torch.tensor(labels, dtype=torch.long)}


def one_caption(detector: GroundingDino, texts: list[str]) -> Caption:
    """The texts as one caption.  Raises ValueError where they do not fit."""
    found = detector.captions(texts)
    if len(found) > 1:
        raise ValueError(f"texts: expected what fits into one caption, got {len(texts)} that fill {len(found)}")
    return found[0]
