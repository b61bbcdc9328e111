"""Any timm network as a frozen backbone: the supervised baselines, and what is published of the self-supervised ones.

A vision transformer keeps one grid of patches from its first block to its last.  ConvNeXt, Swin and ResNet halve theirs
from stage to stage; here every stage is brought to one grid, so that the layers of all networks can be compared.

Source: Wightman, PyTorch Image Models, 2019.
Book: selfsup/supervised
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, no_type_check

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from gadkit import runtime, weights
from gadkit.backbones.openclip import Preprocess
from gadkit.checks import check_finite, describe
from gadkit.data.views import MEAN, STD
from gadkit.protocols import Tokens

ARCHITECTURES = ("vit", "convnext", "swin")
TINY = {"input_size": (3, 96, 96), "interpolation": "bicubic", "mean": (MEAN,) * 3, "std": (STD,) * 3}
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}


@dataclass(frozen=True)
class Published:
    """Weights that timm has no entry for: the architecture they fit, and what timm should know about them.

    `clean` turns what the file holds into that architecture's state.
    """

    architecture: str
    record: Mapping[str, Any]
    clean: Callable[[Any, nn.Module], dict[str, Tensor]] | None = None


def _of_simclr(held: dict[str, Any], model: nn.Module) -> dict[str, Tensor]:
    return held["state_dict"]


def _of_swav(held: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    state = {name.removeprefix("module."): value for name, value in held.items()}
    return {k: v for k, v in state.items() if not k.startswith(("projection_head.", "prototypes."))}


FOREIGN = {  # preprocessing as in the authors' own evaluations; SimCLR's network takes pixels in [0, 1] as they are
    "mocov3": Published("vit_base_patch16_224", IMAGENET),
    "simclr": Published(
        "resnet50",
        {"mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bicubic", "hf_hub_filename": "resnet50-1x.pth"},
        _of_simclr,
    ),
    "swav": Published("resnet50", IMAGENET | {"std": (0.228, 0.224, 0.225), "num_classes": 0}, _of_swav),
}


@dataclass(frozen=True)
class Resize(Preprocess):
    """`Preprocess` with the interpolation that a network was trained with, bicubic or bilinear."""

    interpolation: str = "bicubic"

    def __post_init__(self) -> None:
        if self.interpolation not in ("bicubic", "bilinear"):
            raise ValueError(f"interpolation: expected bicubic or bilinear, got {self.interpolation!r}")

    def _squash(self, x: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b 3 s s"]:
        size = (self.size, self.size)
        if x.shape[-2:] == size:
            return x
        return F.interpolate(x, size, mode=self.interpolation, antialias=True).clamp(0, 255)


class Timm:
    """A timm model with the data configuration of its weights, as a frozen backbone.

    Layers are a transformer's blocks or the stages of the others, `depth` of them.  All come on one grid, of patches
    `patch_size` pixels wide: a transformer's own, else the last stage but one's; finer maps are averaged, coarser ones
    interpolated.  The last layer is what the network itself goes on with: after the final norm where there is one.

    Raises ValueError for a configuration whose images are not square or do not hold whole patches.
    """

    def __init__(self, model: nn.Module, data_config: Mapping[str, Any], patch_size: int | None = None) -> None:
        self.model = model.eval()
        height, size = data_config["input_size"][1:]
        strides = [stage["reduction"] for stage in model.feature_info]
        self.patch_size: int = patch_size or strides[-2 if len(strides) > 1 else -1]
        if height != size or size % self.patch_size:
            raise ValueError(
                f"input_size: expected a square of whole patches, {self.patch_size} wide, got {height} x {size}"
            )
        mean, std = (tuple(data_config[key]) for key in ("mean", "std"))
        self.preprocess = Resize(size, mean, std, data_config["interpolation"])
        self.image_size: int = size
        self.grid: tuple[int, int] = (size // self.patch_size,) * 2
        self.depth: int = len(strides)
        self.embed_dim: int = model.head_hidden_size

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @no_type_check  # bad input is a ValueError
    @torch.no_grad()
    def encode_image(self, images: Float[Tensor, "b 3 s s"], layers: Sequence[int] = (-1,)) -> Tokens:
        """Encode preprocessed images: the vector that the classifier would see, and each requested layer's patches.

        Raises ValueError for layers that do not exist, and for images that are not (b, 3, image_size, image_size)
        finite floats, b > 0.
        """
        if bad := [i for i in layers if not -self.depth <= i < self.depth]:
            raise ValueError(f"layers: expected numbers from {-self.depth} to {self.depth - 1}, got {tuple(bad)}")
        wanted = [i % self.depth for i in layers]
        final, maps = self.model.forward_intermediates(
            self._checked(images), indices=sorted({*wanted}) or [self.depth - 1], output_fmt="NCHW"
        )
        found = {i: self._patches(x) for i, x in zip(sorted({*wanted}), maps, strict=False)}
        if self.depth - 1 in found:
            found[self.depth - 1] = self._patches(self._map(final))
        return Tokens(self.model.forward_head(final, pre_logits=True), tuple(found[i] for i in wanted), self.grid)

    def _map(self, final: Tensor) -> Float[Tensor, "b e h w"]:
        """The final features, whatever their layout, as a map without prefix tokens."""
        if final.ndim == 3:  # (b, prefix + n, e)
            patches = final[:, self.model.num_prefix_tokens :]
            return patches.transpose(1, 2).unflatten(2, self.grid)
        return final.permute(0, 3, 1, 2) if getattr(self.model, "output_fmt", "NCHW") == "NHWC" else final

    def _patches(self, x: Float[Tensor, "b e h w"]) -> Float[Tensor, "b n e"]:
        """A map on the common grid, row by row."""
        if x.shape[2] > self.grid[0]:
            x = F.adaptive_avg_pool2d(x, self.grid)
        elif x.shape[2] < self.grid[0]:
            x = F.interpolate(x, self.grid, mode="bilinear")
        return x.flatten(2).transpose(1, 2)  # (b, n, e)

    @no_type_check
    def _checked(self, images: Float[Tensor, "b 3 s s"]) -> Tensor:
        s = self.image_size
        if not isinstance(images, Tensor) or not images.is_floating_point() or images.shape[1:] != (3, s, s):
            raise ValueError(f"images: expected preprocessed floats (b, 3, {s}, {s}), got {describe(images)}")
        if not len(images):
            raise ValueError(f"images: expected at least one, got an empty batch of shape {tuple(images.shape)}")
        return check_finite(images, "images").to(self.device)


def tiny_model(architecture: str) -> nn.Module:
    """timm's own ViT, ConvNeXt or Swin with about 1.2 million parameters, untrained, without a classifier.

    They learn from crops of 64 px and take larger images as they come.  Raises ValueError for another architecture.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture: expected one of {', '.join(ARCHITECTURES)}, got {architecture!r}")
    from timm.models import ConvNeXt, SwinTransformer, VisionTransformer

    if architecture == "vit":
        return VisionTransformer(64, 8, embed_dim=128, depth=6, num_heads=4, num_classes=0, dynamic_img_size=True)
    if architecture == "convnext":  # no layer scale: at 1e-6 a short training would leave most blocks unused
        return ConvNeXt(depths=(2, 2, 6, 2), dims=(24, 48, 96, 192), ls_init_value=None, num_classes=0)
    stages = {"embed_dim": 24, "depths": (2, 2, 6, 1), "num_heads": (1, 2, 4, 8), "window_size": 4}
    return SwinTransformer(64, 4, **stages, drop_path_rate=0.0, num_classes=0, dynamic_img_size=True)


def load_timm(
    name: str, preset: str | None = None, device: str | None = None, cache_dir: str | Path | None = None
) -> Timm:
    """A network of this part by the preset: `tiny` has vit, convnext and swin, trained by the project with labels.

    `paper` has them as published, and dino, dinov2, mae, mocov3, simclr and swav; `cache_dir` is where timm looks for
    (and keeps) what it downloads, by default the hub's own cache.  Raises ValueError for a name or preset that is
    unknown and `WeightsUnavailable` for weights never published, or neither cached nor reachable.
    """
    where = runtime.device(device)
    if weights.preset(preset) == "tiny":
        if name not in ARCHITECTURES:
            raise ValueError(f"timm at tiny: expected one of {', '.join(ARCHITECTURES)}, got {name!r}")
        from gadkit import methods

        return Timm(methods.load(name).encoder.to(where), TINY, patch_size=8)
    record = weights.lookup(name, "paper")
    if record.library != "timm":
        raise ValueError(f"timm: expected a model of timm's, got {name!r} of {record.library}")
    return _published(name, record, cache_dir, where)


def _published(name: str, record: weights.Weights, cache_dir: str | Path | None, where: torch.device) -> Timm:
    from urllib.error import URLError

    import timm
    from timm.data import resolve_model_data_config

    given = FOREIGN.get(name) or Published(record.id.removeprefix("timm/"), {})
    at_address = record.id.startswith("https://")
    overlay = dict(given.record) | ({"hf_hub_id": None, "url": record.id} if at_address else {"hf_hub_id": record.id})
    extra = {"pretrained_filter_fn": given.clean} if given.clean else {}
    cache = None if cache_dir is None else str(cache_dir)
    try:
        if at_address:
            _demand(record.id, cache)
        model = timm.create_model(
            given.architecture, pretrained=True, pretrained_cfg_overlay=overlay, cache_dir=cache, **extra
        )  # with its classifier, if the file has one: only then does timm insist that every weight finds its place
    except (FileNotFoundError, URLError) as error:  # the hub's own error for what is not cached is a FileNotFoundError
        missing = f"{overlay.get('hf_hub_filename', 'model.safetensors')} of {record.id}"
        raise weights.unavailable(record, "the file" if at_address else missing) from error
    model.reset_classifier(0)
    return Timm(model.to(where), resolve_model_data_config(model))


def _demand(address: str, cache: str | None) -> None:
    """Raise FileNotFoundError for a file that is not in torch's cache when the hub is told to stay offline."""
    from huggingface_hub import constants

    folder = Path(cache or Path(torch.hub.get_dir()) / "checkpoints")
    file = folder / address.rsplit("/", 1)[1]
    if constants.HF_HUB_OFFLINE and not file.is_file():
        raise FileNotFoundError(file)
