"""Training Florence-2: one loss, that of the next token, for five tasks on the factory's scenes and photographs.

The eyes stay as they are, so every picture passes them once; the rest learns from nothing.  `start=""` trains a whole
small DaViT instead.

Source: Xiao et al., Florence-2, CVPR 2024, section 4.
Book: multimodal/florence2
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
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
) -> Path:
    """Train, or go on, and write `out/florence2.safetensors`; returns the path.

    `start` names the eyes, "" none: then the vision tower is a DaViT that learns from nothing.  `count` says how many
    scenes of which split.
    """
    plan = PLAN if steps is None else Plan(**vars(PLAN) | {"steps": steps})
    where, config = runtime.device(), STARTS[start]
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
    what = f"florence2, seed {seed}, {dict(count)} scenes, {photographs} photographs, from {start or 'scratch'}"
    held = taught.columns(processor, lessons, READING, WRITING)
    average, seconds = fit(model.train(), objective(model, processor, prepared, held, seed), plan, out, what=what)
    facts = {"seed": seed, "steps": plan.steps, "scenes": dict(count), "photographs": photographs, "start": start}
    facts |= {"seconds": round(seconds, 1)}
    path = Path(out) / "florence2.safetensors"
    save(average, config, vocabulary, path, facts | provenance(where))
    return path


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
) -> Callable[[int], Float[Tensor, ""]]:
    """The loss of a step: rows of every task, as many as `SHARES` says, drawn by the number of the step."""
    where, tokenizer = model.device, processor.tokenizer
    columns = {t: [c.to(where) for c in (h.images, h.prompts, h.answers)] for t, h in held.items()}
    image = torch.full((1, processor.image_processor.image_seq_length), tokenizer.image_token_id, device=where)
    first, pad = tokenizer.convert_tokens_to_ids("<loc_0>"), tokenizer.pad_token_id

    def moved(ids: Tensor) -> Tensor:
        place = ids - first
        shift = torch.randint(-SPREAD, SPREAD + 1, ids.shape, device=where)
        return torch.where((place >= 0) & (place < BINS), first + (place + shift).clamp(0, BINS - 1), ids)

    def loss(step: int) -> Float[Tensor, ""]:
        torch.manual_seed(seed * 1_000_003 + step)
        rows = {t: torch.randint(len(c[0]), (SHARES[t],), device=where) for t, c in columns.items()}
        places, prompts, answers = (torch.cat([columns[t][k][rows[t]] for t in rows]) for k in range(3))
        ids = torch.cat([image.expand(len(places), -1), moved(prompts)], 1)
        labels = moved(answers).masked_fill(answers == pad, -100)
        with runtime.autocast(where):
            seen = prepared[places].float()
            return model(input_ids=ids, attention_mask=(ids != pad).long(), pixel_values=seen, labels=labels).loss

    return loss
