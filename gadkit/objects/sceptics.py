"""What a sceptic would try before a network: a threshold and connected components, or the box itself.

Source: Otsu, A threshold selection method from gray-level histograms, 1979.
Book: objects/sam
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from gadkit.checks import check_images, checked, whole


@checked
def otsu(image: UInt8[Tensor, "3 h w"], points: Float[Tensor, "k 2"]) -> Bool[Tensor, "k h w"]:
    """For each click (x, y) the connected pixels on its side of Otsu's threshold of the grey image.

    A plain image is one component.  Raises ValueError for a click outside the image.
    """
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    check_images(image[None], "image")
    height, width = image.shape[1:]
    if not bool(((points >= 0) & (points < torch.tensor([width, height]))).all()):
        raise ValueError(f"points: expected them inside the image, {width} x {height}, got {points.tolist()[:3]}")
    grey = image.float().mean(0).numpy()
    bright = grey > (threshold_otsu(grey) if grey.min() < grey.max() else np.inf)
    sides = {True: ndimage.label(bright)[0], False: ndimage.label(~bright)[0]}
    found = []
    for x, y in points.long().tolist():
        parts = sides[bool(bright[y, x])]
        found.append(torch.from_numpy(parts == parts[y, x]))
    return torch.stack(found) if found else torch.zeros(0, height, width, dtype=torch.bool)


@checked
def box_filled(boxes: Float[Tensor, "k 4"], height: int, width: int) -> Bool[Tensor, "k h w"]:
    """Every pixel whose centre lies in the box.  Raises ValueError for an image without pixels."""
    whole("height", height), whole("width", width)
    x, y = torch.arange(width) + 0.5, torch.arange(height) + 0.5
    left, top, right, bottom = (side[:, None] for side in boxes.unbind(1))
    columns, rows = (x > left) & (x < right), (y > top) & (y < bottom)
    return rows[:, :, None] & columns[:, None]
