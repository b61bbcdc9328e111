"""BLIP-2: a Q-Former asks a frozen image tower what a frozen language model needs to write.

transformers' `Blip2ForConditionalGeneration` for captions and answers, `Blip2ForImageTextRetrieval` for matching.

Source: Li et al., BLIP-2: Bootstrapping Language-Image Pre-training with Frozen Image Encoders and Large Language
Models, ICML 2023.
Book: multimodal/blip
"""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.tiny import EYES
from gadkit.checks import check_images, checked
from gadkit.multimodal.blip2_network import Architecture, Network
from gadkit.multimodal.towers import Front, check_digest, clip_digest
from gadkit.multimodal.vocabulary import PROMPT, byte_pairs, word_pieces
from gadkit.objects.open_vocabulary import asked, at_once, fitted, published

if TYPE_CHECKING:
    from transformers import Blip2Processor, PreTrainedTokenizerBase

START = "a photo of"  # of a caption: a language model left alone may as well begin with a question
LONGEST = 30  # tokens of an answer or a caption
PAIRS = 256  # of an image and a text, matched at once
TASKS = {"generation": "Blip2ForConditionalGeneration", "matching": "Blip2ForImageTextRetrieval"}


class BLIP2:
    """One or both of transformers' models by task (`TASKS`), the processor, and the tokenizer of the Q-Former.

    A method whose model is not there raises a ValueError that says which class it needs.
    """

    @checked
    def __init__(
        self,
        models: Mapping[str, nn.Module],
        processor: "Blip2Processor",
        pieces: "PreTrainedTokenizerBase | None" = None,
    ) -> None:
        if not models or not models.keys() <= TASKS.keys():
            raise ValueError(f"models: expected some of {', '.join(TASKS)}, got {', '.join(models) or 'none'}")
        self.models = {task: model.eval() for task, model in models.items()}
        self.processor, self.pieces = processor, pieces or processor.tokenizer
        config = next(iter(models.values())).config
        self.image_size: int = config.vision_config.image_size
        self.queries: int = config.num_query_tokens
        self.context_length: int = getattr(config.text_config, "max_position_embeddings", 512) - self.queries
        self.text_length: int = config.qformer_config.max_position_embeddings

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""
        return next(iter(self.models.values())).device

    def _model(self, task: str) -> nn.Module:
        if task not in self.models:
            held = ", ".join(TASKS[name] for name in self.models)
            raise ValueError(f"{task}: expected a checkpoint of {TASKS[task]}, got one of {held}")
        return self.models[task]

    def image_ids(self) -> list[int]:
        """The ids in whose place the projected queries come, in front of a text.

        Raises ValueError for a configuration without such an id.
        """
        token = self._model("generation").config.image_token_index
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
        self._model("generation")
        wanted, tokenizer = asked(questions), self.processor.tokenizer
        if len(wanted) != len(check_images(images)):
            raise ValueError(f"questions: expected one for each of {len(images)} images, got {len(wanted)}")
        room = self.context_length - len(tokenizer(PROMPT)["input_ids"]) - LONGEST
        return self._write(images, [PROMPT.format(fitted(question, tokenizer, room)) for question in wanted])

    @torch.no_grad()
    def _write(self, images: UInt8[Tensor, "b 3 h w"], prompts: list[str]) -> list[str]:
        model, image = self._model("generation"), self.image_ids()
        groups = defaultdict(list)  # of one length, so that nothing is padded
        for place, row in enumerate(self.processor.tokenizer(prompts)["input_ids"]):
            groups[len(row)].append((place, [*image, *row]))
        found = [""] * len(prompts)
        for group in groups.values():
            for start in range(0, len(group), PAIRS):
                places, rows = zip(*group[start : start + PAIRS], strict=True)
                ids = torch.tensor(rows, device=self.device)
                written = model.generate(
                    pixel_values=self.prepare(images[[*places]]),
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
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
        model, wanted = self._model("matching"), asked(texts)
        read = [fitted(text, self.pieces, self.text_length) for text in wanted]
        rows = [torch.tensor(row) for row in self.pieces(read)["input_ids"]]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pieces.pad_token_id).to(self.device)
        there = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True).to(self.device)
        mask = torch.cat([there.new_ones(len(ids), self.queries), there], 1)
        seen = torch.cat(
            [
                model.vision_model(pixel_values=self.prepare(some)).last_hidden_state
                for some in at_once(images, self.image_size)
            ]
        )
        pairs = torch.cartesian_prod(*(torch.arange(len(x), device=self.device) for x in (seen, ids)))  # (b t, 2)
        found = []
        for image, text in (some.unbind(1) for some in pairs.split(PAIRS)):
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

    def prepare(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Resize and normalise raw images, as the weights expect them."""
        found = self.processor.image_processor(images=list(images), return_tensors="pt", device=self.device)
        return found["pixel_values"].to(self.device)


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

    task = "generation"
    if file is not None:
        config = weights.verified(file).parent / "config.json"
        classes = json.loads(weights.verified(config).read_text(encoding="utf-8")).get("architectures") or ["none"]
        found = [name for name, kind in TASKS.items() if kind == classes[0]]
        if not found:
            raise ValueError(f"weights: expected one of {', '.join(TASKS.values())} in {config}, got {classes[0]}")
        task = found[0]
    kind = getattr(transformers, TASKS[task])
    model, processor = published(source, kind, transformers.Blip2Processor.from_pretrained, file, cache_dir)
    return BLIP2({task: model.requires_grad_(False).to(where)}, processor)
