"""OWL-ViT: a CLIP whose every image token may be an object, with a box and a vector that words are compared with.

transformers' `OwlViTForObjectDetection`.  The shipped one is made of the book's own CLIP: its towers, and with them its
stem in place of the patch embedding; the two heads learnt from the factory's scenes.

Source: Minderer et al., Simple Open-Vocabulary Object Detection with Vision Transformers, ECCV 2022.
Book: objects/open-vocabulary
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.tiny import EYES
from gadkit.checks import check_images, checked
from gadkit.losses.detection import check_boxes
from gadkit.nn import private
from gadkit.objects.open_vocabulary import answer, asked, at_once, fitted, published, without_doubles
from gadkit.objects.owl_network import ELSEWHERE, THRESHOLD, OwlConfig, build, processor_for
from gadkit.objects.protocols import Boxes
from gadkit.objects.towers import from_clip

if TYPE_CHECKING:
    from transformers import OwlViTProcessor

KEPT = 4096  # text vectors


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


def save(
    model: nn.Module, config: OwlConfig, path: Path, facts: Mapping[str, object], start: str | None = None
) -> None:
    """Write half-precision weights, with their architecture and how they were made in the header.

    `start` names the shipped CLIP that the towers began as: what is still the CLIP's is read from its file.
    """
    state = {name: value for name, value in model.state_dict().items() if not name.startswith(ELSEWHERE)}
    about = {"owl-vit": json.dumps(asdict(config)), "facts": json.dumps(dict(facts))}
    if start:
        held = _begun(start)
        own = {name: value.detach().cpu() for name, value in state.items()}
        state = {k: v for k, v in own.items() if k not in held or not torch.equal(v.half(), held[k].half())}
        about["start"] = start
    weights.write(state, path, about)


def _begun(start: str) -> dict[str, Tensor]:
    """The shipped CLIP of this name as the beginning of an OWL-ViT."""
    state = weights.read(weights.ASSETS / f"{start}.safetensors")
    return from_clip({name: value for name, value in state.items() if not name.startswith("visual.conv1.eyes.")})


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
        start = weights.header(path).get("start")
        held = (_begun(start) if start else {}) | weights.read(path)
        weights.fill(model, held, "an OWL-ViT", ELSEWHERE)
    return OwlViT(model.to(where), processor_for(config), config.threshold)
