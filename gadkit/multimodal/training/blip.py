"""Training the small BLIP: contrast, matching, captions and answers, all four in every step.

The image tower begins as that of `clip`; its stem and first blocks stay, and see every photograph once.  The paper
bootstraps its captions from the web; the factory's are true, so nothing is filtered here.

Source: Li et al., BLIP, ICML 2022, sections 3.2 and 5.3.
Book: multimodal/blip
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from gadkit import runtime
from gadkit.factory import descriptions
from gadkit.files import provenance
from gadkit.multimodal.blip import BLIP, save, wrap
from gadkit.multimodal.blip_network import SCRATCH, Architecture, Batch, Network
from gadkit.multimodal.towers import Front
from gadkit.multimodal.training import reading
from gadkit.multimodal.training.reading import Claims, Texts
from gadkit.multimodal.vocabulary import ids_of, pieces
from gadkit.train import Plan, batch_rows, fit

PLAN = Plan(steps=2400, lr=1e-3, warmup=200, weight_decay=0.05, batch=96, average=0.995, save_every=600)
STARTS = {"clip": Architecture(), "": SCRATCH}  # what the image tower begins as


def train(
    out: Path,
    seed: int = 0,
    steps: int | None = None,
    start: str = "clip",
    counts: Mapping[str, int] | None = None,
    batch: int = PLAN.batch,
) -> Path:
    """Train, or go on, and write `out/blip.safetensors`; returns the path.

    `start` names the CLIP that the image tower begins as, "" none: then all of it learns, from convolutions on.
    `counts` are photographs of each split.
    """
    plan = Plan(**vars(PLAN) | {"batch": batch} | ({} if steps is None else {"steps": steps}))
    where = runtime.device()
    runtime.seed_everything(seed)
    made, vocabulary = STARTS[start], pieces(descriptions.vocabulary())
    network = Network(made, len(vocabulary)).to(where)
    images, facts = reading.photographs(counts, seed)
    reader = wrap(network, made, vocabulary)
    held = Held(reader, images, reading.write(facts, seed), reading.claims(facts), where)
    what = f"blip, seed {seed}, {len(facts)} photographs, from {start or 'scratch'}"
    average, seconds = fit(network.train(), objective(network, held, plan, seed), plan, out, what=what)
    path = Path(out) / "blip.safetensors"
    about = {"seed": seed, "steps": plan.steps, "batch": batch, "photographs": len(facts), "start": start}
    save(average, made, vocabulary, path, about | {"seconds": round(seconds, 1)} | provenance(where))
    return path


class Held:
    """Everything a step picks from, on the device: encoded photographs and the ids of their texts."""

    def __init__(self, reader: BLIP, images: Tensor, texts: Texts, claims: Claims, where: torch.device) -> None:
        embeddings = reader.models["matching"].vision_model.embeddings
        front = embeddings if isinstance(embeddings, Front) else torch.nn.Identity()
        self.images: Float[Tensor, "v n ..."] = reading.encode(images, reader.prepare, front)
        self.captions, self.false, self.questions, self.answers = (
            self._ids(column, reader).to(where)
            for column in (texts.captions, texts.false, texts.questions, texts.answers)
        )
        self.vague: Bool[Tensor, "n k"] = torch.tensor(texts.vague).to(where)
        self.claims, self.where = claims.to(where), where

    def __len__(self) -> int:
        return self.images.shape[1]

    @staticmethod
    def _ids(texts: tuple[tuple[str, ...], ...], reader: BLIP) -> Int[Tensor, "n k l"]:
        flat = [text for row in texts for text in row]
        return ids_of(flat, reader.processor.tokenizer, reader.context_length).unflatten(0, (len(texts), -1))

    def draw(self, rows: Int[Tensor, "b"], generator: torch.Generator) -> Batch:
        """The batch of some rows."""
        p = reading.pick(rows, generator, self.where)
        return Batch(
            self.images[p.views, p.rows].float(),
            self.captions[p.rows, p.captions],
            self.false[p.rows, p.false],
            self.questions[p.rows, p.questions],
            self.answers[p.rows, p.questions],
            self.claims.true(p.rows, p.rows, self.vague[p.rows, p.captions]),
        )


def objective(network: Network, held: Held, plan: Plan, seed: int) -> Callable[[int], Tensor]:
    """The sum of the four losses of a step, all randomness keyed by its number."""

    def loss(step: int) -> Float[Tensor, ""]:
        torch.manual_seed(seed * 1_000_003 + step)  # dropout and hard negatives, on the device
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        batch = held.draw(batch_rows(len(held), plan.batch, step, seed), generator)
        with runtime.autocast(held.where):
            return torch.stack([value.float() for value in network(batch).values()]).sum()

    return loss
