"""timm's own networks at the size of the book's transformer: the supervised baselines.

Source: Dosovitskiy et al. 2021; Liu et al. 2021; Liu et al. 2022.
Book: selfsup/attention, selfsup/supervised
"""

from torch import nn

from gadkit.checks import one_of
from gadkit.nn import private

ARCHITECTURES = ("vit", "convnext", "swin")


def tiny_model(architecture: str) -> nn.Module:
    """timm's own ViT, ConvNeXt or Swin with about 1.2 million parameters, untrained, without a classifier.

    They learn from crops of 64 px and take larger images as they come.  Raises ValueError for another architecture.
    """
    one_of("architecture", architecture, ARCHITECTURES)
    with private.without_compiler():
        from timm import models

    if architecture == "vit":
        return models.VisionTransformer(
            64, 8, embed_dim=128, depth=6, num_heads=4, num_classes=0, dynamic_img_size=True
        )
    if architecture == "convnext":  # no layer scale: at 1e-6 a short training would leave most blocks unused
        return models.ConvNeXt(depths=(2, 2, 6, 2), dims=(24, 48, 96, 192), ls_init_value=None, num_classes=0)
    stages = {"embed_dim": 24, "depths": (2, 2, 6, 1), "num_heads": (1, 2, 4, 8), "window_size": 4}
    return models.SwinTransformer(64, 4, **stages, drop_path_rate=0.0, num_classes=0, dynamic_img_size=True)
