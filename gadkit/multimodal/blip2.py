"""BLIP-2: a Q-Former asks a frozen image tower what a frozen language model needs to write.

transformers' `Blip2ForConditionalGeneration` for captions and answers, `Blip2ForImageTextRetrieval` for matching.

Source: Li et al., BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and Large Language
Models, ICML 2023.
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
from gadkit.multimodal.blip2_network import Architecture, Network
from gadkit.multimodal.reading_tasks import LONGEST, Tasked, by_length, every_pair, one_each, padded, task_of
from gadkit.multimodal.towers import Front, check_digest, clip_digest
from gadkit.multimodal.vocabulary import PROMPT, byte_pairs, word_pieces
from gadkit.objects.open_vocabulary import asked, at_once, fitted, published

if TYPE_CHECKING:
    from transformers import Blip2Processor, PreTrainedTokenizerBase

START = "a photo of"  # of a caption: a language model left alone may as well begin with a question
TASKS = {"generation": "Blip2ForConditionalGeneration", "matching": "Blip2ForImageTextRetrieval"}


class BLIP2(Tasked):
    """One or both of transformers' models by task, the processor, and the tokenizer of the Q-Former.

    A method whose model is not there raises a ValueError that says which class it needs.
    """

    TASKS = TASKS

    @checked
    def __init__(
        self,
        models: Mapping[str, nn.Module],
        processor: "Blip2Processor",
        pieces: "PreTrainedTokenizerBase | None" = None,
    ) -> None:
        super().__init__(models, processor)
        self.pieces, config = pieces or processor.tokenizer, self.config
        self.queries: int = config.num_query_tokens
        self.context_length: int = getattr(config.text_config, "max_position_embeddings", 512) - self.queries
        self.text_length: int = config.qformer_config.max_position_embeddings

    def image_ids(self) -> list[int]:
        """The ids in whose place the projected queries come, in front of a text.

        Raises ValueError for a configuration without such an id.
        """
        token = self.model("generation").config.image_token_index
        if token is None:
            raise ValueError("model: expected a configuration with image_token_index, got one without")
        return [token] * self.queries

    def caption(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """A caption of each image, the likeliest token at every step; raises ValueError for anything but RGB images.

        It goes on from "a photo of", as that of the authors does, and is returned without these words.
        """
        return self._write(images, [START] * len(check_images(images)))

    def answer(self, images: UInt8[Tensor, "b 3 h w"], questions: Sequence[str]) -> list[str]:
        """An answer to the question that belongs to each image, which the language model reads, not the Q-Former.

        A question beyond the context is cut, and a warning says what is not read.  Raises ValueError for an empty
        question, another number of questions than of images, and anything but RGB images.
        """
        self.model("generation")
        wanted, tokenizer = one_each(images, questions), self.processor.tokenizer
        room = self.context_length - len(tokenizer(PROMPT)["input_ids"]) - LONGEST
        return self._write(images, [PROMPT.format(fitted(question, tokenizer, room)) for question in wanted])

    @torch.no_grad()
    def _write(self, images: UInt8[Tensor, "b 3 h w"], prompts: list[str]) -> list[str]:
        model, image = self.model("generation"), self.image_ids()
        found = [""] * len(prompts)
        rows = [[*image, *row] for row in self.processor.tokenizer(prompts)["input_ids"]]
        for places, ids in by_length(rows):
            written = model.generate(
                pixel_values=self.prepare(images[places]),
                input_ids=ids.to(self.device),
                attention_mask=torch.ones_like(ids).to(self.device),
                max_new_tokens=LONGEST,
                do_sample=False,
            )
            texts = self.processor.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
            for place, text in zip(places, texts, strict=True):
                found[place] = text.strip()
        return found

    @torch.no_grad()
    def match(self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, "b t"]:
        """The probability that each text fits each image: queries that see both say so, and their mean counts.

        A text beyond the context is cut, and a warning says what is not read.  Raises ValueError for no text or an
        empty one, and for anything but RGB images.
        """
        model, wanted = self.model("matching"), asked(texts)
        read = [fitted(text, self.pieces, self.text_length) for text in wanted]
        ids, there = padded(self.pieces(read)["input_ids"], self.pieces.pad_token_id)
        mask = F.pad(there, (self.queries, 0), value=True).long().to(self.device)
        ids = ids.to(self.device)
        seen = torch.cat(
            [
                model.vision_model(pixel_values=self.prepare(some)).last_hidden_state
                for some in at_once(images, self.image_size)
            ]
        )
        found = []
        for image, text in every_pair(len(seen), len(ids)):
            queries = model.query_tokens.expand(len(text), -1, -1)
            states = model.qformer(
                query_embeds=model.embeddings(input_ids=ids[text], query_embeds=queries),
                query_length=self.queries,
                attention_mask=mask[text],
                encoder_hidden_states=seen[image],
            ).last_hidden_state
            logits = model.itm_head(states[:, : self.queries].to(model.itm_head.weight.dtype)).float().mean(1)
            found.append(logits.softmax(1)[:, 1])
        return torch.cat(found).view(len(seen), len(ids))


def wrap(network: Network, made: Architecture, vocabulary: Sequence[str], pairs: str) -> BLIP2:
    """The reader of a small network."""
    from transformers import Blip2Processor, BlipImageProcessor

    side = {"height": made.image_size, "width": made.image_size}
    images = BlipImageProcessor(size=side, image_mean=[made.mean] * 3, image_std=[made.std] * 3)
    processor = Blip2Processor(images, byte_pairs(pairs), num_query_tokens=made.queries)  # gives <image> the next id
    return BLIP2({task: getattr(network, task) for task in TASKS}, processor, word_pieces(vocabulary))


def save(
    network: Network,
    made: Architecture,
    vocabulary: Sequence[str],
    pairs: str,
    path: Path,
    facts: Mapping[str, object],
) -> None:
    """Write half-precision weights, each once, with architecture, both vocabularies and their making in the header."""
    front = isinstance(network.generation.vision_model.embeddings, Front)
    about = {"blip2": asdict(made), "vocabulary": [*vocabulary], "pairs": json.loads(pairs), "facts": dict(facts)}
    stands = {"clip": clip_digest()} if front else {}
    weights.write(network.held(), path, {key: json.dumps(value) for key, value in about.items()} | stands)


def load(source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None) -> BLIP2:
    """The shipped BLIP-2, the same untrained (option `random`), or a published one by transformers' own call.

    A published checkpoint holds one of the two models.  Raises FileNotFoundError for a file that is not there,
    ValueError for a damaged one or another model's, and `WeightsUnavailable` for published weights that are neither
    cached nor reachable.
    """
    if source.library == "transformers":
        return _published(source, where, file, cache_dir)
    untrained = source.options.get("random")
    path = file or weights.ASSETS / f"{'blip2' if untrained else source.id}.safetensors"
    held = weights.header(path)
    try:
        made, vocabulary = Architecture(**json.loads(held["blip2"])), json.loads(held["vocabulary"])
        count = len(json.loads(held["pairs"])["vocab"]) + 1
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"weights: expected a header with a BLIP-2's config in {path.name}, got another") from error
    if untrained and made.stem in EYES:
        made = replace(made, stem=EYES[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(made, len(vocabulary), count)
    if not untrained:
        if "clip" in held:
            check_digest(held["clip"], "a BLIP-2")
        fill(network, weights.read(path))
    return wrap(network.requires_grad_(False).to(where), made, vocabulary, held["pairs"])


def fill(network: Network, state: Mapping[str, Tensor]) -> None:
    """Give a network its weights.  Raises ValueError where one is missing, left over or of another shape."""
    rest = tuple(name for name in network.state_dict() if name not in network.held())
    weights.fill(network, state, "a BLIP-2", rest)
    network.share()


def _published(source: weights.Weights, where: torch.device, file: Path | None, cache_dir: str | None) -> BLIP2:
    import transformers

    task = "generation" if file is None else task_of(file, TASKS)
    kind = getattr(transformers, TASKS[task])
    model, processor = published(source, kind, transformers.Blip2Processor.from_pretrained, file, cache_dir)
    return BLIP2({task: model.requires_grad_(False).to(where)}, processor)
