"""Training the tiny CLIP: images, token windows and patches against captions.

The model learns from captions and, through them, from masks: a window or a patch is paired with the captions that are
true of what it shows, and the defect masks say what that is.  "Zero-shot" therefore means categories that were never
trained on, not defects.

Book: anomaly/winclip
"""

import math
import os
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from gadkit import factory, runtime, weights
from gadkit.backbones.openclip import OpenCLIP, embed
from gadkit.backbones.tiny import EYES, REAL, TinyConfig, build_tiny_clip, save, tokenizer
from gadkit.factory.pairs import PairPool
from gadkit.files import provenance, write_json
from gadkit.losses import balanced_sigmoid
from gadkit.multimodal.pairing import (
    ANOMALOUS,
    NORMAL,
    UNNAMED,
    Batch,
    Captions,
    draw_windows,
    make_batch,
    make_captions,
    window_tokens,
)
from gadkit.train import Plan, fit

LEAST = 8  # defect pixels from which a window counts as defective; with fewer, but more than 0, it is left out


@dataclass(frozen=True)
class Config:
    """A recipe; the defaults are that of `clip-scratch`."""

    name: str = "clip-scratch"  # of the file that is written
    steps: int = 11200
    seed: int = 0
    out: Path = Path("clip-scratch")
    pairs: int = 16  # a batch is twice as many images
    chunks: int = 320  # size of the pool of pairs, in renderings of 24
    captions: int = 48
    patch_captions: int = 16  # patches see a part of them: 144 x as many rows
    dense: float = 1.0  # weight of the patches' loss; 0 trains on captions of images and windows only
    first: int = 3800  # steps of the first stage, without large windows
    early: float = 0.0  # weight of the question that detection asks, in the first stage
    two_way: float = 1.0  # the same, in the second
    text: str = (
        ""  # shipped weights whose text tower is taken, all but its projection frozen; "": it learns from scratch
    )
    model: TinyConfig = field(default_factory=TinyConfig)
    lr: float = 1e-3


RECIPES = {
    "clip-scratch": Config(),
    "clip": Config(
        "clip", 4000, pairs=12, captions=40, first=4000, early=1.0, text="clip-scratch", model=REAL, out=Path("clip")
    ),
}


def attend(attn: nn.MultiheadAttention, x: Float[Tensor, "b t w"]) -> Float[Tensor, "b t w"]:
    """Self-attention by three products: at this size a CPU trains faster so than through the fused kernels."""
    qkv = F.linear(x, attn.in_proj_weight, attn.in_proj_bias).unflatten(-1, (3, attn.num_heads, -1))
    q, k, v = qkv.permute(2, 0, 3, 1, 4)  # 3 x (b, heads, t, d)
    weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    mixed = weights.softmax(-1).to(v.dtype) @ v
    return attn.out_proj(mixed.transpose(1, 2).flatten(2))


class Contrast(nn.Module):
    """CLIP's objective on three levels: whole images, windows of their tokens, and single patches."""

    def __init__(self, clip: nn.Module, config: Config) -> None:
        super().__init__()
        self.clip, self.config, self.grid = clip, config, clip.visual.grid_size[0]
        self.tokenize = tokenizer()
        self.encode_text = OpenCLIP(clip, self.tokenize).encode_token_ids

    def tower(self, tokens: Float[Tensor, "b t w"]) -> Float[Tensor, "b t d"]:
        """The image tower from ln_pre's output on, every token projected, as unit vectors."""
        visual = self.clip.visual
        for block in visual.transformer.resblocks:
            tokens = tokens + attend(block.attn, block.ln_1(tokens))
            tokens = tokens + block.mlp(block.ln_2(tokens))
        return F.normalize((visual.ln_post(tokens) @ visual.proj).float(), dim=-1)

    def logits(self, images: Float[Tensor, "n d"], texts: Float[Tensor, "t d"]) -> Float[Tensor, "n t"]:
        """Scaled cosines plus the bias of the sigmoid loss."""
        return self.clip.logit_scale.exp().clamp(max=100) * images @ texts.T + self.clip.logit_bias

    def forward(
        self, batch: Batch, captions: Captions, windows: list[Tensor], whole: bool, two_way: float
    ) -> Float[Tensor, ""]:
        """The losses of whole images (and their patches) if `whole`, and of each set of windows, all of equal weight.

        A network that has learnt nothing has a loss of log 2 in each term.
        """
        with runtime.autocast(batch.images.device):
            texts = F.normalize(self.encode_text(captions.tokens).float(), dim=-1)
            visual = self.clip.visual
            start = visual.ln_pre(embed(visual, batch.images))  # (b, 1 + n, w)
            full = self.tower(start) if whole else None
            cuts = [self.tower(window_tokens(start, index))[:, 0] for index in windows]
        losses = [self._places(e, texts, captions, batch, w, two_way) for e, w in zip(cuts, windows, strict=True)]
        if full is not None:
            losses.append(self._loss(full[:, 0], texts, captions, batch.category, batch.state, None, two_way))
            if self.config.dense:
                few = slice(self.config.patch_captions)
                captions = Captions(captions.tokens[few], captions.category[few], captions.state[few])
                cells = torch.arange(batch.cells.shape[1], device=start.device).expand_as(batch.cells)[..., None]
                patches = full[:, 1:].flatten(0, 1)
                losses.append(self.config.dense * self._places(patches, texts[few], captions, batch, cells, two_way))
        return torch.stack(losses).mean()

    def _places(self, vectors, texts, captions: Captions, batch: Batch, windows, two_way: float) -> Float[Tensor, ""]:
        """The loss of windows: in the image's state where enough of the defect is seen, sound where nothing is."""
        b, count, k = windows.shape
        found = torch.gather(batch.cells, 1, windows.flatten(1)).view(b * count, k).sum(1)
        bad, good = found >= (LEAST if k > 1 else LEAST - 2), found == 0
        weight = bad / bad.float().mean().clamp(min=1e-2) + good / good.float().mean().clamp(min=1e-2)
        state = torch.where(found > 0, batch.state.repeat_interleave(count), NORMAL)
        return self._loss(vectors, texts, captions, batch.category.repeat_interleave(count), state, weight, two_way)

    def _loss(self, vectors, texts, captions: Captions, category, state, weight, two_way: float) -> Float[Tensor, ""]:
        """Which captions are true of it and, as WinCLIP will ask, whether it is anomalous or normal."""
        logits = self.logits(vectors, texts)
        wide = None if weight is None else weight[:, None].expand_as(logits)
        loss = balanced_sigmoid(logits, captions.true_of(category, state), wide)
        if not two_way:
            return loss
        fits = (captions.category == UNNAMED) | (captions.category == category[:, None])
        bad, good = (fits & (captions.state == s) for s in (ANOMALOUS, NORMAL))
        margin = _mean(logits, bad) - _mean(logits, good)  # (n,)
        some = (bad.any(1) & good.any(1))[:, None]
        wide = some.float() if weight is None else some * weight[:, None]
        return (loss + two_way * balanced_sigmoid(margin[:, None], (state >= 0)[:, None], wide)) / (1 + two_way)


def _mean(logits: Float[Tensor, "n t"], where: Bool[Tensor, "n t"]) -> Float[Tensor, "n"]:
    return (logits * where).sum(1) / where.sum(1).clamp(min=1)


def objective(method: Contrast, pool: PairPool) -> Callable[[int], Tensor]:
    """The loss of a step, all randomness keyed by the step's number."""
    config = method.config
    where = next(method.parameters()).device

    def loss(step: int) -> Float[Tensor, ""]:
        rng = random.Random(f"{config.seed}/{step}/batch")
        generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
        late = step >= config.first
        whole = not late or rng.random() < 0.5
        pairs = pool.draw(step, config.pairs if not late else config.pairs * 3 // 4 if whole else config.pairs * 5 // 4)
        batch = make_batch(pairs, config.model, rng, generator)
        captions = make_captions(pairs, config.captions, rng, method.tokenize)
        shapes = [rng.choice(((2, 6), (3, 4), (3, 4), (5, 2)))]
        if late:  # half the steps leave the whole image out for a large window: a third of the cost, more parts seen
            shapes = [rng.choice(((2, 3), (3, 2)))] + [(rng.choice((7, 8)), 1)] * (not whole)
        windows = [draw_windows(batch.cells, method.grid, *shape, generator).to(where) for shape in shapes]
        batch, captions = (type(x)(*(t.to(where) for t in vars(x).values())) for x in (batch, captions))
        return method(batch, captions, windows, whole, config.two_way if late else config.early)

    return loss


def train(config: Config = Config(), watch_every: int = 1000) -> Path:
    """Train, or go on training, and write the weights, NAME.safetensors, into `config.out`; return their path.

    Raises ValueError for no steps, and in one of several processes: its windows are not shared out among them.
    """
    if config.steps < 1:
        raise ValueError(f"steps: expected at least 1, got {config.steps}")
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ValueError(f"clip: expected to train in one process, got one of {processes}")
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    where = runtime.device()
    runtime.seed_everything(config.seed)
    clip, pool = build_tiny_clip(config.model), PairPool(config.seed, config.chunks)
    if config.text:
        take_text(clip, config.text)
    method = Contrast(clip, config).to(where)
    if config.model.stem in EYES:
        standardise(clip, pool, config)
    plan = Plan(steps=config.steps, lr=config.lr, collapse=math.log(2))
    loss, what = objective(method, pool), f"{config.name}, {replace(config, out=Path())}"
    average, seconds = fit(method, loss, plan, out, _watch, watch_every, what=what)
    path = out / f"{config.name}.safetensors"
    save(average.clip, config.model, path)
    facts = {"out": None, "seconds": round(seconds, 1)} | provenance(where)
    write_json(out / "recipe.json", asdict(config) | facts)
    return path


def take_text(clip: nn.Module, name: str) -> None:
    """Begin with the text tower of shipped weights; only its projection goes on learning."""
    held = weights.read(weights.ASSETS / f"{name}.safetensors")
    text = {
        key: value for key, value in clip.state_dict().items() if not key.startswith(("visual.", "logit_", "attn_"))
    }
    clip.load_state_dict({key: held[key] for key in text}, strict=False)
    for key, parameter in clip.named_parameters():
        if key in text and key != "text_projection":
            parameter.requires_grad_(False)


def standardise(clip: nn.Module, pool: PairPool, config: Config) -> None:
    """Give the stem the statistics of a few batches of the pool."""
    stem, where = clip.visual.conv1, clip.logit_scale.device
    batches = [pool.draw(step, 16) for step in range(4)]
    draws = [
        make_batch(p, config.model, random.Random(i), torch.Generator().manual_seed(i)) for i, p in enumerate(batches)
    ]
    stem.standardise(torch.cat([batch.images for batch in draws]).to(where))


def _watch(average: Contrast, step: int) -> dict[str, float]:
    """Two quick numbers on the development split, for the log."""
    return glance(OpenCLIP(average.clip, tokenizer()))


@torch.inference_mode()
def glance(clip: OpenCLIP, categories: tuple[str, ...] | None = None, variants: int = 2) -> dict[str, float]:
    """Mean zero-shot image AUROC and nearest-patch 4-shot image AUROC over a few products of the development split.

    Quick and rough, to follow a training by; `gadkit.anomaly.benchmark` measures.
    """
    from sklearn.metrics import roc_auc_score

    zero, few = [], []
    for category in categories or factory.split("development"):
        noun = factory.CATEGORIES[category].nouns[0]
        texts = F.normalize(clip.encode_text([f"a photo of a {s} {noun}" for s in ("flawless", "damaged")]), dim=-1)
        for variant in range(variants):
            data = factory.test_set(category, variant)
            seen, normal = (clip.encode_image(clip.preprocess(x)) for x in (data.images, data.references))
            cosines = F.normalize(seen.pooled, dim=-1) @ texts.T
            zero.append(roc_auc_score(data.labels, (cosines[:, 1] - cosines[:, 0]).float().cpu().numpy()))
            a, bank = (F.normalize(t.patches[0], dim=-1) for t in (seen, normal))
            distance = 1 - (a @ bank.flatten(0, 1).T).amax(2)
            few.append(roc_auc_score(data.labels, distance.amax(1).float().cpu().numpy()))
    return {"zero_shot": sum(zero) / len(zero), "four_shot": sum(few) / len(few)}
