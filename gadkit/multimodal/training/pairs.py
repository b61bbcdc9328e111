"""Training a small CLIP on pairs of photographs and captions, by the softmax loss or by the sigmoid loss.

Pairs, towers and steps are the same for both; only the loss, and where its scale and bias begin, differ.
The image side has the frozen eyes by default, whose maps of all photographs are made once.

Source: Radford et al., ICML 2021, figure 3; Zhai et al., ICCV 2023, algorithm 1.
Book: multimodal/contrastive
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from gadkit import runtime
from gadkit.backbones.openclip import OpenCLIP
from gadkit.backbones.tiny import REAL, TinyConfig, build_tiny_clip, save, tokenizer
from gadkit.checks import one_of
from gadkit.losses.contrastive import clip_loss, siglip_loss
from gadkit.multimodal.captioned import Captioned, captioned
from gadkit.train import Plan, batch_rows, fit

LOSSES = {"softmax": (math.log(1 / 0.07), 0.0), "sigmoid": (math.log(10), -10.0)}  # where log scale and bias begin
MOST = math.log(100)  # CLIP's bound on the scale
PLAN = Plan(steps=3000, lr=1e-3, warmup=150, weight_decay=0.2, batch=256, average=0.995, save_every=500)
EYED = replace(REAL, image_size=192)  # twice the side of a photograph


@dataclass(frozen=True)
class Recipe:
    """What is learnt from what; the defaults are those of the shipped models."""

    loss: str = "softmax"  # one of `LOSSES`
    counts: Mapping[str, int] = field(default_factory=lambda: {"seen": 9216, "randomised": 3072})
    pairs: int = 2400  # scenes of two parts, of which about two fifths are of use
    watched: int = 256  # photographs of the development split, to follow the training by
    model: TinyConfig = EYED
    plan: Plan = PLAN


@dataclass(frozen=True)
class Encoded:
    """What a training holds on its device: prepared images or the eyes' maps, and token ids of every caption."""

    maps: Float[Tensor, "n c _ _"]
    tokens: Int[Tensor, "n k t"]

    def __len__(self) -> int:
        return len(self.maps)


class Pairs(nn.Module):
    """Two towers and a contrastive loss: `loss` is "softmax" or "sigmoid"."""

    def __init__(self, clip: nn.Module, loss: str) -> None:
        super().__init__()
        scale, bias = LOSSES[one_of("loss", loss, LOSSES)]
        self.clip, self.loss = clip, loss
        with torch.no_grad():
            clip.logit_scale.fill_(scale), clip.logit_bias.fill_(bias)
        clip.logit_bias.requires_grad_(loss == "sigmoid")  # a softmax does not feel it

    def encode_maps(self, maps: Float[Tensor, "b c _ _"]) -> Float[Tensor, "b d"]:
        """Image vectors, not normalised, from what `prepare` made of images."""
        visual = self.clip.visual
        stem = visual.conv1
        x = (stem.refine(maps.float()) if hasattr(stem, "eyes") else stem(maps.float())).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.to(x.dtype).expand(len(x), 1, -1), x], 1)  # (b, 1 + n, width)
        x = visual.transformer(visual.ln_pre(x + visual.positional_embedding.to(x.dtype)))
        return visual.ln_post(x[:, 0]) @ visual.proj.to(x.dtype)

    def encode_tokens(self, tokens: Int[Tensor, "b t"]) -> Float[Tensor, "b d"]:
        """Text vectors, not normalised, of token ids that are all cut to one length."""
        clip, length = self.clip, tokens.shape[1]
        x = clip.token_embedding(tokens) + clip.positional_embedding[:length]
        x = clip.transformer(x, attn_mask=clip.attn_mask[:length, :length])
        ends = x[torch.arange(len(x), device=x.device), tokens.argmax(1)]  # the end token has the highest number
        return clip.ln_final(ends) @ clip.text_projection.to(x.dtype)

    def forward(self, maps: Float[Tensor, "b c _ _"], tokens: Int[Tensor, "b t"]) -> Float[Tensor, ""]:
        """The loss of a batch of pairs."""
        with runtime.autocast(maps.device):
            images, texts = self.encode_maps(maps), self.encode_tokens(tokens)
        return self.compare(images, texts)

    def compare(self, images: Float[Tensor, "b d"], texts: Float[Tensor, "b d"]) -> Float[Tensor, ""]:
        """The loss of image vectors and of the vectors of their texts."""
        scale = self.clip.logit_scale.clamp(max=MOST).exp()
        if self.loss == "softmax":
            return clip_loss(images.float(), texts.float(), scale)
        return siglip_loss(images.float(), texts.float(), scale, self.clip.logit_bias)


@torch.no_grad()
def prepare(clip: nn.Module, data: Captioned, chunk: int = 128) -> Encoded:
    """Photographs through the frozen eyes, or only normalised where there are none, and captions as token ids.

    All of it comes to the model's device, floats in half precision.
    """
    tokenize = tokenizer()
    ready, where, stem = OpenCLIP(clip, tokenize), clip.logit_scale.device, clip.visual.conv1
    eyes, maps = hasattr(stem, "eyes"), []
    for images in runtime.progress(data.images.split(chunk), "encoding"):
        x = ready.preprocess(images.to(where))
        maps.append((stem.join(x) if eyes else x).half())  # once, so in full precision
    texts = [text for some in data.captions for text in some]
    tokens = tokenize(texts)
    length = int((tokens != 0).sum(1).max())
    return Encoded(torch.cat(maps), tokens[:, :length].unflatten(0, (len(data), -1)).to(where))


def standardise(clip: nn.Module, data: Captioned, count: int = 128) -> None:
    """Give the stem the statistics of some photographs, evenly taken, where it has eyes."""
    if hasattr(clip.visual.conv1, "eyes"):
        some = data.images[:: max(1, len(data) // count)].to(clip.logit_scale.device)
        clip.visual.conv1.standardise(OpenCLIP(clip, tokenizer()).preprocess(some))


def objective(method: Pairs, data: Encoded, batch: int, seed: int) -> Callable[[int], Float[Tensor, ""]]:
    """The loss of a step: a batch of photographs, and one of the captions of each."""
    where, wordings = data.maps.device, data.tokens.shape[1]
    batch = min(batch, len(data))

    def loss(step: int) -> Float[Tensor, ""]:
        torch.manual_seed(seed * 1_000_003 + step)  # of the stem's dropout
        rows = batch_rows(len(data), batch, step, seed)
        which = torch.randint(wordings, rows.shape, generator=torch.Generator().manual_seed(seed * 1_000_003 + step))
        rows, which = rows.to(where), which.to(where)
        return method(data.maps[rows], data.tokens[rows, which])

    return loss


@torch.no_grad()
def glance(method: Pairs, data: Encoded) -> dict[str, float]:
    """Scale, bias, and the share of images and of captions that find their partner first, to follow a training by."""
    images, texts = [], []
    for rows in torch.arange(len(data), device=data.maps.device).split(256):
        images.append(F.normalize(method.encode_maps(data.maps[rows]).float(), dim=1))
        texts.append(F.normalize(method.encode_tokens(data.tokens[rows, 0]).float(), dim=1))
    cosines = torch.cat(images) @ torch.cat(texts).T
    own = torch.arange(len(cosines), device=cosines.device)
    return {
        "scale": float(method.clip.logit_scale.clamp(max=MOST).exp()),
        "bias": float(method.clip.logit_bias),
        "image_to_text": float((cosines.argmax(1) == own).float().mean()),
        "text_to_image": float((cosines.argmax(0) == own).float().mean()),
    }


def learn(
    recipe: Recipe, shown: Captioned, watched: Captioned, out: Path | None = None, seed: int = 0, what: str = "pairs"
) -> tuple[Pairs, dict[str, float]]:
    """Train two towers on pairs; the running average of their weights, and what `glance` measures of it."""
    where = runtime.device()
    runtime.seed_everything(seed)
    clip = build_tiny_clip(recipe.model).to(where)
    standardise(clip, shown)
    method = Pairs(clip, recipe.loss).train()
    data, other = (prepare(clip, some) for some in (shown, watched))
    loss = objective(method, data, recipe.plan.batch, seed)
    average, seconds = fit(method, loss, recipe.plan, out, lambda m, _: glance(m, other), 250, what=what)
    return average, glance(average, other) | {"seconds": round(seconds, 1)}


def train(name: str, recipe: Recipe, out: Path, seed: int = 0, steps: int | None = None) -> Path:
    """Train, or go on, and write `out/NAME.safetensors`, a tiny CLIP's weights; returns the path."""
    if steps is not None:
        recipe = replace(recipe, plan=replace(recipe.plan, steps=steps))
    shown = captioned(recipe.counts, recipe.pairs, seed)
    watched = captioned({"development": recipe.watched}, 0, seed, 1)
    average, _ = learn(recipe, shown, watched, Path(out), seed, f"{name}, seed {seed}, {len(shown)} photographs")
    path = Path(out) / f"{name}.safetensors"
    save(average.clip, recipe.model, path)
    return path
