"""The small BLIP: transformers' three classes over one set of weights, and the four losses that it learns by.

As in the paper, the text encoder and the text decoder share all but their self-attention: word embeddings,
cross-attention and feed-forward layers.  The three classes share both, and the image tower.

Source: Li et al., BLIP: Bootstrapping Language-Image Pre-training, ICML 2022, section 3.
Book: multimodal/blip
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from gadkit.backbones.tiny import EYES
from gadkit.checks import one_of
from gadkit.multimodal.matching import contrast, hard_negatives, match_loss
from gadkit.multimodal.towers import STEMS, Convolutions, Front, block_weights, clip_tower
from gadkit.multimodal.vocabulary import IGNORED, PAD, SPECIAL

FROZEN = "matching.vision_model.embeddings."  # in the file of `clip`, where its blocks are used


@dataclass(frozen=True)
class Architecture:
    """Of a small BLIP; the shipped weights carry theirs in their header."""

    image_size: int = 224
    patch_size: int = 16
    width: int = 160  # of image and text tokens: an answer attends to a question as a caption to an image
    frozen: int = 2  # blocks of the CLIP's tower that stay as they are, with the stem
    blocks: int = 2  # and those after them, which learn on
    head_width: int = 32
    text_layers: int = 3
    context: int = 40  # tokens
    embed: int = 64  # of the vectors that images and texts are compared by
    dropout: float = 0.1
    mean: float = 0.5
    std: float = 0.5
    stem: str = EYES[0]


SCRATCH = Architecture(96, 8, frozen=0, blocks=4, mean=0.45, std=0.27, stem="convolutions")


@dataclass(frozen=True)
class Batch:
    """b images with a true and a false caption, a question and its answer each; token ids, padded with 0.

    `true[i, j]` says whether caption j is true of image i.
    """

    images: Float[Tensor, "b ..."]
    captions: Int[Tensor, "b c"]
    false: Int[Tensor, "b f"]
    questions: Int[Tensor, "b q"]
    answers: Int[Tensor, "b a"]
    true: Bool[Tensor, "b b"]


class Network(nn.Module):
    """`captioning`, `answering` and `matching`: three models of transformers that share their parts.

    `words` is the number of tokens.  Raises ValueError for an unknown stem.
    """

    def __init__(self, made: Architecture, words: int) -> None:
        super().__init__()
        from transformers import BlipForConditionalGeneration, BlipForImageTextRetrieval, BlipForQuestionAnswering

        one_of("stem", made.stem, STEMS)
        config = _config(made, words)
        self.matching = BlipForImageTextRetrieval(config)
        self.captioning = BlipForConditionalGeneration(config)
        self.answering = BlipForQuestionAnswering(config)
        self.temperature = nn.Parameter(torch.tensor(math.log(0.07)))
        vision = self.matching.vision_model
        if made.stem in EYES:
            vision.embeddings = _begin(vision, made)
        elif made.stem == "convolutions":
            vision.embeddings.patch_embedding = Convolutions(made.width)
        self.share()

    def share(self) -> None:
        """Tie what the three models have in common."""
        first, writer, reader = self.matching, self.captioning, self.answering
        reader.vision_model = writer.vision_model = first.vision_model
        reader.text_encoder, reader.text_decoder = first.text_encoder, writer.text_decoder
        decoder, encoder = writer.text_decoder, first.text_encoder
        decoder.bert.embeddings = encoder.embeddings
        for mine, theirs in zip(decoder.bert.encoder.layer, encoder.encoder.layer, strict=True):
            mine.crossattention, mine.intermediate, mine.output = (
                theirs.crossattention,
                theirs.intermediate,
                theirs.output,
            )
        head = decoder.cls.predictions
        head.decoder.weight, head.decoder.bias = encoder.embeddings.word_embeddings.weight, head.bias

    def held(self) -> dict[str, Tensor]:
        """Every weight once, by its first name, without what lies in the file of `clip`."""
        front = isinstance(self.matching.vision_model.embeddings, Front)
        return {n: p for n, p in self.named_parameters() if not (front and n.startswith(FROZEN))}

    def forward(self, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """The four losses of a batch: contrast, matching, captions and answers."""
        seen = self.matching.vision_model(pixel_values=batch.images).last_hidden_state  # (b, t, w)
        words = self.encode(batch.captions)[:, 0]  # (b, w)
        cosines = self.project(seen[:, 0], words)
        logits = cosines / self.temperature.exp().clamp(min=0.01)
        texts, images = hard_negatives(logits, batch.true)
        pairs = _stacked([batch.captions, batch.captions[texts], batch.captions, batch.false, batch.questions])
        shown = torch.cat([seen, seen, seen[images], seen, seen])
        read = self.encode(pairs, shown)  # (5 b, l, w)
        b = len(seen)
        rows = torch.arange(b, device=seen.device)
        false = torch.zeros_like(rows, dtype=torch.bool)
        counts = torch.cat([~false, ~batch.true[rows, texts], ~batch.true[images, rows], ~false])
        matches = torch.cat([~false, false, false, false])
        return {
            "contrast": contrast(logits.float(), batch.true),
            "matching": match_loss(self.matching.itm_head(read[: 4 * b, 0]), matches, counts),
            "captions": self.write(batch.captions, seen),
            "answers": self.write(batch.answers, read[4 * b :], pairs[4 * b :] != PAD),
        }

    def encode(self, ids: Int[Tensor, "n l"], images: Float[Tensor, "n t w"] | None = None) -> Float[Tensor, "n l w"]:
        """Texts by the text encoder: alone, or in the light of an image each."""
        return self.matching.text_encoder(
            input_ids=ids, attention_mask=(ids != PAD).long(), encoder_hidden_states=images
        ).last_hidden_state

    def project(self, images: Float[Tensor, "b w"], texts: Float[Tensor, "t w"]) -> Float[Tensor, "b t"]:
        """Cosines of images and texts, by their first tokens."""
        left = F.normalize(self.matching.vision_proj(images).float(), dim=-1)
        return left @ F.normalize(self.matching.text_proj(texts).float(), dim=-1).T

    def write(
        self, ids: Int[Tensor, "n l"], states: Float[Tensor, "n t w"], mask: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, ""]:
        """The language modelling loss of texts whose decoder attends to an image, or to a question's states."""
        begun = ids.clone()
        begun[:, 0] = SPECIAL.index("[DEC]")
        return self.captioning.text_decoder(
            input_ids=begun,
            attention_mask=(ids != PAD).long(),
            encoder_hidden_states=states,
            encoder_attention_mask=None if mask is None else mask.long(),
            labels=begun.masked_fill(ids == PAD, IGNORED),
        ).loss


def _begin(vision: nn.Module, made: Architecture) -> Front:
    """The CLIP's beginning for the embeddings; the layers after it begin as its next blocks."""
    visual = clip_tower(made.stem)
    if made.stem == EYES[0]:
        after = visual.transformer.resblocks[made.frozen : made.frozen + made.blocks]
        for layer, block in zip(vision.encoder.layers, after, strict=True):
            layer.load_state_dict(block_weights(block))
        vision.post_layernorm.load_state_dict(visual.ln_post.state_dict())
    return Front(visual, made.frozen)


def _stacked(texts: Sequence[Int[Tensor, "b _"]]) -> Int[Tensor, "n l"]:
    """Texts under one another, padded to the longest."""
    longest = max(ids.shape[1] for ids in texts)
    return torch.cat([F.pad(ids, (0, longest - ids.shape[1]), value=PAD) for ids in texts])


def _config(made: Architecture, words: int) -> "transformers.BlipConfig":
    from transformers import BlipConfig

    shape = {
        "hidden_size": made.width,
        "intermediate_size": 4 * made.width,
        "num_attention_heads": made.width // made.head_width,
        "initializer_range": 0.02,
    }
    text = {
        "vocab_size": words,
        "num_hidden_layers": made.text_layers,
        "max_position_embeddings": made.context,
        "bos_token_id": SPECIAL.index("[DEC]"),
        "eos_token_id": SPECIAL.index("[SEP]"),
        "sep_token_id": SPECIAL.index("[SEP]"),
        "pad_token_id": PAD,
        "hidden_dropout_prob": made.dropout,
        "attention_probs_dropout_prob": made.dropout,
        "label_smoothing": 0.1,
    }
    vision = {"num_hidden_layers": made.blocks, "image_size": made.image_size, "patch_size": made.patch_size}
    return BlipConfig(
        text_config=shape | text,
        vision_config=shape | vision,
        image_text_hidden_size=made.embed,
        initializer_range=0.02,
    )
