"""What BLIP and BLIP-2 do alike around transformers' classes: models by task, texts of one length, every pair.

Book: multimodal/blip
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.checks import check_images
from gadkit.objects.open_vocabulary import asked

if TYPE_CHECKING:
    from transformers import ProcessorMixin

LONGEST = 30  # tokens of an answer or a caption
PAIRS = 256  # of an image and a text, at once


class Tasked:
    """Models of transformers by their tasks, and the processor that they share.

    `TASKS` names the class of transformers that a task needs.  A method whose model is not there raises a ValueError
    that says so.
    """

    TASKS: ClassVar[Mapping[str, str]]

    def __init__(self, models: Mapping[str, nn.Module], processor: "ProcessorMixin") -> None:
        if not models or not models.keys() <= self.TASKS.keys():
            raise ValueError(f"models: expected some of {', '.join(self.TASKS)}, got {', '.join(models) or 'none'}")
        self.models = {task: model.eval() for task, model in models.items()}
        self.processor = processor
        self.config = next(iter(models.values())).config
        self.image_size: int = self.config.vision_config.image_size

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""
        return next(iter(self.models.values())).device

    def model(self, task: str) -> nn.Module:
        """The model of a task.  Raises ValueError where it is not there."""
        if task not in self.models:
            held = ", ".join(self.TASKS[name] for name in self.models)
            raise ValueError(f"{task}: expected a checkpoint of {self.TASKS[task]}, got one of {held}")
        return self.models[task]

    def prepare(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        """Resize and normalise raw images, as the weights expect them."""
        found = self.processor.image_processor(images=list(images), return_tensors="pt", device=self.device)
        return found["pixel_values"].to(self.device)


def one_each(images: UInt8[Tensor, "b 3 h w"], questions: Sequence[str]) -> list[str]:
    """The questions, one for each image.

    Raises ValueError for another number of them, for an empty one, and for anything but RGB images.
    """
    wanted = asked(questions)
    if len(wanted) != len(check_images(images)):
        raise ValueError(f"questions: expected one for each of {len(images)} images, got {len(wanted)}")
    return wanted


def by_length(rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Int[Tensor, "n l"]]]:
    """Rows of ids in batches of one length, so that nothing is padded, each with the places where they stood."""
    groups = defaultdict(list)
    for place, row in enumerate(rows):
        groups[len(row)].append(place)
    for places in groups.values():
        for start in range(0, len(places), PAIRS):
            some = places[start : start + PAIRS]
            yield some, torch.tensor([rows[place] for place in some])


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[Int[Tensor, "n l"], Bool[Tensor, "n l"]]:
    """Rows of ids, padded to the longest, and where they are ids."""
    ids = nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad)
    lengths = torch.tensor([len(row) for row in rows])
    return ids, torch.arange(ids.shape[1]) < lengths[:, None]


def every_pair(images: int, texts: int) -> Iterator[tuple[Int[Tensor, "n"], Int[Tensor, "n"]]]:
    """The places of every image with every text, row by row of their table, so many at once as a network can take."""
    for some in torch.arange(images * texts).split(PAIRS):
        yield some // texts, some % texts


def task_of(file: Path, tasks: Mapping[str, str]) -> str:
    """The task that the config.json beside a checkpoint names the class of.

    Raises FileNotFoundError where there is none, and ValueError for another class.
    """
    config = weights.verified(file).parent / "config.json"
    classes = json.loads(weights.verified(config).read_text(encoding="utf-8")).get("architectures") or ["none"]
    for task, name in tasks.items():
        if name == classes[0]:
            return task
    raise ValueError(f"weights: expected one of {', '.join(tasks.values())} in {config}, got {classes[0]}")
