"""Any timm network as a frozen backbone: the supervised baselines, and what is published of the self-supervised ones.

A vision transformer keeps one grid of patches from its first block to its last.  ConvNeXt, Swin and ResNet halve theirs
from stage to stage; here every stage is brought to one grid, so that the layers of all networks can be compared.

Source: Wightman, PyTorch Image Models, 2019.
Book: selfsup/supervised
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import weights
from gadkit.backbones.preprocess import Preprocess, check_layers, check_prepared
from gadkit.checks import checked
from gadkit.data.views import MEAN, STD
from gadkit.nn import private
from gadkit.nn.baselines import tiny_model
from gadkit.protocols import Tokens

TINY = {"input_size": (3, 96, 96), "interpolation": "bicubic", "mean": (MEAN,) * 3, "std": (STD,) * 3}


class Timm:
    """A timm model with the data configuration of its weights, as a frozen backbone.

    Layers are a transformer's blocks or the stages of the others, `depth` of them.  All come on one grid, of patches
    `patch_size` pixels wide: a transformer's own, else the last stage but one's.  Nothing of a finer map is lost: the
    f x f vectors within a patch are joined into one (pixel unshuffle).  Coarser maps are interpolated.  The last layer
    is after the final norm where there is one; a final convolution to another width belongs to the image vector.

    Raises ValueError for a configuration whose images are not square or do not hold whole patches, and for
    `patch_layers` that do not exist.
    """

    @checked
    def __init__(
        self,
        model: nn.Module,
        data_config: Mapping[str, Any],
        patch_size: int | None = None,
        patch_layers: Sequence[int] | None = None,
    ) -> None:
        if missing := [k for k in ("input_size", "mean", "std") if not isinstance(data_config.get(k), tuple | list)]:
            raise ValueError(f"data_config: expected three numbers each of input_size, mean and std, not {missing}")
        self.model = model.eval().to(memory_format=torch.channels_last)  # convolutions take two thirds of the time so
        height, size = data_config["input_size"][1:]
        strides = [stage["reduction"] for stage in model.feature_info]
        self.patch_size: int = patch_size or strides[-2 if len(strides) > 1 else -1]
        if height != size or size % self.patch_size:
            raise ValueError(
                f"input_size: expected a square of whole patches, {self.patch_size} wide, got {height} x {size}"
            )
        mean, std = (tuple(data_config[key]) for key in ("mean", "std"))
        self.preprocess = Preprocess(size, mean, std, data_config["interpolation"])
        self.image_size: int = size
        self.grid: tuple[int, int] = (size // self.patch_size,) * 2
        self.depth: int = len(strides)
        self.strides: tuple[int, ...] = tuple(strides)
        if patch_layers is None:
            fine = [
                i for i, stride in enumerate(strides) if stride <= self.patch_size
            ]  # what is coarser is a blur here
            patch_layers = fine[-1:] or [0]
        self.patch_layers: tuple[int, ...] = tuple(check_layers(patch_layers, self.depth))
        self.embed_dim: int = model.head_hidden_size

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def encode_image(self, images: Float[Tensor, "b 3 s s"], layers: Sequence[int] = (-1,)) -> Tokens:
        """Encode preprocessed images: the vector that the classifier would see, and each requested layer's patches.

        Raises ValueError for layers that do not exist, and for images that are not (b, 3, image_size, image_size)
        finite floats, b > 0.
        """
        wanted, x = check_layers(layers, self.depth), check_prepared(images, self.image_size)
        return self.tokens(x.to(self.device, memory_format=torch.channels_last), wanted)

    def tokens(self, x: Float[Tensor, "b 3 s s"], wanted: Sequence[int]) -> Tokens:
        """`encode_image` without its checks, for layers counted from 0: torch can export what happens here."""
        final, maps = self.model.forward_intermediates(
            x,
            indices=sorted({*wanted}) or [self.depth - 1],
            output_fmt="NCHW",
        )
        found = {i: self._patches(x) for i, x in zip(sorted({*wanted}), maps, strict=False)}
        if self.depth - 1 in found and (last := self._map(final)).shape[1] == maps[-1].shape[1]:
            found[self.depth - 1] = self._patches(last)
        return Tokens(self.model.forward_head(final, pre_logits=True), tuple(found[i] for i in wanted), self.grid)

    def _map(self, final: Tensor) -> Float[Tensor, "b e h w"]:
        """The final features, whatever their layout, as a map without prefix tokens."""
        if final.ndim == 3:  # (b, prefix + n, e)
            patches = final[:, self.model.num_prefix_tokens :]
            return patches.transpose(1, 2).unflatten(2, self.grid)
        return final.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else final

    def _patches(self, x: Float[Tensor, "b e h w"]) -> Float[Tensor, "b n _"]:
        """A map on the common grid, row by row."""
        if x.shape[2] > self.grid[0]:
            x = _folded(x, self.grid)
        elif x.shape[2] < self.grid[0]:
            x = F.interpolate(x, self.grid, mode="bilinear")
        return x.flatten(2).transpose(1, 2)  # (b, n, e)


def _folded(x: Float[Tensor, "b e h w"], grid: tuple[int, int]) -> Float[Tensor, "b _ r c"]:
    """A finer map on a coarser grid: the vectors within a cell are joined; one that does not fit is enlarged first."""
    factor = math.ceil(max(x.shape[2] / grid[0], x.shape[3] / grid[1]))
    if x.shape[2:] != (fitting := (grid[0] * factor, grid[1] * factor)):
        x = F.interpolate(x, fitting, mode="bilinear")
    return F.pixel_unshuffle(x, factor)


def load_tiny(
    source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None
) -> Timm:
    """A network that the project trained with labels, from `file` or the shipped checkpoint.

    Raises FileNotFoundError for a file that is not there, ValueError for a damaged one or another method's.
    """
    state = weights.read_method(file or weights.ASSETS / f"{source.id}.safetensors", source.id, "encoder.")
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        model = tiny_model(source.id)
    weights.fill(model, state, source.id)
    return Timm(model.to(where), TINY, patch_size=8)


def load(source: weights.Weights, where: torch.device, file: Path | None = None, cache_dir: str | None = None) -> Timm:
    """Published weights by timm's own call, from `file`, the package's `shipped` file, the cache or the network.

    The row's options say what timm's registry does not know: `architecture`, `record` (what timm should know of the
    weights), and what the file holds beside the network's state: it lies `inside` a key, its names begin with `strip`,
    and those that then begin with one of `drop` belong to something else.  `patch_layers` describe a patch well;
    `classifier` keeps the classifier; `random` leaves the network as it is before training, by seed 0.  Raises
    `WeightsUnavailable` for weights that are neither cached nor reachable, FileNotFoundError for a `file` that is not
    there, ValueError for one that is damaged or another network's.
    """
    from urllib.error import URLError

    with private.without_compiler():
        import timm
    options, at_address = source.options, source.id.startswith("https://")
    if file is None and "shipped" in options:
        file = weights.ASSETS / options["shipped"]
    overlay = dict(options.get("record", {})) | {"hf_hub_id": None if at_address else source.id}
    if file is not None:
        overlay |= {"file": str(weights.verified(file))}
    elif at_address:
        overlay |= {"url": source.id}
    wrapped = {key: options[key] for key in ("inside", "strip", "drop") if key in options}
    extra = {"pretrained_filter_fn": _cleaner(**wrapped)} if wrapped else {}  # else the architecture's own
    try:
        if at_address and file is None:
            _demand(source.id, cache_dir)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = timm.create_model(
                options.get("architecture", source.id.removeprefix("timm/")),
                pretrained=not options.get("random", False),
                pretrained_cfg_overlay=overlay,
                cache_dir=cache_dir,
                **extra,
            )  # with its classifier, if the file has one: only then does timm insist that every weight finds its place
    except (FileNotFoundError, URLError) as error:  # the hub's own error for what is not cached is a FileNotFoundError
        missing = f"{overlay.get('hf_hub_filename', 'model.safetensors')} of {source.id}"
        raise weights.unavailable(source, "the file" if at_address else missing) from error
    except Exception as error:  # each format's reader has errors of its own
        if file is None:
            raise
        why = str(error).split("\n")[0][:200]
        raise ValueError(f"weights: expected those of {source.id} in {file.name}, got others ({why})") from error
    if not options.get("classifier", False):
        model.reset_classifier(0)
    return Timm(model.to(where), timm.data.resolve_model_data_config(model), patch_layers=options.get("patch_layers"))


def _cleaner(
    inside: str | None = None, strip: str = "", drop: tuple[str, ...] = ()
) -> Callable[[Any, nn.Module], dict[str, Tensor]]:
    """A filter from the content of a file to the state of the network: timm calls it with both."""

    def clean(held: Any, model: nn.Module) -> dict[str, Tensor]:
        state = {name.removeprefix(strip): value for name, value in held.get(inside, held).items()}
        return {name: value for name, value in state.items() if not name.startswith(drop)}

    return clean


def _demand(address: str, cache: str | None) -> None:
    """Raise FileNotFoundError for a file that is not in torch's cache when the hub is told to stay offline."""
    from huggingface_hub import constants

    folder = Path(cache or Path(torch.hub.get_dir()) / "checkpoints")
    file = folder / address.rsplit("/", 1)[1]
    if constants.HF_HUB_OFFLINE and not file.is_file():
        raise FileNotFoundError(file)
