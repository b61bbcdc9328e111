"""What a sceptic would try first: a threshold on brightness, and the pieces that hang together.

    >>> from gadkit.factory import scenes
    >>> [len(found.labels) for found in Otsu().segment(scenes.render(1, split="development").images, "semantic")]
    [2]

Source: Otsu 1979, A Threshold Selection Method from Gray-Level Histograms.
Book: objects/universal
"""

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from gadkit.checks import check_images, checked, one_of, share
from gadkit.objects.protocols import Segments
from gadkit.objects.segments import TASKS
from gadkit.objects.universal import CLASSES

LEAST = 0.004  # of the image: smaller pieces are crumbs


@checked
class Otsu:
    """Otsu's threshold on grey values; the side that holds less of the frame's rim is parts, each piece one part.

    Pieces below the share `least` of the image are no parts.
    """

    classes = CLASSES

    def __init__(self, least: float = LEAST) -> None:
        self.least = share("least", least, zero=True)

    @property
    def device(self) -> torch.device:
        """It computes on the CPU."""
        return torch.device("cpu")

    def segment(self, images: UInt8[Tensor, "b 3 h w"], task: str = "panoptic") -> list[Segments]:
        """The segments of each image, all with score 1.  Raises ValueError for another task."""
        one_of("task", task, TASKS)
        return [self._one(image, task) for image in check_images(images).cpu()]

    def _one(self, image: UInt8[Tensor, "3 h w"], task: str) -> Segments:
        from skimage.measure import label

        front = foreground(image)
        if task == "semantic":
            masks, kinds = [~front, front], [0, 1]
        else:
            pieces = torch.from_numpy(label(front.numpy(), connectivity=1).astype(np.int64))
            masks = [pieces == n for n in range(1, int(pieces.max()) + 1)]
            masks = [mask for mask in masks if mask.float().mean() >= self.least]
            kinds = [1] * len(masks)
            if task == "panoptic":
                masks, kinds = [~front, *masks], [0, *kinds]
        some = torch.stack(masks) if masks else torch.zeros(0, *front.shape, dtype=torch.bool)
        here = some.flatten(1).any(1)
        return Segments(some[here], torch.tensor(kinds, dtype=torch.long)[here], torch.ones(int(here.sum())))


def foreground(image: UInt8[Tensor, "3 h w"]) -> Bool[Tensor, "h w"]:
    """The pixels on that side of Otsu's threshold which holds less of the frame's rim."""
    from skimage.filters import threshold_otsu

    grey = image.float().mean(0)
    if grey.max() == grey.min():
        return torch.zeros_like(grey, dtype=torch.bool)
    front = grey > threshold_otsu(grey.numpy())
    rim = torch.cat([front[0], front[-1], front[:, 0], front[:, -1]])
    return ~front if rim.float().mean() > 0.5 else front
