"""Florence-2: one network, many tasks, each asked for by a prompt and answered in words and places.

    from gadkit import zoo

    model = zoo.load("florence2")
    model.run("<OD>", images)
    model.run("<REFERRING_EXPRESSION_SEGMENTATION>", images, ["the red gear"])

transformers' `Florence2ForConditionalGeneration`, and the answers as its own processor parses them.

Source: Xiao et al., Florence-2: Advancing a Unified Representation for a Variety of Vision Tasks, CVPR 2024.
Book: multimodal/florence2
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.tiny import EYES
from gadkit.checks import checked, one_of, share
from gadkit.multimodal.florence_network import (
    ELSEWHERE,
    PARSED,
    TASKS,
    FlorenceConfig,
    build,
    processor_for,
)
from gadkit.multimodal.florence_words import learn_words, sentences
from gadkit.multimodal.location import BINS, quantise, spell
from gadkit.objects.open_vocabulary import asked, at_once, published
from gadkit.objects.protocols import Boxes

if TYPE_CHECKING:
    from transformers import Florence2Processor

CAPTION, OBJECTS, SEGMENT, REGION, WORDS = TASKS
EXACT = (2 * BINS, 2 * BINS)  # of this size the middle of a bin is a whole number, which the processor cuts to
NAMED = re.compile(r"([^<]+)((?:<loc_\d+>){4,})")  # a name and its places, as the processor finds them
BOX = re.compile(r"(?:<loc_\d+>){4}")


@dataclass(frozen=True)
class Named:
    """The k boxes of one image in pixels, a name each, and how probable the model found each name.  k may be 0."""

    boxes: Float[Tensor, "k 4"]
    scores: Float[Tensor, "k"]
    names: tuple[str, ...]


class Florence2:
    """A Florence-2 and its processor.

    `tasks` are those that its weights have learnt, or that its processor knows.  It writes greedily, one token after
    another.
    """

    @checked
    def __init__(
        self, model: nn.Module, processor: "Florence2Processor", tasks: Sequence[str] | None = None, answer: int = 256
    ) -> None:
        self.model, self.processor, self.answer_length = model.eval(), processor, answer
        rules = processor.post_processor.parse_task_config  # early repositories have none, and nothing could be parsed
        processor.post_processor.parse_task_config = {kind: {} for kind in PARSED} | rules
        size = processor.image_processor.size
        self.image_size: int = size["height"] if "height" in size else size["shortest_edge"]
        self.with_text: tuple[str, ...] = tuple(processor.task_prompts_with_input)
        known = (*processor.task_prompts_without_inputs, *self.with_text)
        self.tasks: tuple[str, ...] = known if tasks is None else tuple(tasks)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return self.model.device

    def caption(self, images: UInt8[Tensor, "b 3 h w"]) -> list[str]:
        """A caption of each image."""
        return [found[CAPTION] for found in self.run(CAPTION, images)]

    def answer(self, images: UInt8[Tensor, "b 3 h w"], questions: Sequence[str]) -> list[str]:
        """Raises ValueError always: no task of Florence-2 answers questions, neither here nor in what was published."""
        raise ValueError(
            f"questions: expected a task that Florence-2 has, one of {', '.join(self.tasks)}, got questions"
        )

    @torch.no_grad()
    def run(
        self, task: str, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """The answers to a task, a dictionary an image, as the library's processor parses them, under the task's name.

        `texts` are what follows the task's token, one an image, for tasks that ask for something: an expression, a
        name, or a region, which `region` writes.  Places are in pixels, in the middles of their bins.  Raises
        ValueError for a task that the weights do not know, and for texts that are missing, empty or too many.
        """
        text = self._ask(task, images, texts)
        return [self._parse(task, row, images.shape[2:]) for row in self._write(text, images)[0]]

    @torch.no_grad()
    def write(self, task: str, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str] | None = None) -> list[str]:
        """The answers of `run` as the network writes them, with places as tokens."""
        rows, _ = self._write(self._ask(task, images, texts), images)
        return [self.processor.post_processor.decode_with_spans(row)[0] for row in rows]

    @torch.no_grad()
    def objects(self, images: UInt8[Tensor, "b 3 h w"]) -> list[Named]:
        """All objects of each image by <OD>, the surest first.

        Florence-2 gives no scores.  A box's is the probability of its name: of all of the name's tokens, each given
        what was written before.
        """
        return self._named(OBJECTS, images, None)

    @torch.no_grad()
    def detect(
        self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str], threshold: float | None = None
    ) -> list[Boxes]:
        """The boxes of what the texts name, an answer an image, by <OPEN_VOCABULARY_DETECTION>; one run a text.

        Scores are as in `objects`, and by default none is too low.  Raises ValueError for no text, or an empty one.
        """
        words, least = asked(texts), share("threshold", threshold or 0.0, zero=True)
        held = [self._named(WORDS, images, [word] * len(images)) for word in words]
        return [_together(some, least) for some in zip(*held, strict=True)]

    def region(self, box: Sequence[float], size: tuple[int, int]) -> str:
        """A box (left, top, right, bottom) of an image of `size` (width, height) as the text of a region's task.

        Raises ValueError for other than four numbers, or a box that is upside down.
        """
        if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError(f"box: expected (left, top, right, bottom) with left < right, top < bottom, got {[*box]}")
        return spell(quantise(torch.tensor([float(side) for side in box]), size).tolist())

    def _ask(self, task: str, images: Tensor, texts: Sequence[str] | None) -> list[str]:
        """The prompts, task tokens and all."""
        one_of("task", task, self.tasks)
        if task not in self.with_text:
            if texts is not None:
                raise ValueError(f"texts: expected none with {task}, got {[*texts][:3]}")
            return [task] * len(images)
        if texts is None:
            raise ValueError(f"texts: expected one an image with {task}, got None")
        words = asked(texts)
        if len(words) != len(images):
            raise ValueError(f"texts: expected one an image, {len(images)}, got {len(words)}")
        return [task + word for word in words]

    def _write(self, prompts: list[str], images: Tensor) -> tuple[list[list[int]], list[list[float]]]:
        """The tokens of each answer without the special ones at its ends, and the probability of each."""
        ids, sure, place = [], [], 0
        for some in at_once(images, self.image_size):
            these = self._prepare(prompts[place : place + len(some)], some)
            place += len(some)
            made = self.model.generate(
                **these, num_beams=1, do_sample=False, max_new_tokens=self.answer_length,
                return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
            written = made.sequences[:, 1:]  # (b, l): the first is where the decoder starts
            steps = torch.stack([step.float().softmax(1) for step in made.logits], 1)  # (b, l, vocabulary)
            chance = steps.gather(2, written[..., None])[..., 0]
            for row, probable in zip(written.tolist(), chance.tolist(), strict=True):
                kept = [i for i, token in enumerate(row) if token not in self.processor.tokenizer.all_special_ids]
                ids.append([row[i] for i in kept]), sure.append([probable[i] for i in kept])
        return ids, sure

    def _prepare(self, prompts: list[str], images: UInt8[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        """Prompts and images as the network takes them; a prompt longer than it can read is an error."""
        found = self.processor(text=prompts, images=list(images), padding=True, return_tensors="pt")
        most = self.model.config.text_config.max_position_embeddings
        if found["input_ids"].shape[1] > most:
            room = most - self.processor.image_processor.image_seq_length
            raise ValueError(f"texts: expected prompts of at most {room} tokens, got a longer one")
        return {name: found[name].to(self.device) for name in ("input_ids", "attention_mask", "pixel_values")}

    def _parse(self, task: str, row: list[int], size: Sequence[int]) -> dict[str, Any]:
        text, _ = self.processor.post_processor.decode_with_spans(row)
        found = self.processor.post_process_generation(text=text, task=task, image_size=EXACT)[task]
        if isinstance(found, dict):
            height, width = size
            found = {
                key: value if "labels" in key else _pixels(value, (width / EXACT[0], height / EXACT[1]))
                for key, value in found.items()
            }
        return {task: found}

    def _named(self, task: str, images: Tensor, texts: list[str] | None) -> list[Named]:
        """Boxes with names and scores, found in the text as the processor finds them."""
        rows, sure = self._write(self._ask(task, images, texts), images)
        found = []
        for row, probable in zip(rows, sure, strict=True):
            parsed = self._parse(task, row, images.shape[2:])[task]
            scores = torch.tensor(self._scores(row, probable))
            boxes = torch.tensor(parsed["bboxes"]).reshape(-1, 4)
            names = parsed["labels" if "labels" in parsed else "bboxes_labels"]
            order = scores.argsort(descending=True, stable=True).tolist()
            order = [i for i in order if bool((boxes[i, 2:] > boxes[i, :2]).all())]
            found.append(Named(boxes[order], scores[order], tuple(names[i] for i in order)))
        return found

    def _scores(self, row: list[int], probable: list[float]) -> list[float]:
        """Of every box in an answer the probability of its name's tokens."""
        text, spans = self.processor.post_processor.decode_with_spans(row)
        scores = []
        for found in NAMED.finditer(text):
            of_name = [p for p, (start, end) in zip(probable, spans, strict=True) if _meet(found.span(1), (start, end))]
            scores += [float(torch.tensor(of_name).prod())] * len(BOX.findall(found.group(2)))
        return scores


@checked
def labelled(found: Sequence[Named]) -> tuple[list[Boxes], list[str]]:
    """The same boxes with places in a list of all names that occur, and that list."""
    words = sorted({name for one in found for name in one.names})
    places = [torch.tensor([words.index(name) for name in one.names], dtype=torch.long) for one in found]
    return [Boxes(one.boxes, one.scores, label) for one, label in zip(found, places, strict=True)], words


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def _pixels(places: Any, scale: tuple[float, float]) -> Any:
    """Nested lists of x, y, x, y, ... in pixels."""
    if places and isinstance(places[0], list | tuple):
        return [_pixels(inner, scale) for inner in places]
    return [number * scale[i % 2] for i, number in enumerate(places)]


def _together(held: Sequence[Named], least: float) -> Boxes:
    """The boxes of one image for each text, the surest first."""
    boxes, scores = torch.cat([one.boxes for one in held]), torch.cat([one.scores for one in held])
    labels: Int[Tensor, k] = torch.cat([torch.full((len(one.scores),), i) for i, one in enumerate(held)])
    order = scores.argsort(descending=True, stable=True)
    order = order[scores[order] >= least]
    return Boxes(boxes[order], scores[order], labels[order])


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> Florence2:
    """The shipped Florence-2, the same untrained (option `random`), or a published one by transformers' own call.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged one or another model's, and
    `WeightsUnavailable` for published weights that are neither cached nor reachable.
    """
    if source.library == "transformers":
        from transformers import Florence2ForConditionalGeneration, Florence2Processor

        network, processor = published(
            source, Florence2ForConditionalGeneration, Florence2Processor.from_pretrained, file, cache_dir
        )
        return Florence2(network.to(where), processor)
    untrained = source.options.get("random")
    if untrained:
        config, words = replace(FlorenceConfig(), stem=EYES[1]), learn_words(sentences())
    else:
        path = file or weights.ASSETS / f"{source.id}.safetensors"
        held = weights.header(path)
        try:
            config, words = FlorenceConfig(**json.loads(held["florence"])), held["words"]
        except (KeyError, ValueError, TypeError) as error:
            raise ValueError(f"weights: expected a header with a Florence-2's config in {path.name}") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build(config, words)
    if not untrained:
        weights.fill(model, weights.read(path), "a Florence-2", ELSEWHERE)
        model.tie_weights()
    return Florence2(model.to(where), processor_for(config, words), TASKS, config.answer - 1)
