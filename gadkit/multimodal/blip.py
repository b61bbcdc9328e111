"""BLIP: captions, answers to questions, and how well texts fit, by one image tower and one pair of text transformers.

transformers' `BlipForConditionalGeneration`, `BlipForQuestionAnswering` and `BlipForImageTextRetrieval`.  Published
checkpoints hold one of them each; the shipped file serves all three (`gadkit.multimodal.blip_network`).

Source: Li et al., BLIP: Bootstrapping Language-Image Pre-training, ICML 2022.
Book: multimodal/blip
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
from gadkit.multimodal.blip_network import Architecture, Network
from gadkit.multimodal.reading_tasks import LONGEST, Tasked, by_length, every_pair, one_each, padded, task_of
from gadkit.multimodal.towers import Front, check_digest, clip_digest
from gadkit.multimodal.vocabulary import word_pieces
from gadkit.objects.open_vocabulary import asked, at_once, fitted, published

if TYPE_CHECKING:
    from transformers import BlipProcessor

TASKS = {  # the class of transformers that a task needs
    "captioning": "BlipForConditionalGeneration",
    "answering": "BlipForQuestionAnswering",
    "matching": "BlipForImageTextRetrieval",
}


def processor_for(made: Architecture, vocabulary: Sequence[str]) -> "BlipProcessor":
    """The processor of a small BLIP: images squashed to a square, texts by word pieces."""
    from transformers import BlipImageProcessor, BlipProcessor

    side = {"height": made.image_size, "width": made.image_size}
    images = BlipImageProcessor(size=side, image_mean=[made.mean] * 3, image_std=[made.std] * 3)
    return BlipProcessor(images, word_pieces(vocabulary))


class BLIP(Tasked):
    """Up to three models of transformers by task, and their processor.

    A method whose model is not there raises a ValueError that says which class it needs.
    """

    TASKS = TASKS

    @checked
    def __init__(self, models: Mapping[str, nn.Module], processor: "BlipProcessor") -> None:
        super().__init__(models, processor)
        self.context_length: int = self.config.text_config.max_position_embeddings

    @torch.no_grad()
    def caption(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """A caption of each image, the likeliest token at every step; raises ValueError for anything but RGB images."""
        model, found = self.model("captioning"), []
        for some in at_once(images, self.image_size):
            written = model.generate(pixel_values=self.prepare(some), max_new_tokens=self._longest(), do_sample=False)
            found += self._words(written)
        return found

    @torch.no_grad()
    def answer(self, images: UInt8[Tensor, "b 3 h w"], questions: Sequence[str]) -> list[str]:
        """An answer to the question that belongs to each image.

        A question beyond the context is cut, and a warning says what is not read.  Raises ValueError for an empty
        question, another number of questions than of images, and anything but RGB images.
        """
        model, wanted = self.model("answering"), one_each(images, questions)
        found = [""] * len(wanted)
        for places, ids in by_length(self._ids(wanted)):  # the class attends to padding, too
            written = model.generate(
                input_ids=ids.to(self.device),
                pixel_values=self.prepare(images[places]),
                attention_mask=torch.ones_like(ids).to(self.device),
                max_new_tokens=self._longest(),
                do_sample=False,
            )
            for place, words in zip(places, self._words(written), strict=True):
                found[place] = words
        return found

    @torch.no_grad()
    def match(self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, "b t"]:
        """The probability that each text fits each image, by image-text matching.

        A text beyond the context is cut, and a warning says what is not read.  Raises ValueError for no text or an
        empty one, and for anything but RGB images.
        """
        model, wanted = self.model("matching"), asked(texts)
        ids, mask = self._padded(wanted)
        seen = torch.cat([self._see(model, some) for some in at_once(images, self.image_size)])  # (b, n, w)
        found = []
        for image, text in every_pair(len(seen), len(ids)):
            states = model.text_encoder(
                input_ids=ids[text], attention_mask=mask[text], encoder_hidden_states=seen[image]
            ).last_hidden_state
            found.append(model.itm_head(states[:, 0]).float().softmax(1)[:, 1])
        return torch.cat(found).view(len(seen), len(ids))

    @torch.no_grad()
    def encode_image(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit vectors of images, by image-text contrast.  Raises ValueError for anything but RGB images."""
        model = self.model("matching")
        seen = torch.cat([self._see(model, some)[:, 0] for some in at_once(images, self.image_size)])
        return F.normalize(model.vision_proj(seen).float(), dim=-1)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of texts, by the same contrast.  Raises ValueError for no text or an empty one."""
        model = self.model("matching")
        ids, mask = self._padded(asked(texts))
        states = model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return F.normalize(model.text_proj(states[:, 0]).float(), dim=-1)

    def _see(self, model: nn.Module, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b n d"]:
        return model.vision_model(pixel_values=self.prepare(check_images(images))).last_hidden_state

    def _longest(self) -> int:
        return min(LONGEST, self.context_length - 2)

    def _ids(self, texts: list[str]) -> list[list[int]]:
        tokenizer = self.processor.tokenizer
        return tokenizer([fitted(text, tokenizer, self.context_length) for text in texts])["input_ids"]

    def _padded(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        ids, there = padded(self._ids(texts), self.processor.tokenizer.pad_token_id)
        return ids.to(self.device), there.long().to(self.device)

    def _words(self, ids: Tensor) -> list[str]:
        return [text.strip() for text in self.processor.batch_decode(ids, skip_special_tokens=True)]


def wrap(network: Network, made: Architecture, vocabulary: Sequence[str]) -> BLIP:
    """The reader of a small network."""
    return BLIP({task: getattr(network, task) for task in TASKS}, processor_for(made, vocabulary))


def save(
    network: Network, made: Architecture, vocabulary: Sequence[str], path: Path, facts: Mapping[str, object]
) -> None:
    """Write half-precision weights, each once, with architecture, word pieces and how they were made in the header."""
    front = isinstance(network.matching.vision_model.embeddings, Front)
    about = {"blip": asdict(made), "vocabulary": [*vocabulary], "facts": dict(facts)}
    stands = {"clip": clip_digest()} if front else {}
    weights.write(network.held(), path, {key: json.dumps(value) for key, value in about.items()} | stands)


def load(source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None) -> BLIP:
    """The shipped BLIP, the same untrained (option `random`), or published ones by transformers' own calls.

    Published weights are three checkpoints, one a task; with a `file`, in a folder with its config.json, it is the one
    whose class the config names.  Raises FileNotFoundError for a file that is not there, ValueError for a damaged one
    or another model's, and `WeightsUnavailable` for published weights that are neither cached nor reachable.
    """
    if source.library == "transformers":
        return _published(source, where, file, cache_dir)
    untrained = source.options.get("random")
    path = file or weights.ASSETS / f"{'blip' if untrained else source.id}.safetensors"
    held = weights.header(path)
    try:
        made, vocabulary = Architecture(**json.loads(held["blip"])), json.loads(held["vocabulary"])
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"weights: expected a header with a BLIP's config in {path.name}, got another") from error
    if untrained and made.stem in EYES:
        made = replace(made, stem=EYES[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(made, len(vocabulary))
    if not untrained:
        if "clip" in held:
            check_digest(held["clip"], "a BLIP")
        fill(network, weights.read(path))
    return wrap(network.requires_grad_(False).to(where), made, vocabulary)


def fill(network: Network, state: Mapping[str, Tensor]) -> None:
    """Give a network its weights.  Raises ValueError where one is missing, left over or of another shape."""
    rest = tuple(name for name in network.state_dict() if name not in network.held())
    weights.fill(network, state, "a BLIP", rest)
    network.share()


def _published(source: weights.Weights, where: torch.device, file: Path | None, cache_dir: str | None) -> BLIP:
    import transformers

    ids = {"captioning": source.id, **source.options}
    if file is not None:
        ids = {task_of(file, TASKS): source.id}
    models = {}
    for task, name in ids.items():
        kind = getattr(transformers, TASKS[task])
        model, processor = published(
            replace(source, id=name), kind, transformers.BlipProcessor.from_pretrained, file, cache_dir
        )
        models[task] = model.requires_grad_(False).to(where)
    return BLIP(models, processor)
