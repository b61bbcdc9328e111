"""Training the small BLIP-2: a language model on texts alone, then the Q-Former's two stages.

1. A small OPT reads descriptions of parts: a caption, and after it another of the same part or a question and its
   answer.  No photograph is shown.  From then on it is frozen.
2. Stage 1: the Q-Former learns from the frozen image tower by contrast, matching and writing.
3. Stage 2: what its queries become is projected in front of a text, where a caption stood; the language model's loss
   trains queries, Q-Former and projection.  Every `KEPT`th step is one of stage 1, so that the Q-Former goes on
   matching: the authors publish another checkpoint for that.

Each stage has a folder of its own in which it is resumed.

Source: Li et al., BLIP-2, ICML 2023, section 3.
Book: multimodal/blip
"""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit import runtime
from gadkit.checks import checked, whole
from gadkit.factory import CATEGORIES, descriptions
from gadkit.factory.descriptions import Fact
from gadkit.factory.scenes.words import COLOURS
from gadkit.files import provenance
from gadkit.multimodal.blip2 import BLIP2, save, wrap
from gadkit.multimodal.blip2_network import Architecture, Network
from gadkit.multimodal.qformer import Batch, Stage1
from gadkit.multimodal.towers import Front
from gadkit.multimodal.training import reading
from gadkit.multimodal.training.reading import Picks, Texts
from gadkit.multimodal.vocabulary import IGNORED, PAD, PROMPT, ids_of, learn_pairs, pieces
from gadkit.train import Plan, batch_rows, fit

PLAN = Plan(steps=1200, lr=1e-3, warmup=100, weight_decay=0.05, batch=96, average=0.99, save_every=600)
STARTS = {
    "clip": Architecture(),
    "": Architecture(96, 8, frozen=0, blocks=4, mean=0.45, std=0.27, stem="convolutions"),
}
SPOKEN = 6000  # parts that the language model reads of
LANGUAGE_BATCH = 192  # texts a step
KEPT = 4


def train(
    out: Path,
    seed: int = 0,
    steps: int | None = None,
    start: str = "clip",
    counts: Mapping[str, int] | None = None,
    batch: int = PLAN.batch,
    spoken: int = SPOKEN,
) -> Path:
    """Train, or go on, and write `out/blip2.safetensors`; returns the path.  Each of the three stages has `steps`.

    `start` names the CLIP whose image tower is frozen, "" none: then a tower learns in stage 1 with the Q-Former.
    `counts` are photographs of each split, `spoken` parts that the language model reads of.
    """
    plan = Plan(**vars(PLAN) | {"batch": batch} | ({} if steps is None else {"steps": steps}))
    out, where = Path(out), runtime.device()
    runtime.seed_everything(seed)
    corpus = descriptions.vocabulary()
    made, vocabulary, pairs = STARTS[start], pieces(corpus), learn_pairs([*corpus, PROMPT.format("what?")])
    network = Network(made, len(vocabulary), reader_tokens(pairs))
    reader, taken = wrap(network, made, vocabulary, pairs), 0.0
    network.to(where)
    taken += _language(network, reader, plan, out / "language", seed, spoken)
    images, facts = reading.photographs(counts, seed)
    held = Held(reader, images, facts, seed, where)
    what = f"blip2, seed {seed}, {len(facts)} photographs, {spoken} parts in words, from {start or 'scratch'}"
    first = Stage1(network.matching)
    first.to(where)
    taken += _stage(first, held.first(first, plan, seed), plan, out / "stage1", f"{what}, stage 1")
    network.generation.vision_model.requires_grad_(False).post_layernorm.requires_grad_(True)
    both = nn.ModuleDict({"network": network, "first": first})
    taken += _stage(both, held.second(network, first, plan, seed), plan, out / "stage2", f"{what}, stage 2")
    path = out / "blip2.safetensors"
    about = {"seed": seed, "steps": plan.steps, "batch": batch, "photographs": len(facts), "start": start}
    save(network, made, vocabulary, pairs, path, about | {"seconds": round(taken, 1)} | provenance(where))
    return path


def reader_tokens(pairs: str) -> int:
    """The number of tokens of the language model, that of an image included."""
    return len(json.loads(pairs)["vocab"]) + 1


def _stage(model: nn.Module, loss: Callable[[int], Tensor], plan: Plan, run: Path, what: str) -> float:
    """Train a module in place, take over the running average of its weights, and return the seconds."""
    average, seconds = fit(model.train(), loss, plan, run, what=what)
    if average is not model:
        model.load_state_dict(average.state_dict())
    model.zero_grad()  # the next stage's gradients are clipped by their own length
    return seconds


def _language(network: Network, reader: BLIP2, plan: Plan, run: Path, seed: int, spoken: int) -> float:
    """The language model on texts alone, frozen afterwards."""
    model = network.generation.language_model
    where = next(model.parameters()).device
    ids = documents(reading.write(invented(spoken, seed), seed), reader).to(where)
    plan = replace(plan, batch=min(LANGUAGE_BATCH, len(ids)))

    def loss(step: int) -> Float[Tensor, ""]:
        some = ids[batch_rows(len(ids), plan.batch, step, seed).to(where)]
        with runtime.autocast(where):
            return model(
                input_ids=some, attention_mask=(some != PAD).long(), labels=some.masked_fill(some == PAD, IGNORED)
            ).loss.float()

    seconds = _stage(model, loss, plan, run, f"blip2, seed {seed}, {spoken} parts in words")
    model.requires_grad_(False)
    return seconds


@checked
def invented(count: int, seed: int = 0) -> list[Fact]:
    """Facts about parts of every category, of any colour and state, that nobody photographed.

    Raises ValueError for a count below 1.
    """
    whole("count", count)
    rng, found = random.Random(f"{seed}/spoken"), []
    for _ in range(count):
        category = rng.choice([*CATEGORIES.values()])
        colour, accent = rng.choice(("", *COLOURS)), rng.choice(("", "", *COLOURS))
        defect = rng.choice(category.defects) if rng.random() < 0.5 else ""
        accent = accent if colour and accent != colour else ""
        severity = rng.uniform(0.3, 1.0) if defect else 0.0
        found.append(Fact(category.name, category.nouns[0], category.kind, colour, accent, defect, severity))
    return found


def documents(texts: Texts, reader: BLIP2) -> Int[Tensor, "n l"]:
    """Token ids of texts of two sentences each, between them and behind them the end token.

    The first is a caption, in whose place an image's queries will stand; the second is another, or a question and its
    answer.
    """
    rows = []
    for captions, questions, answers in zip(texts.captions, texts.questions, texts.answers, strict=True):
        seconds = [*captions[:2], *(f"{PROMPT.format(q)} {a}" for q, a in zip(questions, answers, strict=True))]
        rows += [(captions[-1 - i % len(captions)], second) for i, second in enumerate(seconds)]
    tokenizer = reader.processor.tokenizer
    firsts, seconds = (tokenizer([*side])["input_ids"] for side in zip(*rows, strict=True))
    end = [tokenizer.eos_token_id]
    found = [torch.tensor(a[1:] + b + end) for a, b in zip(firsts, seconds, strict=True)]  # b begins with the end token
    return nn.utils.rnn.pad_sequence(found, batch_first=True, padding_value=PAD)


class Held:
    """Everything a step picks from, on the device: encoded photographs and the ids of their texts."""

    def __init__(self, reader: BLIP2, images: Tensor, facts: Sequence[Fact], seed: int, where: torch.device) -> None:
        texts, made = reading.write(facts, seed), reader.models["generation"]
        front = made.vision_model.embeddings
        encode = front if isinstance(front, Front) else nn.Identity()
        self.images: Float[Tensor, "v n ..."] = reading.encode(images, reader.prepare, encode)
        flat = [[text for row in column for text in row] for column in (texts.captions, texts.false)]
        self.captions, self.false = (
            ids_of(column, reader.pieces, reader.text_length).unflatten(0, (len(facts), -1)).to(where)
            for column in flat
        )
        self.ids, self.labels = (x.to(where) for x in self._spoken(texts, reader))  # (n, k, l)
        self.vague = torch.tensor(texts.vague).to(where)
        self.claims, self.where = reading.claims(facts).to(where), where

    def __len__(self) -> int:
        return self.images.shape[1]

    @staticmethod
    def _spoken(texts: Texts, reader: BLIP2) -> tuple[Int[Tensor, "n k l"], Int[Tensor, "n k l"]]:
        """Captions and answered questions behind an image's tokens, and what of them is to be predicted."""
        tokenizer, image = reader.processor.tokenizer, reader.image_ids()
        ids, labels = [], []
        for captions, questions, answers in zip(texts.captions, texts.questions, texts.answers, strict=True):
            prompts = [""] * len(captions) + [PROMPT.format(question) for question in questions]
            whole = [*captions, *(f"{p} {a}" for p, a in zip(prompts[len(captions) :], answers, strict=True))]
            for prompt, text in zip(tokenizer(prompts)["input_ids"], tokenizer(whole)["input_ids"], strict=True):
                ids.append(torch.tensor([*image, *text, tokenizer.eos_token_id]))
                known = len(image) + len(prompt)
                labels.append(torch.cat([torch.full((known,), IGNORED), ids[-1][known:]]))
        padded = nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD)
        wanted = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        return tuple(x.unflatten(0, (len(texts.captions), -1)) for x in (padded, wanted))

    def _pick(self, plan: Plan, step: int, seed: int) -> tuple[Picks, torch.Generator]:
        torch.manual_seed(seed * 1_000_003 + step)  # dropout and hard negatives, on the device
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        return reading.pick(batch_rows(len(self), plan.batch, step, seed), generator, self.where), generator

    def first(self, stage: Stage1, plan: Plan, seed: int) -> Callable[[int], Tensor]:
        """The sum of the three losses of a step of stage 1."""

        def loss(step: int) -> Float[Tensor, ""]:
            p, _ = self._pick(plan, step, seed)
            true = self.claims.true(p.rows, p.rows, self.vague[p.rows, p.captions])
            images = self.images[p.views, p.rows].float()
            batch = Batch(images, self.captions[p.rows, p.captions], self.false[p.rows, p.false], true)
            with runtime.autocast(self.where):
                return torch.stack([value.float() for value in stage(batch).values()]).sum()

        return loss

    def second(self, network: Network, stage: Stage1, plan: Plan, seed: int) -> Callable[[int], Tensor]:
        """The loss of transformers' class, and every `KEPT`th step that of stage 1."""
        first = self.first(stage, plan, seed)

        def loss(step: int) -> Float[Tensor, ""]:
            if step % KEPT == KEPT - 1:
                return first(step)
            p, generator = self._pick(plan, step, seed)
            which = torch.randint(self.ids.shape[1], p.rows.shape, generator=generator).to(self.where)
            ids = self.ids[p.rows, which]
            with runtime.autocast(self.where):
                return network.generation(
                    pixel_values=self.images[p.views, p.rows].float(),
                    input_ids=ids,
                    attention_mask=(ids != PAD).long(),
                    labels=self.labels[p.rows, which],
                ).loss.float()

        return loss
