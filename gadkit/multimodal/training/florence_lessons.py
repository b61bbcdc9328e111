"""What Florence-2 learns from: prompts and answers for every task, as tokens, of scenes and of single photographs.

A scene is also shown mirrored, and what is said of it is mirrored too.

Book: multimodal/florence2
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.factory import descriptions, scenes
from gadkit.factory.catalogue import CATEGORIES, lookup
from gadkit.factory.descriptions.words import article
from gadkit.factory.scenes.words import Thing
from gadkit.multimodal.florence_network import TASKS
from gadkit.multimodal.florence_words import SWAPPED
from gadkit.multimodal.location import _from_the_top, quantise, reading_order, spell, trace

if TYPE_CHECKING:
    from transformers import Florence2Processor

CAPTION, OBJECTS, SEGMENT, REGION, WORDS = TASKS
MIRRORS = ((False, False), (True, False), (False, True), (True, True))  # across, upright
TRACED = 0.4  # share of the things whose outlines are learnt: they take longer than the scenes
ABSENT = 0.3  # share of the questions for a word that name nothing in the scene


@dataclass(frozen=True)
class Lesson:
    """A task on an image: what follows the task's token, and the answer."""

    task: str
    image: int
    asked: str
    answer: str


def noun(thing: Thing) -> str:
    """What a thing is called in answers: its category's plainest noun."""
    return lookup(thing.category).nouns[0]


def described(thing: Thing) -> str:
    """What is said of a region: "a red gear"."""
    words = f"{thing.colour} {noun(thing)}".strip()
    return f"{article(words)} {words}"


def mirrored(text: str, across: bool, upright: bool) -> str:
    """An expression as it is true of the scene mirrored left to right (`across`) or top to bottom (`upright`)."""
    for swap, wanted in zip(SWAPPED, (across, upright), strict=True):
        both = swap | {new: old for old, new in swap.items()}
        if wanted:
            text = re.sub("|".join(both), lambda found, both=both: both[found.group()], text)
    return text


def _box(thing: Thing, size: int, across: bool, upright: bool) -> Float[Tensor, "4"]:
    left, top, right, bottom = thing.box
    left, right = (size - right, size - left) if across else (left, right)
    top, bottom = (size - bottom, size - top) if upright else (top, bottom)
    return torch.tensor([left, top, right, bottom])


def words(boxes: Float[Tensor, "k 4"], names: Sequence[str], size: int) -> str:
    """Boxes with their names as an answer, in reading order."""
    bins = quantise(boxes, (size, size)).tolist()
    return "".join(names[i] + spell(bins[i]) for i in reading_order(boxes))


def outlined(outlines: Sequence[Float[Tensor, "p 2"]], size: int, across: bool = False, upright: bool = False) -> str:
    """Outlines as an answer, mirrored with their scene."""
    found = []
    for outline in outlines:
        corners = outline.clone()
        corners[:, 0] = size - corners[:, 0] if across else corners[:, 0]
        corners[:, 1] = size - corners[:, 1] if upright else corners[:, 1]
        corners = torch.from_numpy(_from_the_top(corners.numpy()))
        found.append(spell(quantise(corners.flatten(), (size, size)).tolist()))
    return "<sep>".join(found)


def of_scenes(shown: scenes.Scenes, seed: int = 0) -> list[Lesson]:
    """The lessons of scenes; image `4 i + m` is scene i in the mirror m of `MIRRORS`."""
    found, size = [], shown.images.shape[-1]
    for i, things in enumerate(shown.things):
        rng = random.Random(f"florence lessons {seed} {i}")
        drawn = [thing.expressions and rng.random() < TRACED for thing in things]
        outlines = [trace(mask) if mine else [] for mine, mask in zip(drawn, shown.masks(i), strict=True)]
        for number, mirror in enumerate(MIRRORS):
            found += _of_scene(things, outlines, 4 * i + number, size, mirror, rng)
    return found


def _of_scene(things, outlines, image: int, size: int, mirror: tuple[bool, bool], rng) -> Iterator[Lesson]:
    boxes = torch.stack([_box(thing, size, *mirror) for thing in things]) if things else torch.zeros(0, 4)
    names = [noun(thing) for thing in things]
    yield Lesson(OBJECTS, image, "", words(boxes, names, size))
    for box, thing, pieces in zip(boxes, things, outlines, strict=True):
        yield Lesson(REGION, image, spell(quantise(box, (size, size)).tolist()), described(thing))
        if pieces:
            text = mirrored(rng.choice(thing.expressions), *mirror)
            yield Lesson(SEGMENT, image, text, outlined(pieces[:2], size, *mirror))
    asked = rng.choice([*names] or ["part"])
    if rng.random() < ABSENT:
        asked = rng.choice([one.nouns[0] for one in CATEGORIES.values() if one.kind == "object"])
    mine = [i for i, name in enumerate(names) if name == asked]
    yield Lesson(WORDS, image, asked, words(boxes[torch.tensor(mine, dtype=torch.long)], [asked] * len(mine), size))


def of_photographs(shown: descriptions.Described, first: int, seed: int = 0) -> list[Lesson]:
    """Captions, two wordings each; the first photograph's image is `first`."""
    rng = random.Random(f"florence captions {seed}")
    return [
        Lesson(CAPTION, first + i, "", descriptions.caption(fact, rng, vague=0.0))
        for i, fact in enumerate(shown.facts)
        for _ in range(2)
    ]


def mirrors(images: Tensor) -> Tensor:
    """Each image in the mirrors of `MIRRORS`, one after another."""
    turned = [images, images.flip(3), images.flip(2), images.flip((2, 3))]
    return torch.stack(turned, 1).flatten(0, 1)  # (4 b, 3, s, s)


@dataclass(frozen=True)
class Columns:
    """The lessons of one task: places of their images, tokens of prompts without the image's, and of answers."""

    images: Int[Tensor, "m"]
    prompts: Int[Tensor, "m s"]
    answers: Int[Tensor, "m t"]


def columns(
    processor: "Florence2Processor", lessons: Sequence[Lesson], reading: int, writing: int
) -> dict[str, Columns]:
    """The lessons of every task as tokens; one whose prompt or answer is longer than they may be is left out."""
    tokenizer, found = processor.tokenizer, {}
    for task in TASKS:
        mine = [lesson for lesson in lessons if lesson.task == task]
        if not mine:
            continue
        prompts = tokenizer([sentence(processor, task, lesson.asked) for lesson in mine])["input_ids"]
        answers = tokenizer([lesson.answer for lesson in mine])["input_ids"]
        fits = [i for i in range(len(mine)) if len(prompts[i]) <= reading and len(answers[i]) <= writing]
        places = torch.tensor([mine[i].image for i in fits])
        pad = tokenizer.pad_token_id
        found[task] = Columns(
            places, _padded([prompts[i] for i in fits], reading, pad), _padded([answers[i] for i in fits], writing, pad)
        )
    return found


def sentence(processor: "Florence2Processor", task: str, asked: str) -> str:
    """The English sentence that the processor puts in place of a task's token."""
    if task in processor.task_prompts_without_inputs:
        return processor.task_prompts_without_inputs[task]
    return processor.task_prompts_with_input[task].format(input=asked)


def _padded(rows: list[list[int]], length: int, pad: int) -> Int[Tensor, "m length"]:
    found = torch.full((len(rows), length), pad)
    for i, row in enumerate(rows):
        found[i, : len(row)] = torch.tensor(row)
    return found
