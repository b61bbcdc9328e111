"""The small BLIP-2: a frozen image tower, a Q-Former, and a frozen small language model, in transformers' classes.

Source: Li et al., BLIP-2, ICML 2023, section 3.1.
Book: multimodal/blip
"""

from dataclasses import dataclass

from torch import Tensor, nn

from gadkit.backbones.tiny import EYES
from gadkit.checks import one_of
from gadkit.multimodal.towers import STEMS, Convolutions, Front, clip_tower
from gadkit.multimodal.vocabulary import PAD

FROZEN = "generation.vision_model.embeddings."  # in the file of `clip`


@dataclass(frozen=True)
class Architecture:
    """Of a small BLIP-2; the shipped weights carry theirs in their header."""

    image_size: int = 224
    patch_size: int = 16
    image_width: int = 160
    frozen: int = 3  # blocks of the CLIP's tower: all but the last, as the authors take theirs
    blocks: int = 0  # layers of a tower that learns, where there is no CLIP
    queries: int = 12
    width: int = 128
    layers: int = 4
    every: int = 2  # layers of which one attends to the image
    head_width: int = 32
    context: int = 40  # tokens of a text in the Q-Former
    embed: int = 64  # of the vectors that images and texts are compared by
    language_width: int = 128
    language_layers: int = 3
    language_context: int = 96  # tokens, queries included
    mean: float = 0.5
    std: float = 0.5
    stem: str = EYES[0]


class Network(nn.Module):
    """`generation` and `matching`: two models of transformers that share image tower, queries and Q-Former.

    `words` are the tokens of the Q-Former, `pairs` those of the language model, of which the last means an image.
    Raises ValueError for an unknown stem.
    """

    def __init__(self, made: Architecture, words: int, pairs: int) -> None:
        super().__init__()
        from transformers import Blip2ForConditionalGeneration, Blip2ForImageTextRetrieval

        one_of("stem", made.stem, STEMS)
        config = _config(made, words, pairs)
        self.generation = Blip2ForConditionalGeneration(config)
        self.matching = Blip2ForImageTextRetrieval(config)
        vision = self.generation.vision_model
        if made.stem in EYES:
            vision.embeddings = Front(clip_tower(made.stem), made.frozen)
        elif made.stem == "convolutions":
            vision.embeddings.patch_embedding = Convolutions(made.image_width)
        nn.init.normal_(self.generation.query_tokens, std=0.02)  # transformers' are 0: alike for ever
        self.share()

    def share(self) -> None:
        """Tie what the two models have in common, and the language model's words."""
        self.matching.vision_model, self.matching.qformer = self.generation.vision_model, self.generation.qformer
        self.matching.query_tokens = self.generation.query_tokens
        self.generation.language_model.tie_weights()

    def held(self) -> dict[str, Tensor]:
        """Every weight once, by its first name, without what lies in the file of `clip`."""
        front = isinstance(self.generation.vision_model.embeddings, Front)
        return {n: p for n, p in self.named_parameters() if not (front and n.startswith(FROZEN))}


def _config(made: Architecture, words: int, pairs: int) -> "transformers.Blip2Config":
    from transformers import Blip2Config, OPTConfig

    def shape(width: int, layers: int, head_width: int) -> dict[str, int | float]:
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // head_width,
            "initializer_range": 0.02,
        }

    vision = shape(made.image_width, made.blocks, made.head_width)
    vision |= {"image_size": made.image_size, "patch_size": made.patch_size}
    reading = shape(made.width, made.layers, made.head_width) | {
        "vocab_size": words,
        "max_position_embeddings": made.context,
        "cross_attention_frequency": made.every,
        "encoder_hidden_size": made.image_width,
        "use_qformer_text_input": True,
        "pad_token_id": PAD,
    }
    writing = OPTConfig(
        vocab_size=pairs,
        hidden_size=made.language_width,
        word_embed_proj_dim=made.language_width,
        ffn_dim=4 * made.language_width,
        num_hidden_layers=made.language_layers,
        num_attention_heads=made.language_width // made.head_width,
        max_position_embeddings=made.language_context,
        dropout=0.0,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=1,
    )
    return Blip2Config(
        vision_config=vision,
        qformer_config=reading,
        text_config=writing.to_dict(),
        num_query_tokens=made.queries,
        image_token_index=pairs - 1,
        image_text_hidden_size=made.embed,
    )
