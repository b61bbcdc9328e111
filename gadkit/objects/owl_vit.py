"""OWL-ViT: a CLIP whose every image token may be an object, with a box and a vector that words are compared with.

transformers' `OwlViTForObjectDetection`.  The shipped one is made of the book's own CLIP: its towers, and with them its
stem in place of the patch embedding; the two heads learnt from the factory's scenes.

Source: Minderer et al., Simple Open-Vocabulary Object Detection with Vision Transformers, ECCV 2022.
Book: objects/open-vocabulary
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.tiny import EYES, RealStem, Stem
from gadkit.checks import check_images, checked, one_of
from gadkit.losses.detection import check_boxes
from gadkit.nn import private
from gadkit.objects.open_vocabulary import answer, asked, at_once, fitted, published, without_doubles
from gadkit.objects.protocols import Boxes
from gadkit.objects.vocabulary import byte_pairs

if TYPE_CHECKING:
    from transformers import OwlViTForObjectDetection, OwlViTProcessor

STEMS = ("patches", "convolutions", *EYES)
PATCHES = "owlvit.vision_model.embeddings.patch_embedding."
ELSEWHERE = (f"{PATCHES}eyes.",)  # in the eyes' own file
KEPT = 4096  # text vectors
STEEP, RARE = 15.0, -5.0  # what a cosine is multiplied by at first, and the logit of one of 0
THRESHOLD = 0.1  # that of the published model


@dataclass(frozen=True)
class OwlConfig:
    """The architecture of a small OWL-ViT; the shipped weights carry theirs in their header."""

    image_size: int = 224
    patch_size: int = 16
    width: int = 160
    layers: int = 4
    head_width: int = 32
    text_width: int = 128  # also that of the vectors that images and words are compared by
    text_layers: int = 3
    context: int = 48
    mean: float = 0.5
    std: float = 0.5
    stem: str = EYES[0]  # one of `STEMS`; "patches" is the published linear one
    threshold: float = THRESHOLD


class _Real(RealStem):
    """The hybrid CLIP's stem; transformers asks a patch embedding for the type of its weight."""

    @property
    def weight(self) -> Tensor:
        """A weight of it."""
        return self.project.weight

    def forward(self, x: Float[Tensor, "b channels h w"]) -> Float[Tensor, "b width r c"]:
        """Tokens of images, or of the joined maps that the frozen eyes made of them earlier."""
        return self.refine(self.join(x) if x.shape[1] == 3 else x)


class _Convolutions(Stem):
    """The convolutional stem, likewise."""

    @property
    def weight(self) -> Tensor:
        """A weight of it."""
        return self[0].weight


def build(config: OwlConfig = OwlConfig()) -> "OwlViTForObjectDetection":
    """An untrained model of this architecture, from torch's global generator.

    Raises ValueError for an unknown stem.
    """
    from transformers import OwlViTConfig, OwlViTForObjectDetection

    one_of("stem", config.stem, STEMS)
    words = byte_pairs()
    text = {
        "vocab_size": len(words),
        "hidden_size": config.text_width,
        "intermediate_size": 4 * config.text_width,
        "num_hidden_layers": config.text_layers,
        "num_attention_heads": config.text_width // 32,
        "max_position_embeddings": config.context,
        "hidden_act": "gelu",
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": config.width,
        "intermediate_size": 4 * config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.width // config.head_width,
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_act": "gelu",
    }
    model = OwlViTForObjectDetection(
        OwlViTConfig(text_config=text, vision_config=vision, projection_dim=config.text_width)
    )
    if config.stem != "patches":
        stem = _Real(config.width, config.stem) if config.stem in EYES else _Convolutions(config.width)
        model.owlvit.vision_model.embeddings.patch_embedding = stem
    _begin_heads(model)
    return model.eval()


@torch.no_grad()
def _begin_heads(model: torch.nn.Module) -> None:
    """Heads to begin with: every token's box lies where the token does, and nearly every token is nothing.

    transformers draws them so wide that every box would fill the image or have no area, and no gradient.
    """
    box, label = model.box_head, model.class_head
    for layer in (box.dense0, box.dense1, box.dense2, label.dense0, label.logit_shift, label.logit_scale):
        layer.reset_parameters()
    for layer in (box.dense2, label.logit_shift, label.logit_scale):
        layer.weight.zero_(), layer.bias.zero_()
    label.logit_scale.bias.fill_(STEEP - 1), label.logit_shift.bias.fill_(RARE / STEEP)  # (cos + shift) (1 + scale)


def processor_for(config: OwlConfig) -> "OwlViTProcessor":
    """The processor of a small OWL-ViT: images squashed to a square, texts by the CLIP's byte pairs."""
    from transformers import OwlViTImageProcessor, OwlViTProcessor

    side = {"height": config.image_size, "width": config.image_size}
    images = OwlViTImageProcessor(size=side, image_mean=[config.mean] * 3, image_std=[config.std] * 3)
    return OwlViTProcessor(images, byte_pairs())


class OwlViT:
    """An OWL-ViT and its processor: boxes for words, or for what looks like another image.

    Vectors of texts are kept, so that the same words cost nothing in the next image; they are computed again after a
    weight of the text tower changed.
    """

    @checked
    def __init__(self, model: nn.Module, processor: "OwlViTProcessor", threshold: float = THRESHOLD) -> None:
        self.model, self.processor, self.threshold = model.eval(), processor, threshold
        self.image_size: int = model.config.vision_config.image_size
        self.context_length: int = model.config.text_config.max_position_embeddings
        self._kept: dict[str, Tensor] = {}
        self._stamp: list[tuple[int, int | None]] = []

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.model.device

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of texts; those of earlier calls are not computed again.

        A text beyond the context is cut, and a warning says what is not read.  Raises ValueError for no text, or one
        that is empty.
        """
        wanted = asked(texts)
        stamp = [(p.data_ptr(), private.version(p)) for p in self.model.owlvit.text_model.parameters()]
        if stamp != self._stamp or any(count is None for _, count in stamp) or len(self._kept) > KEPT:
            self._kept, self._stamp = {}, stamp
        if new := [text for text in dict.fromkeys(wanted) if text not in self._kept]:
            self._kept |= dict(zip(new, self._encode(new), strict=True))
        return torch.stack([self._kept[text] for text in wanted])

    def forget(self) -> None:
        """Forget the vectors of texts that were kept."""
        self._kept = {}

    def _encode(self, texts: list[str]) -> Float[Tensor, "n d"]:
        tokenizer = self.processor.tokenizer
        read = [fitted(text, tokenizer, self.context_length) for text in texts]
        ids = [torch.tensor(row, device=self.device) for row in tokenizer(read)["input_ids"]]
        mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)
        padded = nn.utils.rnn.pad_sequence(ids, batch_first=True)  # with 0: the end token has to be the largest, once
        found = self.model.owlvit.get_text_features(padded, mask).pooler_output
        return F.normalize(found.float(), dim=-1)

    @torch.no_grad()
    def detect(
        self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str], threshold: float | None = None
    ) -> list[Boxes]:
        """The boxes of what the texts name, an answer an image; by default at the model's own threshold.

        Every image token answers with one box, for the text that fits it best.  No object found is an answer with no
        box.  Raises ValueError for no text, one that is empty, and for anything but a batch of uint8 RGB images.
        """
        words = self.encode_text(texts)
        return self._find(images, words, self.threshold if threshold is None else threshold)

    @torch.no_grad()
    def detect_like(
        self,
        images: UInt8[Tensor, "b 3 h w"],
        query: UInt8[Tensor, "3 rows columns"],
        box: Sequence[float | int] | None = None,
        threshold: float | None = None,
    ) -> list[Boxes]:
        """The boxes of what looks like the `query` image, which one object should fill; all labels are 0.

        `box` is where in the query image the object lies (left, top, right, bottom, in whole pixels); the rest is cut
        off.  The object's vector is that of the token whose box fills the query best, and stands in for a word.  Boxes
        that overlap a surer one by half are left out.  Raises ValueError as `detect` does, and for a box that is upside
        down or not inside the query image.
        """
        prepared = self.prepare(check_images(_cut(query, box)[None], "query"))
        feature_map = self.model.image_embedder(prepared)[0]  # (1, r, c, width)
        vector, _, _ = self.model.embed_image_query(feature_map.flatten(1, 2), feature_map)
        if vector is None:
            raise ValueError("query: expected an image with an object, found no box in it")
        found = self._find(images, vector.reshape(1, -1), self.threshold if threshold is None else threshold)
        return [without_doubles(one) for one in found]

    def prepare(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Resize and normalise raw images, as the weights expect them.

        The library rounds otherwise on a GPU than on a CPU, so images are prepared on the CPU, and an answer does not
        depend on where the network is.
        """
        found = self.processor.image_processor(images=list(images.cpu()), return_tensors="pt")
        return found["pixel_values"].to(self.device)

    def _find(self, images: UInt8[Tensor, "b 3 h w"], words: Float[Tensor, "q d"], threshold: float) -> list[Boxes]:
        found: list[Boxes] = []
        for some in at_once(images, self.image_size):
            logits, boxes = predict(self.model, self.prepare(some), words.expand(len(some), -1, -1))
            found += answer(logits.sigmoid(), boxes, (images.shape[2], images.shape[3]), float(threshold))
        return found


def _cut(query: UInt8[Tensor, "3 h w"], box: Sequence[float | int] | None) -> UInt8[Tensor, "3 _ _"]:
    """The part of an image in a box."""
    if box is None:
        return query
    check_boxes(torch.tensor([box], dtype=torch.float32), "box")
    left, top, right, bottom = map(round, box)
    height, width = query.shape[1:]
    if left < 0 or top < 0 or right > width or bottom > height:
        raise ValueError(f"box: expected it inside a query image of {width} x {height} pixels, got {[*box]}")
    return query[:, top:bottom, left:right]


def predict(
    model: nn.Module, prepared: Float[Tensor, "b c s s"], words: Float[Tensor, "b q d"]
) -> tuple[Float[Tensor, "b n q"], Float[Tensor, "b n 4"]]:
    """Of prepared images, or their maps, each token's logits for texts and its box; open to gradients."""
    feature_map = model.image_embedder(prepared)[0]  # (b, r, c, width)
    tokens = feature_map.flatten(1, 2)  # (b, n, width)
    logits, _ = model.class_predictor(tokens, words)
    return logits, model.box_predictor(tokens, feature_map)


def save(model: nn.Module, config: OwlConfig, path: Path, facts: Mapping[str, object]) -> None:
    """Write half-precision weights, with their architecture and how they were made in the header."""
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(ELSEWHERE)}
    weights.write(state, path, {"owl-vit": json.dumps(asdict(config)), "facts": json.dumps(dict(facts))})


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> OwlViT:
    """The shipped OWL-ViT, the same untrained (option `random`), or a published one by transformers' own call.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged one or another model's, and
    `WeightsUnavailable` for published weights that are neither cached nor reachable.
    """
    if source.library == "transformers":
        from transformers import OwlViTForObjectDetection, OwlViTProcessor

        model, processor = published(source, OwlViTForObjectDetection, OwlViTProcessor.from_pretrained, file, cache_dir)
        return OwlViT(model.to(where), processor)
    untrained = source.options.get("random")
    path = file or weights.ASSETS / f"{'owl-vit' if untrained else source.id}.safetensors"
    try:
        config = OwlConfig(**json.loads(weights.header(path)["owl-vit"]))
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"weights: expected a header with an OWL-ViT's config in {path.name}, got another") from error
    if untrained and config.stem in EYES:
        config = replace(config, stem=EYES[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(config)
    if not untrained:
        weights.fill(model, weights.read(path), "an OWL-ViT", ELSEWHERE)
    return OwlViT(model.to(where), processor_for(config), config.threshold)
