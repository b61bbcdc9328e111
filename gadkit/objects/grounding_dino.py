"""Grounding DINO: image and text are read together, so that a box may depend on a whole phrase.

transformers' `GroundingDinoForObjectDetection`.  The texts go in as one caption, "a gear . a red button .", and every
box is compared with every token of it.

Source: Liu et al., Grounding DINO, ECCV 2024.
Book: objects/open-vocabulary
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.tiny import EYES, Eyes
from gadkit.checks import check_texts, checked, one_of
from gadkit.objects.open_vocabulary import answer, asked, at_once, fitted, published
from gadkit.objects.protocols import Boxes
from gadkit.objects.vocabulary import PLACES, word_pieces

if TYPE_CHECKING:
    from transformers import GroundingDinoForObjectDetection, GroundingDinoProcessor

STEMS = ("swin", *EYES)
ELSEWHERE = ("model.backbone.conv_encoder.eyes.",)  # in the eyes' own file
ENDS = ("[CLS]", "[SEP]", ".", "?")  # the tokens that part phrases
THRESHOLD = 0.25  # that of the published model


@dataclass(frozen=True)
class DinoConfig:
    """The architecture of a small Grounding DINO; the shipped weights carry theirs in their header."""

    image_size: int = 160
    width: int = 64
    queries: int = 30
    layers: int = 2  # of the encoder and of the decoder
    text_width: int = 96
    text_layers: int = 2
    context: int = 64  # tokens of a caption
    stem: str = EYES[0]  # one of `STEMS`; "swin" is the published kind, from scratch
    threshold: float = THRESHOLD


class _EyesEncoder(nn.Module):
    """Frozen eyes in place of the convolutional encoder: maps of strides 8, 16 and 32, each with its mask."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.eyes = Eyes(name)

    def forward(
        self, pixel_values: Float[Tensor, "b 3 h w"], pixel_mask: Tensor
    ) -> list[tuple[Float[Tensor, "b _ _ _"], Bool[Tensor, "b _ _"]]]:
        """The maps, and where on them the image is."""
        maps = self.eyes(pixel_values)
        return [(x, F.interpolate(pixel_mask[None].float(), size=x.shape[-2:])[0].bool()) for x in maps]


def build(config: DinoConfig, words: int) -> "GroundingDinoForObjectDetection":
    """An untrained model of this architecture for so many words, from torch's global generator.

    Raises ValueError for an unknown stem.
    """
    from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    one_of("stem", config.stem, STEMS)
    swin = SwinConfig(
        image_size=config.image_size,
        patch_size=4,
        embed_dim=32,
        depths=[1, 1, 2, 1],
        num_heads=[1, 2, 4, 8],
        window_size=config.image_size // 32,
        out_features=["stage2", "stage3", "stage4"],
    )
    text = BertConfig(
        vocab_size=words,
        hidden_size=config.text_width,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_width // 24,
        intermediate_size=4 * config.text_width,
        max_position_embeddings=config.context,
    )
    sizes = {f"{part}_{what}": value for part in ("encoder", "decoder") for what, value in _sizes(config).items()}
    model = GroundingDinoForObjectDetection(
        GroundingDinoConfig(
            backbone_config=swin,
            text_config=text,
            num_queries=config.queries,
            d_model=config.width,
            max_text_len=config.context,
            **sizes,
        )
    )
    if config.stem in EYES:
        model.model.backbone.conv_encoder = _EyesEncoder(config.stem)
        for level, channels in enumerate((*Eyes.channels, Eyes.channels[-1])):
            old = model.model.input_proj_vision[level][0]
            new = nn.Conv2d(channels, config.width, old.kernel_size, old.stride, old.padding)
            nn.init.xavier_uniform_(new.weight), nn.init.zeros_(new.bias)
            model.model.input_proj_vision[level][0] = new
    return model.eval()


def _sizes(config: DinoConfig) -> dict[str, int]:
    return {"layers": config.layers, "ffn_dim": 4 * config.width, "attention_heads": 4}


def processor_for(config: DinoConfig, pieces: Sequence[str]) -> "GroundingDinoProcessor":
    """The processor of a small Grounding DINO: images squashed to a square, texts by our word pieces."""
    from transformers import GroundingDinoImageProcessor, GroundingDinoProcessor

    side = {"height": config.image_size, "width": config.image_size}
    images = GroundingDinoImageProcessor(size=side, image_mean=[0.5] * 3, image_std=[0.5] * 3, do_pad=False)
    return GroundingDinoProcessor(images, word_pieces(pieces))


@dataclass(frozen=True)
class Caption:
    """Texts as one caption: its token ids, and from which token to which each text goes; `places` are the texts'."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    places: tuple[int, ...]


def caption_of(phrases: Sequence[Sequence[int]], places: Sequence[int]) -> Caption:
    """Phrases of token ids between [CLS] and [SEP], a full stop after each."""
    ids, spans = [PLACES["[CLS]"]], []
    for phrase in phrases:
        spans.append((len(ids), len(ids) + len(phrase)))
        ids += [*phrase, PLACES["."]]
    return Caption((*ids, PLACES["[SEP]"]), tuple(spans), tuple(places))


class GroundingDino:
    """A Grounding DINO and its processor: boxes for words and phrases.

    Raises ValueError for a tokenizer whose [CLS], [SEP], full stop and question mark are not the ids 101, 102, 1012 and
    1029: transformers parts phrases there, whatever the vocabulary, and would let them all attend to one another.
    """

    @checked
    def __init__(self, model: nn.Module, processor: "GroundingDinoProcessor", threshold: float = THRESHOLD) -> None:
        self.model, self.processor, self.threshold = model.eval(), processor, threshold
        self.context_length: int = model.config.max_text_len
        found = processor.tokenizer.convert_tokens_to_ids([*ENDS])
        if found != [PLACES[end] for end in ENDS]:
            raise ValueError(f"tokenizer: expected {', '.join(ENDS)} at the ids 101, 102, 1012 and 1029, got {found}")

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.model.device

    def captions(self, texts: Sequence[str]) -> list[Caption]:
        """The texts as captions that fit into the context, as few as it takes, in the texts' order.

        A text that is too long by itself is cut, and a warning says what is not read.  Raises ValueError for no text,
        one that is empty, and one of several phrases, with a full stop or a question mark inside.
        """
        tokenizer, room = self.processor.tokenizer, self.context_length - 1  # of the model, a full stop more
        found: list[Caption] = []
        held: list[list[int]] = []
        for place, text in enumerate(asked([text.rstrip(" .?") for text in check_texts(texts)])):
            ids = tokenizer(fitted(text, tokenizer, room), add_special_tokens=False)["input_ids"]
            if parted := {PLACES[end] for end in ENDS} & {*ids}:
                ends = " ".join(end for end in ENDS if PLACES[end] in parted)
                raise ValueError(f"texts: expected one phrase each, got {text!r}, which {ends} parts")
            if held and sum(len(phrase) + 1 for phrase in [*held, ids]) + 2 > self.context_length:
                found.append(caption_of(held, range(place - len(held), place)))
                held = []
            held.append(ids)
        return [*found, caption_of(held, range(len(texts) - len(held), len(texts)))]

    @torch.no_grad()
    def detect(
        self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str], threshold: float | None = None
    ) -> list[Boxes]:
        """The boxes of what the texts name, an answer an image; by default at the model's own threshold.

        A box's score for a text is that of the text's best token.  Texts that do not fit into one caption are asked for
        in several, each of which costs a run of the network.  No object found is an answer with no box.  Raises
        ValueError for no text, one that is empty or has several phrases, and for anything but uint8 RGB images.
        """
        threshold = self.threshold if threshold is None else threshold
        captions, found = self.captions(texts), []
        for some in at_once(images, max(images.shape[-2:])):
            prepared = self.prepare(some)
            scores, boxes = zip(*(self._ask(prepared, one, len(texts)) for one in captions), strict=True)
            found += answer(torch.cat(scores, 1), torch.cat(boxes, 1), tuple(images.shape[2:]), float(threshold))
        return found

    def prepare(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 y x"]:
        """Resize and normalise raw images, as the weights expect them.

        The library rounds otherwise on a GPU than on a CPU, so images are prepared on the CPU, and an answer does not
        depend on where the network is.
        """
        found = self.processor.image_processor(images=list(images.cpu()), return_tensors="pt")
        return found["pixel_values"].to(self.device)

    def _ask(
        self, prepared: Float[Tensor, "b 3 y x"], caption: Caption, texts: int
    ) -> tuple[Float[Tensor, "b n q"], Float[Tensor, "b n 4"]]:
        """Scores of boxes for all texts, 0 for those that are not in the caption."""
        ids, mask = batched([caption] * len(prepared), self.device)
        out = self.model(pixel_values=prepared, input_ids=ids, attention_mask=mask)
        tokens = out.logits.float().sigmoid()  # (b, n, context), 0 behind the caption's end
        scores = tokens.new_zeros(*tokens.shape[:2], texts)
        for place, (start, end) in zip(caption.places, caption.spans, strict=True):
            scores[..., place] = tokens[..., start:end].amax(2)
        return scores, out.pred_boxes.float()


def batched(captions: Sequence[Caption], where: torch.device) -> tuple[Int[Tensor, "b t"], Int[Tensor, "b t"]]:
    """The ids of captions, padded to the longest, and a mask that is 1 where there is a token."""
    rows = [torch.tensor(caption.ids, device=where) for caption in captions]
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PLACES["[PAD]"]), mask


def save(model: nn.Module, config: DinoConfig, pieces: Sequence[str], path: Path, facts: Mapping[str, object]) -> None:
    """Write half-precision weights; their architecture, their vocabulary and how they were made go into the header."""
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(ELSEWHERE)}
    head = {"grounding-dino": json.dumps(asdict(config)), "pieces": "\n".join(pieces), "facts": json.dumps(dict(facts))}
    weights.write(own, path, head)


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> GroundingDino:
    """The shipped Grounding DINO, the same untrained (option `random`), or a published one by transformers' own call.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged one or another model's, and
    `WeightsUnavailable` for published weights that are neither cached nor reachable.
    """
    if source.library == "transformers":
        from transformers import GroundingDinoForObjectDetection as Model
        from transformers import GroundingDinoProcessor

        model, processor = published(source, Model, GroundingDinoProcessor.from_pretrained, file, cache_dir)
        return GroundingDino(model.to(where), processor)
    untrained = source.options.get("random")
    path = file or weights.ASSETS / f"{'grounding-dino' if untrained else source.id}.safetensors"
    try:
        held = weights.header(path)
        config, pieces = DinoConfig(**json.loads(held["grounding-dino"])), held["pieces"].split("\n")
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"weights: expected a header with a Grounding DINO's config in {path.name}, got another"
        ) from error
    if untrained and config.stem in EYES:
        config = replace(config, stem=EYES[1])
    processor = processor_for(config, pieces)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(config, len(processor.tokenizer))
    if not untrained:
        weights.fill(model, weights.read(path), "a Grounding DINO", ELSEWHERE)
        model.tie_weights()  # the heads of the decoder's layers are one, and stand in the file by all their names
    return GroundingDino(model.to(where), processor, config.threshold)
