"""The base of every pretext task: an encoder, photographs cut to its size, and a vector an image.

A pretext task asks a question whose answer is known without a label.  The answer is thrown away; what is kept is the
encoder that learnt to give it.

Book: pretext/context, pretext/generation, pretext/semantic
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from gadkit import distributed
from gadkit.checks import check_images, checked
from gadkit.data.views import crop, flip
from gadkit.losses.shapes import check_alike
from gadkit.method import MethodBase
from gadkit.nn.vit import ViT


class Pretext(MethodBase):
    """An encoder and the views that it is given; a task adds `views`, `loss` and `collapse`.

    `size` is the side of a view in pixels, `scale` the share of a photograph's area that a random crop keeps.  The
    papers train convolutional networks by SGD or Adam; the recipes are AdamW's for this transformer.
    """

    pool = "mean"  # no task trains the class token, so the mean over patches stands for the image

    def __init__(self, encoder: ViT | None = None, size: int = 64, scale: tuple[float, float] = (0.4, 1.0)) -> None:
        super().__init__()
        self.encoder = ViT() if encoder is None else encoder
        if size % self.encoder.patch_size:
            raise ValueError(f"size: expected a multiple of the patch, {self.encoder.patch_size}, got {size}")
        self.size, self.scale = size, scale

    def photographs(self, images: UInt8[Tensor, "b 3 h w"], size: int | None = None) -> Float[Tensor, "b 3 s s"]:
        """A random crop of each image, mirrored or not, in [0, 1]."""
        return flip(crop(check_images(images), size or self.size, self.scale))

    def patches(self, views: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b n e"]:
        """The encoder's patch tokens."""
        return self.encoder(views)[:, self.encoder.prefix :]

    def features(self, views: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b e"]:
        """The mean of the patch tokens: one vector a view."""
        return self.patches(views).mean(1)

    def pixels(
        self, outputs: Float[Tensor, "b n k"], views: Tensor, cell: int = 1
    ) -> Float[Tensor, "b c rows columns"]:
        """Lay what a head gives for every patch out as an image that has one value every `cell` pixels of the views."""
        patch = self.encoder.patch_size
        grid = views.shape[2] // patch, views.shape[3] // patch
        return F.pixel_shuffle(outputs.transpose(1, 2).unflatten(2, grid), patch // cell).float()


@checked
def init_small(module: nn.Module) -> nn.Module:
    """Initialise a head's matrices small and its biases as zero, like the encoder's: at first all answers are alike."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return module


@checked
def unexplained_variance(
    prediction: Float[Tensor, "*shape"], target: Float[Tensor, "*shape"], where: Bool[Tensor, "*shape"] | None = None
) -> Float[Tensor, ""]:
    """The share of a batch's variance that a prediction leaves: 1 for the best constant, 0 for the truth.

    Mean squared error over the variance of `target`; `where` (bool, same shape) restricts both to some entries.  A
    target that does not vary leaves nothing to explain and counts by its mean squared error alone.  The batch is
    that of all processes.  Raises ValueError for tensors of different shapes and a `where` that is nowhere true.
    """
    places = {} if where is None else {"where": where}
    check_alike("unexplained_variance", prediction=prediction, target=target, **places)
    if where is not None:
        prediction, target = prediction[where], target[where]
    target = target.float()
    count = distributed.total(torch.tensor(float(target.numel()), device=target.device))
    if where is not None and not count:
        raise ValueError("unexplained_variance: expected a `where` that is true somewhere, got one that is false")
    mean = distributed.total(target.sum()) / count
    variance = distributed.total((target - mean).square().sum()) / count
    error = (prediction.float() - target).square().sum() * distributed.world() / count
    return error / variance.clamp(min=1e-4)


@checked
def weighted_cross_entropy(
    logits: Float[Tensor, "n k *places"], labels: Int[Tensor, "n *places"], weight: Float[Tensor, "k"]
) -> Float[Tensor, ""]:
    """Cross-entropy in which a label counts by its `weight`, over the sum of weights in the batch of all processes."""
    error = F.cross_entropy(logits.float(), labels, weight.float(), reduction="sum")
    return error * distributed.world() / distributed.total(weight.float()[labels].sum())
