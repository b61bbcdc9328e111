"""The image sides of models that answer with something else than a vector: their patches, and one vector an image.

Which vector is said with each; where a model was taught none of whole images, it is the mean of the patches.

Book: multimodal/embeddings
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import zoo
from gadkit.protocols import Tokens

See = Callable[[Tensor], tuple[Float[Tensor, "b d"], Float[Tensor, "b n e"]]]


class Side:
    """A backbone of one layer: `prepare` makes of raw images what `see` turns into vectors and patches."""

    depth, patch_layers, device = 1, (-1,), torch.device("cpu")

    def __init__(
        self,
        image_size: int,
        prepare: Callable[[UInt8[Tensor, "b 3 h w"]], Tensor],
        see: See,
        encode_text: Callable[[Sequence[str]], Float[Tensor, "n d"]] | None = None,
    ) -> None:
        self.image_size, self.preprocess, self.see, self.encode_text = image_size, prepare, see, encode_text
        blank = torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8)
        vectors, patches = see(prepare(blank))
        self.grid, self.embed_dim = (round(patches.shape[1] ** 0.5),) * 2, vectors.shape[1]
        self.patch_size = image_size // self.grid[0]
        self.strides = (self.patch_size,)

    @torch.no_grad()
    def encode_image(self, images: Tensor, layers: Sequence[int] = (-1,)) -> Tokens:
        """Vectors of prepared images, and the patches once for each layer that is asked for."""
        vectors, patches = self.see(images)
        return Tokens(vectors.float(), (patches.float(),) * len(tuple(layers)), self.grid)


def _blip() -> Side:
    """BLIP's vector is the one that its contrast compares with a text's."""
    blip = zoo.load("blip", "tiny", "cpu")
    model = blip.model("matching")

    def see(images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = model.vision_model(pixel_values=images).last_hidden_state
        return F.normalize(model.vision_proj(tokens[:, 0]), dim=1), tokens[:, 1:]

    return Side(blip.image_size, blip.prepare, see, blip.encode_text)


def _blip2() -> Side:
    """BLIP-2's is the mean of its queries, and its patches are those that the queries look at."""
    blip = zoo.load("blip2", "tiny", "cpu")
    model = blip.model("generation")

    def see(images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = model.vision_model(pixel_values=images).last_hidden_state
        queries = model.query_tokens.expand(len(tokens), -1, -1)
        found = model.qformer(query_embeds=queries, encoder_hidden_states=tokens).last_hidden_state
        return found.mean(1), tokens[:, 1:]

    return Side(blip.image_size, blip.prepare, see)


def _florence2() -> Side:
    """Florence-2's is the first of the tokens that its language model reads, the mean of the image."""
    florence = zoo.load("florence2", "tiny", "cpu")
    processor = florence.processor.image_processor

    def see(images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = florence.model.model.get_image_features(images).pooler_output  # (b, 1 + n, d)
        return tokens[:, 0], tokens[:, 1:]

    return Side(florence.image_size, lambda x: processor(list(x), return_tensors="pt")["pixel_values"], see)


def _owl_vit() -> Side:
    """OWL-ViT gives every patch a box and a name, and the image as a whole nothing."""
    owl = zoo.load("owl-vit", "tiny", "cpu")

    def see(images: Tensor) -> tuple[Tensor, Tensor]:
        patches = owl.model.image_embedder(images)[0].flatten(1, 2)  # (b, n, e)
        return patches.mean(1), patches

    return Side(owl.image_size, owl.prepare, see)


def _sam() -> Side:
    """SAM encodes an image for prompts alone; it resizes it itself."""
    sam = zoo.load("sam", "tiny", "cpu")

    def see(images: Tensor) -> tuple[Tensor, Tensor]:
        maps = torch.cat([sam.set_image(image).embedding for image in images])
        patches = maps.flatten(2).transpose(1, 2)
        return patches.mean(1), patches

    return Side(sam.image_size, lambda x: x, see)


SIDES = {"blip": _blip, "blip2": _blip2, "florence2": _florence2, "owl-vit": _owl_vit, "sam": _sam}
