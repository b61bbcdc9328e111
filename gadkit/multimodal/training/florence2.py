"""Training Florence-2: one loss, that of the next token, for five tasks on the factory's scenes and photographs.

The eyes stay as they are, so every picture passes them once; the rest learns from nothing.  `start=""` trains a whole
small DaViT instead.

Source: Xiao et al., Florence-2, CVPR 2024, section 4.
Book: multimodal/florence2
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from gadkit import runtime
from gadkit.backbones.tiny import EYES
from gadkit.factory import descriptions, scenes
from gadkit.files import provenance
from gadkit.multimodal.florence_network import FlorenceConfig, build, processor_for, save
from gadkit.multimodal.florence_words import learn_words, sentences
from gadkit.multimodal.location import BINS
from gadkit.multimodal.training import florence_lessons as taught
from gadkit.train import Plan, fit

if TYPE_CHECKING:
    from transformers import Florence2Processor

SIZE = 128  # side of a scene in pixels
SCENES = {"seen": 1400, "randomised": 600}
PHOTOGRAPHS = 5000
READING, WRITING = 26, 46  # tokens of the longest prompt, without the image's, and of the longest answer
SHARES = {taught.CAPTION: 24, taught.OBJECTS: 48, taught.SEGMENT: 24, taught.REGION: 20, taught.WORDS: 12}  # of a batch
PLAN = Plan(
    steps=4000, lr=8e-4, warmup=300, weight_decay=0.05, batch=sum(SHARES.values()), average=0.998, save_every=500
)
STARTS = {EYES[0]: FlorenceConfig(), "": FlorenceConfig(image_size=128, stem="davit")}
SPREAD = BINS // SIZE // 2  # an edge lies somewhere in a pixel, which is 7.8 bins wide: training draws where


def train(
    out: Path,
    seed: int = 0,
    steps: int | None = None,
    start: str = EYES[0],
    count: Mapping[str, int] = SCENES,
    photographs: int = PHOTOGRAPHS,
    batch: int | None = None,
    config: FlorenceConfig | None = None,
) -> Path:
    """Train, or go on, and write `out/florence2.safetensors`; returns the path.

    `start` names the eyes, "" none: then the vision tower is a DaViT that learns from nothing.  `count` says how many
    scenes of which split, `batch` about how many rows a step has: every task keeps its share, and has one at least.
    `config` is another architecture than that of `STARTS`.
    """
    shares = SHARES if batch is None else {t: max(1, round(n * batch / PLAN.batch)) for t, n in SHARES.items()}
    plan = brief(PLAN.steps if steps is None else steps, sum(shares.values()))
    where, config = runtime.device(), config or STARTS[start]
    runtime.seed_everything(seed)
    vocabulary = learn_words(sentences())
    model, processor = build(config, vocabulary).to(where), processor_for(config, vocabulary)
    pictures, lessons = [], []
    for split, number in count.items():
        shown, first = scenes.render(number, seed, SIZE, split), sum(map(len, pictures))
        found = taught.of_scenes(shown, seed)
        lessons += [taught.Lesson(one.task, first + one.image, one.asked, one.answer) for one in found]
        pictures.append(taught.mirrors(shown.images))
    alone = descriptions.render(photographs, seed)
    lessons += taught.of_photographs(alone, sum(map(len, pictures)), seed)
    prepared = torch.cat([encode(model, processor, images) for images in (*pictures, alone.images)])
    what = f"florence2, seed {seed}, {dict(count)} scenes, {photographs} photographs, {config}"
    held = taught.columns(processor, lessons, READING, WRITING)
    loss = objective(model, processor, prepared, held, seed, shares)
    average, seconds = fit(model.train(), loss, plan, out, what=what)
    facts = {"seed": seed, "steps": plan.steps, "scenes": dict(count), "photographs": photographs, "start": start}
    facts |= {"batch": plan.batch, "seconds": round(seconds, 1)}
    path = Path(out) / "florence2.safetensors"
    save(average, config, vocabulary, path, facts | provenance(where))
    return path


def brief(steps: int, batch: int) -> Plan:
    """The plan with other steps and another batch; a third of the steps at most warms up, and a fifth may be lost."""
    few = {"warmup": min(PLAN.warmup, max(1, steps // 3)), "save_every": min(PLAN.save_every, max(1, steps // 5))}
    return replace(PLAN, steps=steps, batch=batch, **few)


@torch.no_grad()
def encode(model: torch.nn.Module, processor: "Florence2Processor", images: UInt8[Tensor, "b 3 h w"]) -> Tensor:
    """Prepared images in half precision, on the model's device; of frozen eyes the maps, which the stem takes instead.

    The first images that such a stem meets set what its channels are standardised by.
    """
    stem, found = model.model.vision_tower.convs[0], []
    for some in runtime.progress(images.split(256), "encoding"):
        x = processor.image_processor(images=list(some.to(model.device)), return_tensors="pt", device=model.device)
        x = x["pixel_values"].to(model.device)
        if hasattr(stem, "eyes"):
            if not stem.mean.any():
                stem.standardise(x)
            x = stem.join(x)
        found.append(x.half())
    return torch.cat(found)


def objective(
    model: torch.nn.Module,
    processor: "Florence2Processor",
    prepared: Tensor,
    held: Mapping[str, taught.Columns],
    seed: int,
    shares: Mapping[str, int] = SHARES,
) -> Callable[[int], Float[Tensor, ""]]:
    """The loss of a step: rows of every task, as many as `shares` says, drawn by the number of the step."""
    where, tokenizer = model.device, processor.tokenizer
    columns = {t: [c.to(where) for c in (h.images, h.prompts, h.answers)] for t, h in held.items()}
    first = tokenizer.convert_tokens_to_ids("<loc_0>")

    def moved(ids: Tensor) -> Tensor:
        place = ids - first
        shift = torch.randint(-SPREAD, SPREAD + 1, ids.shape, device=where)
        return torch.where((place >= 0) & (place < BINS), first + (place + shift).clamp(0, BINS - 1), ids)

    def loss(step: int) -> Float[Tensor, ""]:
        torch.manual_seed(seed * 1_000_003 + step)
        rows = {t: torch.randint(len(c[0]), (shares[t],), device=where) for t, c in columns.items()}
        places, prompts, answers = (torch.cat([columns[t][k][rows[t]] for t in rows]) for k in range(3))
        return answer_loss(model, processor, prepared[places], moved(prompts), moved(answers))

    return loss


def answer_loss(
    model: torch.nn.Module,
    processor: "Florence2Processor",
    prepared: Float[Tensor, "b c _ _"],
    prompts: Int[Tensor, "b s"],
    answers: Int[Tensor, "b t"],
) -> Float[Tensor, ""]:
    """The mean cross-entropy of the answers' tokens, in nats, each given the image, the prompt and all before it."""
    tokenizer, pad = processor.tokenizer, processor.tokenizer.pad_token_id
    image = prompts.new_full((len(prompts), processor.image_processor.image_seq_length), tokenizer.image_token_id)
    ids = torch.cat([image, prompts], 1)
    labels = answers.masked_fill(answers == pad, -100)
    with runtime.autocast(model.device):
        return model(
            input_ids=ids, attention_mask=(ids != pad).long(), pixel_values=prepared.float(), labels=labels
        ).loss
