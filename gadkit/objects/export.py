"""A small SAM as two ONNX graphs, as it is used: the encoder once an image, the decoder once a click.

Coordinates and sides are those of the network's square, `sam.image_size` pixels wide.  Needs the extra
`gadkit[export]`.

Book: objects/sam
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gadkit.nn.graphs import traced
from gadkit.objects.architecture import decode
from gadkit.objects.promptable import SAM


def encoder_to_onnx(sam: SAM) -> bytes:
    """The graph from `pixels`, (b, 3, side, side) from 0 to 255, to `embedding`, (b, c, g, g)."""
    side = sam.image_size
    pixels = torch.linspace(0, 255, 2 * 3 * side * side).view(2, 3, side, side)
    about = {"input": {"name": "pixels", "side": side, "resize": "Pillow's bilinear, on bytes; the longer side"}}
    return traced(Encode(sam), {"pixels": pixels}, ("embedding",), {"pixels": 0}, about)


def decoder_to_onnx(sam: SAM) -> bytes:
    """The graph from an `embedding`, (1, c, g, g), and n clicks to three masks.

    `points` are (1, n, 2), x before y, and `labels` (1, n) floats, 1 on the object and 0 off it.  `logits`, (1, 3, l,
    l), are above 0 on the object, and `iou`, (1, 3), is the overlap that is expected of each.
    """
    side, grid = sam.image_size, sam.sam.prompt_encoder.image_embedding_size
    embedding = torch.zeros(1, sam.sam.prompt_encoder.embed_dim, *grid)
    points, labels = torch.tensor([[[0.3 * side, 0.4 * side], [0.0, 1.0]]]), torch.tensor([[1.0, 0.0]])
    given = {"embedding": embedding, "points": points, "labels": labels}
    return traced(Decode(sam), given, ("logits", "iou"), {"points": 1, "labels": 1}, {"side": side})


class Encode(nn.Module):
    """The image encoder, after the scaling of pixels."""

    def __init__(self, sam: SAM) -> None:
        super().__init__()
        self.sam = sam.sam

    def forward(self, pixels: Float[Tensor, "b 3 s s"]) -> Float[Tensor, "b c g g"]:
        """The embedding."""
        return self.sam.image_encoder((pixels - self.sam.pixel_mean) / self.sam.pixel_std)


class Decode(nn.Module):
    """Prompt encoder and mask decoder, for clicks alone."""

    def __init__(self, sam: SAM) -> None:
        super().__init__()
        self.sam, self.side = sam.sam, sam.image_size

    def forward(
        self, embedding: Float[Tensor, "1 c g g"], points: Float[Tensor, "1 n 2"], labels: Float[Tensor, "1 n"]
    ) -> tuple[Float[Tensor, "1 3 l l"], Float[Tensor, "1 3"]]:
        """Logits and expected overlaps."""
        prompts = self.sam.prompt_encoder
        tokens = prompts.pe_layer.forward_with_coords(points + 0.5, (self.side, self.side))  # (1, n, c)
        off, on = (prompts.point_embeddings[i].weight for i in (0, 1))
        tokens = tokens + off + labels[..., None] * (on - off)
        sparse = torch.cat([tokens, prompts.not_a_point_embed.weight[None]], 1)  # SAM adds one where there is no box
        dense = prompts.no_mask_embed.weight[:, :, None, None].expand_as(embedding)
        masks, iou = decode(self.sam, embedding, sparse, dense)
        return masks[:, 1:], iou[:, 1:]
