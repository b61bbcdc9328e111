"""Image towers of the small BLIP and BLIP-2: they begin as the book's own CLIP, and its first blocks stay frozen.

What is frozen gives the same tokens whenever it meets an image, so training encodes every image once.

Book: multimodal/blip
"""

import hashlib
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.openclip import embed
from gadkit.backbones.tiny import EYES, REAL, Stem, build_tiny_clip
from gadkit.checks import one_of, whole

CLIP = "clip"  # whose tower it is
STEMS = ("patches", "convolutions", *EYES)  # a published patch embedding, one that learns, the CLIP's on its eyes


class Front(nn.Module):
    """The stem and the first blocks of a tiny CLIP's image tower, in place of the embeddings of transformers' ViTs."""

    def __init__(self, visual: nn.Module, blocks: int) -> None:
        super().__init__()
        whole("blocks", blocks, 0, len(visual.transformer.resblocks))
        visual.transformer.resblocks = visual.transformer.resblocks[:blocks]
        visual.proj = visual.ln_post = None  # what comes after the blocks is not needed
        self.visual = visual.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> "Front":
        """Training leaves it as it is."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Float[Tensor, "b t w"]:
        """Tokens of prepared images (b, 3, s, s); tokens that were computed earlier (b, t, w) pass."""
        if pixel_values.ndim == 3:
            return pixel_values.float()
        x = self.visual.ln_pre(embed(self.visual, pixel_values))  # (b, 1 + n, w)
        for block in self.visual.transformer.resblocks:
            x = block(x)
        return x.float()


class Convolutions(Stem):
    """The convolutional stem; transformers asks a patch embedding for the type of its weight."""

    @property
    def weight(self) -> Tensor:
        """A weight of it."""
        return self[0].weight


def clip_tower(stem: str) -> nn.Module:
    """The image tower of the shipped `clip`, or with `EYES[1]` the same untrained on random eyes, from seed 0."""
    one_of("stem", stem, EYES)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_tiny_clip(replace(REAL, stem=stem))
    if stem == EYES[0]:
        held = weights.read(weights.ASSETS / f"{CLIP}.safetensors")
        weights.fill(model, held, "a tiny CLIP", ("attn_mask", "visual.conv1.eyes."))
    return model.visual


def clip_digest() -> str:
    """The checksum of the shipped `clip`, which weights that stand on it keep in their header."""
    return hashlib.sha256(weights.verified(weights.ASSETS / f"{CLIP}.safetensors").read_bytes()).hexdigest()


def check_digest(held: str, what: str) -> None:
    """Raises ValueError if weights were made on another `clip` than the one that is here."""
    if held != (here := clip_digest()):
        raise ValueError(
            f"weights: expected those of {what} that stand on the clip here ({here[:8]}), got some that stand on "
            f"another ({held[:8]}): `gadkit train` makes them anew"
        )


def block_weights(block: nn.Module) -> dict[str, Tensor]:
    """The weights of an open_clip block by the names of a layer of transformers' BLIP."""
    names = {
        "ln_1.": "layer_norm1.",
        "ln_2.": "layer_norm2.",
        "attn.in_proj_": "self_attn.qkv.",
        "attn.out_proj.": "self_attn.projection.",
        "mlp.c_fc.": "mlp.fc1.",
        "mlp.c_proj.": "mlp.fc2.",
    }
    found = {}
    for name, value in block.state_dict().items():
        old = next(old for old in names if name.startswith(old))
        found[names[old] + name.removeprefix(old)] = value
    return found
