"""Universal segmenters: OneFormer, one network for three tasks, and Mask2Former, one network a task.

    >>> from gadkit import factory, zoo
    >>> from gadkit.factory import scenes
    >>> segmenter = zoo.load("oneformer")
    >>> found = segmenter.segment(scenes.render(1, split="development").images, "panoptic")[0]
    >>> [segmenter.classes[label] for label in found.labels]  # doctest: +SKIP
    ['table', 'part', 'part', 'part']

Both are transformers' own classes.  The tiny ones stand on frozen eyes and know two classes: the table, which is stuff,
and parts, which are things.

Source: Jain et al. 2023, OneFormer; Cheng et al. 2022, Mask2Former.
Book: objects/universal
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.tiny import tokenizer
from gadkit.checks import check_images, checked, one_of
from gadkit.objects import eyes
from gadkit.objects.protocols import Segments
from gadkit.objects.segments import SURE, TASKS, read

CLASSES, THINGS = ("table", "part"), (False, True)
SIZE = 192  # side of the square that the tiny networks see
TOKENS = 16  # of a task or a text
TEXTS = 12  # that describe what is in an image, in training
EYES = "model.pixel_level_module.encoder."  # whose weights lie in a file of their own
BATCH = 16  # images at once
Logits = tuple[Float[Tensor, "b q _"], Float[Tensor, "b q _ _"]]


class OneFormer:
    """One network that is told its task in words: the task token conditions all queries.

    `prepare(images, task)` makes the network's input.
    """

    def __init__(
        self,
        network: nn.Module,
        prepare: Callable[[UInt8[Tensor, "b 3 h w"], str], Mapping[str, Tensor]],
        classes: Sequence[str] = CLASSES,
        things: Sequence[bool] = THINGS,
    ) -> None:
        self.network, self.prepare = network.eval(), prepare
        self.classes, self.things = tuple(classes), tuple(things)

    @property
    def device(self) -> torch.device:
        """Where the network lies."""
        return next(self.network.parameters()).device

    @torch.no_grad()
    def queries(self, images: UInt8[Tensor, "b 3 h w"], task: str = "panoptic") -> Logits:
        """Logits of the classes, the last for "nothing", and of the masks, at a quarter of what the network sees.

        Raises ValueError for another task than "semantic", "instance" and "panoptic".
        """
        one_of("task", task, TASKS)
        given = self.prepare(check_images(images), task)
        out = self.network(**{name: value.to(self.device) for name, value in given.items()})
        return out.class_queries_logits, out.masks_queries_logits

    def segment(
        self, images: UInt8[Tensor, "b 3 h w"], task: str = "panoptic", threshold: float = SURE
    ) -> list[Segments]:
        """The segments of each image, at its own size.

        `threshold` is the least probability of an instance's or panoptic segment's class.  Raises ValueError for
        another task.
        """
        found = []
        for some in check_images(images).split(BATCH):
            classes, masks = self.queries(some, task)
            masks = F.interpolate(masks.float(), tuple(some.shape[2:]), mode="bilinear")
            found += [read(*one, self.things, task, threshold) for one in zip(classes.float(), masks, strict=True)]
        return found


class Mask2Former:
    """One network a task, each trained for it alone.  Its `networks` have the task as their name."""

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        prepare: Callable[[UInt8[Tensor, "b 3 h w"], str], Mapping[str, Tensor]],
        classes: Sequence[str] = CLASSES,
        things: Sequence[bool] = THINGS,
    ) -> None:
        self.parts = {task: OneFormer(network, prepare, classes, things) for task, network in networks.items()}
        self.classes, self.things = tuple(classes), tuple(things)

    @property
    def device(self) -> torch.device:
        """Where the networks lie."""
        return next(iter(self.parts.values())).device

    def segment(
        self, images: UInt8[Tensor, "b 3 h w"], task: str = "panoptic", threshold: float = SURE
    ) -> list[Segments]:
        """The segments of each image, by the network of the task.  Raises ValueError for a task without one."""
        return self.parts[one_of("task", task, self.parts)].segment(images, task, threshold)


def task_tokens(task: str) -> Int[Tensor, "1 t"]:
    """The tokens of "the task is TASK", as the network reads them."""
    return tokenizer()([f"the task is {task}"])[:, :TOKENS]


def text_tokens(task: str, labels: Sequence[str]) -> Int[Tensor, "n t"]:
    """The tokens of the texts that describe an image's segments in training, filled up with "a TASK photo"."""
    texts = [f"a photo with a {label}" for label in labels[:TEXTS]]
    return tokenizer()(texts + [f"a {task} photo"] * (TEXTS - len(texts)))[:, :TOKENS]


def tiny_config(kind: str, training: bool = False, width: int = 64) -> "transformers.PretrainedConfig":
    """The configuration of a tiny "oneformer" or "mask2former"."""
    from transformers import Mask2FormerConfig, OneFormerConfig, TimmBackboneConfig

    one_of("kind", kind, ("oneformer", "mask2former"))
    sight = TimmBackboneConfig(
        backbone=eyes.NETWORK, out_indices=eyes.LEVELS, features_only=True, use_pretrained_backbone=False
    )
    shared = {
        "backbone_config": sight,
        "num_labels": len(CLASSES),
        "hidden_dim": width,
        "mask_feature_size" if kind == "mask2former" else "mask_dim": width,
        "feature_size" if kind == "mask2former" else "conv_dim": width,
        "encoder_feedforward_dim": 2 * width,
        "encoder_layers": 1,
        "dim_feedforward": 4 * width,
        "num_attention_heads": 4,
        "num_queries": TEXTS + 4,
        "dropout": 0.0,
        "train_num_points": 512,  # of 12,544: the points are what a step costs
        "decoder_layers": 4,  # the first prediction counts as one
    }
    if kind == "mask2former":
        return Mask2FormerConfig(**shared)
    return OneFormerConfig(
        **shared,
        task_seq_len=TOKENS,
        text_encoder_width=width,
        text_encoder_context_length=TOKENS,
        text_encoder_num_layers=2,
        text_encoder_vocab_size=tokenizer().vocab_size,
        text_encoder_n_ctx=4,
        is_training=training,
    )


def build(kind: str, training: bool = False, seed: int = 0, sight: str = eyes.NAMES[0], width: int = 64) -> nn.Module:
    """An untrained tiny network, drawn by the seed, with its eyes; see `tiny_config`."""
    from transformers import Mask2FormerForUniversalSegmentation, OneFormerForUniversalSegmentation

    classes = {"oneformer": OneFormerForUniversalSegmentation, "mask2former": Mask2FormerForUniversalSegmentation}
    config = tiny_config(kind, training, width)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = classes[kind](config)
        if kind == "oneformer":  # transformers draws them fifty times smaller: all queries would answer alike at first
            nn.init.normal_(network.model.transformer_module.queries_embedder.weight)
    network.get_submodule(EYES.rstrip("."))._backbone.load_state_dict(eyes.build(sight).network.state_dict())
    return network.eval().requires_grad_(training)


def prepare_tiny(images: UInt8[Tensor, "b 3 h w"], task: str) -> dict[str, Tensor]:
    """The input of a tiny OneFormer: the image as the eyes see it, and the task in words."""
    x = eyes.prepare(images, SIZE)
    return {"pixel_values": x, "task_inputs": task_tokens(task).expand(len(x), -1)}


def _without_task(images: UInt8[Tensor, "b 3 h w"], task: str) -> dict[str, Tensor]:
    return {"pixel_values": eyes.prepare(images, SIZE)}


def save(networks: Mapping[str, nn.Module], kind: str, path: Path, sight: str = eyes.NAMES[0]) -> None:
    """Write what was trained of one network or of one a task, each under its name; what only training needs stays out.

    The eyes are named in the header.  The file is whole or not there.
    """
    state = {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
        if not key.startswith((EYES, "model.text_mapper.", "criterion."))
    }
    about = {"kind": kind, "networks": json.dumps(list(networks)), "width": str(_width(networks)), "eyes": sight}
    weights.write(state, path, about)


def _width(networks: Mapping[str, nn.Module]) -> int:
    return next(iter(networks.values())).config.hidden_dim


def load(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> OneFormer | Mask2Former:
    """The tiny network or networks from `file` or the shipped checkpoint, or the same untrained.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged one or another model's.
    """
    kind: str = source.options["kind"]
    if source.options.get("random"):
        networks = {"one": build(kind, sight=eyes.NAMES[1])}
        return OneFormer(networks["one"].to(where), prepare_tiny)
    path = file or weights.ASSETS / f"{source.id}.safetensors"
    held = weights.header(path)
    try:
        names, width = json.loads(held["networks"]), int(held["width"])
        if held["kind"] != kind:
            raise ValueError(held["kind"])
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"weights: expected those of a tiny {kind} in {path.name}, got others") from error
    networks = {}
    for name in names:
        networks[name] = build(kind, sight=held.get("eyes", eyes.NAMES[0]), width=width)
        spared = (EYES, "criterion.")
        weights.fill(networks[name], weights.read(path, f"{name}."), f"a tiny {kind}", spared)
        networks[name].to(where)
    if kind == "oneformer":
        return OneFormer(networks["one"], prepare_tiny)
    return Mask2Former(networks, _without_task)


@checked
def describe(held: OneFormer | Mask2Former) -> dict[str, Any]:
    """The numbers that a card gives: parameters that were trained, and classes."""
    networks = [part.network for part in held.parts.values()] if isinstance(held, Mask2Former) else [held.network]
    own = [p.numel() for n in networks for name, p in n.named_parameters() if not name.startswith(EYES)]
    return {"trained parameters": sum(own), "networks": len(networks), "classes": held.classes}
