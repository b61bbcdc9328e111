"""The published OneFormer and Mask2Former, by transformers' own calls, from a folder, the cache or the network.

Source: Jain et al. 2023, OneFormer; Cheng et al. 2022, Mask2Former.
Book: objects/universal
"""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from gadkit import weights
from gadkit.objects.universal import Mask2Former, OneFormer

COCO_THINGS = 80  # of COCO's panoptic classes the first 80 are things


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> OneFormer | Mask2Former:
    """A published network; `file` is the folder of a checkpoint in transformers' format, or a file in it.

    A OneFormer's folder holds the list of its classes, too, the file that the processor calls `class_info_file`; on
    the hub it lies in another repository.  A Mask2Former does the one task that its weights were trained for, which
    the option `task` names.  Raises FileNotFoundError for a folder without a configuration, ValueError for another
    network's, and `WeightsUnavailable` for files that are neither cached nor reachable.
    """
    at = source.id if file is None else str(_folder(file))
    reader = _oneformer if source.options["kind"] == "oneformer" else _mask2former
    try:
        return reader(source, at, where, {} if cache_dir is None else {"cache_dir": cache_dir})
    except OSError as error:
        if file is not None:
            raise FileNotFoundError(
                f"weights: expected a checkpoint of transformers in {at}, got none: {error}"
            ) from error
        missing = "shi-labs/oneformer_demo's list of classes or a file" if "oneformer" in at else "a file"
        raise weights.unavailable(source, f"{missing} of {source.id}") from error


def _folder(file: Path) -> Path:
    folder = file if file.is_dir() else file.parent
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"weights: expected a folder with config.json, got {folder}")
    return folder


def _checked(config: Any, kind: str) -> Any:
    if config.model_type != kind:
        raise ValueError(f"weights: expected those of a {kind}, got those of a {config.model_type}")
    return config


def _oneformer(source: weights.Weights, at: str, where: torch.device, cache: dict[str, str]) -> OneFormer:
    from transformers import AutoConfig, OneFormerForUniversalSegmentation, OneFormerProcessor

    config = _checked(AutoConfig.from_pretrained(at, **cache), "oneformer")
    config.is_training = False  # as saved after training it is True, and the network would ask for texts
    beside = {"repo_path": at} if Path(at).is_dir() else {}  # a saved processor keeps the path where it was made
    processor = OneFormerProcessor.from_pretrained(at, **beside, **cache)
    processor.task_seq_length = config.task_seq_len  # which the older layout does not hold
    network = OneFormerForUniversalSegmentation.from_pretrained(at, config=config, **cache)
    metadata = processor.image_processor.metadata
    classes = metadata["class_names"]

    def prepare(images: UInt8[Tensor, "b 3 h w"], task: str) -> dict[str, Tensor]:
        return dict(processor(list(images), [task] * len(images), return_tensors="pt"))

    things = [n in metadata["thing_ids"] for n in range(len(classes))]
    return OneFormer(network.to(where).requires_grad_(False), prepare, classes, things)


def _mask2former(source: weights.Weights, at: str, where: torch.device, cache: dict[str, str]) -> Mask2Former:
    from transformers import AutoConfig, AutoImageProcessor, Mask2FormerForUniversalSegmentation

    config = _checked(AutoConfig.from_pretrained(at, **cache), "mask2former")
    processor = AutoImageProcessor.from_pretrained(at, **cache)
    network = Mask2FormerForUniversalSegmentation.from_pretrained(at, config=config, **cache)
    classes = [config.id2label[n] for n in range(config.num_labels)]
    things = [n < source.options.get("things", COCO_THINGS) for n in range(len(classes))]

    def prepare(images: UInt8[Tensor, "b 3 h w"], task: str) -> dict[str, Tensor]:
        return dict(processor(list(images), return_tensors="pt"))

    task = source.options.get("task", "panoptic")
    return Mask2Former({task: network.to(where).requires_grad_(False)}, prepare, classes, things)
