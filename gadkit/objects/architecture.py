"""SAM's own modules, small: image encoder, prompt encoder and mask decoder of segment_anything at 128 pixels.

Source: Kirillov et al., Segment Anything, ICCV 2023, and its package `segment_anything`.
Book: objects/sam
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.tiny import Eyes

PIXEL = 127.5  # mean and deviation by which pixels are scaled: to [-1, 1]


@dataclass(frozen=True)
class SamConfig:
    """The architecture; the weights carry theirs in their header.  `eyes` names frozen features beside the patches."""

    size: int = 128
    patch: int = 8
    width: int = 128
    depth: int = 4
    heads: int = 4
    dim: int = 64
    window: int = 8
    everywhere: tuple[int, ...] = (1, 3)  # blocks that attend to the whole image, not to a window of it
    eyes: str = ""


def build_sam(config: SamConfig = SamConfig()) -> Sam:
    """An untrained SAM.  Raises ValueError for a side that does not hold whole patches."""
    if config.size % config.patch:
        raise ValueError(f"size: expected whole patches of {config.patch} pixels, got {config.size}")
    grid, dim = config.size // config.patch, config.dim
    encoder = ImageEncoderViT(
        img_size=config.size,
        patch_size=config.patch,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        out_chans=dim,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=config.window,
        global_attn_indexes=config.everywhere,
    )
    for table in [encoder.pos_embed, *(p for name, p in encoder.named_parameters() if "rel_pos" in name)]:
        nn.init.trunc_normal_(table, std=0.02)
    if config.eyes:
        encoder.patch_embed = Beside(encoder.patch_embed, config.eyes, config.width, config.patch)
    return Sam(
        image_encoder=encoder,
        prompt_encoder=PromptEncoder(dim, (grid, grid), (config.size, config.size), mask_in_chans=8),
        mask_decoder=MaskDecoder(
            transformer_dim=dim,
            transformer=TwoWayTransformer(depth=2, embedding_dim=dim, mlp_dim=4 * dim, num_heads=4),
            iou_head_hidden_dim=dim,
        ),
        pixel_mean=[PIXEL] * 3,
        pixel_std=[PIXEL] * 3,
    )


class Beside(nn.Module):
    """Patch embedding plus a projection of frozen features: EfficientNet-Lite0's maps of strides 8, 16 and 32."""

    def __init__(self, patches: nn.Module, eyes: str, width: int, patch: int) -> None:
        super().__init__()
        self.patches, self.eyes, self.patch = patches, Eyes(eyes), patch
        channels = 4 * Eyes.channels[0] + Eyes.channels[1] + Eyes.channels[2]
        self.norm, self.project = nn.LayerNorm(channels), nn.Linear(channels, width)

    def forward(self, x: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b g g w"]:
        """The features are those of the image at twice its size, whose stride 16 is the grid of the patches."""
        own = self.patches(x)  # (b, g, g, w)
        grid = own.shape[1:3]
        fine, middle, coarse = self.eyes(F.interpolate(x, scale_factor=16 / self.patch, mode="bilinear"))
        maps = [F.pixel_unshuffle(fine, 2), middle, F.interpolate(coarse, tuple(grid), mode="bilinear")]
        return own + self.project(self.norm(torch.cat(maps, 1).permute(0, 2, 3, 1)))


def decode(
    sam: Sam,
    embeddings: Float[Tensor, "b c g g"],
    sparse: Float[Tensor, "n t c"],
    dense: Float[Tensor, "n c g g"],
) -> tuple[Float[Tensor, "n 4 l l"], Float[Tensor, "n 4"]]:
    """The mask decoder for n = b x p prompts, p in a row for each image: logits of its four masks and their IoU.

    The package's own decoder takes one image at a time; this is the same computation.
    """
    decoder, each = sam.mask_decoder, len(sparse) // len(embeddings)
    own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
    tokens = torch.cat([own.expand(len(sparse), -1, -1), sparse], 1)
    source = embeddings.repeat_interleave(each, 0) + dense
    places = sam.prompt_encoder.get_dense_pe().expand(len(sparse), -1, -1, -1)
    answers, source_out = decoder.transformer(source, places, tokens)
    picture = decoder.output_upscaling(source_out.mT.reshape(source.shape))  # (n, c / 8, l, l)
    kernels = torch.stack([mlp(answers[:, 1 + i]) for i, mlp in enumerate(decoder.output_hypernetworks_mlps)], 1)
    masks = (kernels @ picture.flatten(2)).unflatten(2, picture.shape[2:])
    return masks, decoder.iou_prediction_head(answers[:, 0])


def save(sam: Sam, config: SamConfig, path: Path, facts: Mapping[str, Any]) -> None:
    """Write the weights, but for frozen eyes, in half precision, with the architecture in the header."""
    state = {k: v for k, v in sam.state_dict().items() if ".eyes." not in k}
    weights.write(state, path, {"config": json.dumps(asdict(config)), "facts": json.dumps(dict(facts))})


def read(path: Path) -> Sam:
    """The SAM that `save` wrote.  Raises FileNotFoundError, and ValueError for a damaged file or another model's."""
    state = weights.read(path)
    try:
        held = json.loads(weights.header(path)["config"])
        config = SamConfig(**held | {"everywhere": tuple(held["everywhere"])})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"weights: expected those of a small SAM, got {path.name} without its architecture") from error
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        sam = build_sam(config)
    weights.fill(sam, state, "a small SAM", spared=("image_encoder.patch_embed.eyes.",))
    return sam.eval()
