"""ConSE: a classifier's answers as a place in the space of sentences, without any training.

A classifier of a thousand names says of an image how likely each name is; a text encoder has a vector for each name.
The image goes where the likely names are: to the mean of their vectors, weighted by their probabilities.  Then any text
can be compared with it, also one that names no class.

Source: Norouzi et al. 2014, Zero-shot learning by convex combination of semantic embeddings, equations 4 and 5.
Book: multimodal/words
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.backbones import Timm
from gadkit.checks import check_finite, check_images, check_texts, checked, whole
from gadkit.nn import private
from gadkit.protocols import TextEncoder

BEST = 10  # classes whose vectors are combined: the T of the paper, which found 10 a little better than 1 or 1,000
PROMPT = "a photo of a {}"
MIDDLE = 0.875  # of the short side: what ImageNet's networks are usually evaluated on


def class_names() -> list[str]:
    """The first name of each of ImageNet's 1,000 classes, in the order of its classifiers."""
    with private.without_compiler():
        from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return [info.index_to_description(i).split(",")[0] for i in range(info.num_classes())]


@checked
def middle(images: UInt8[Tensor, "b 3 h w"], share: float = MIDDLE) -> UInt8[Tensor, "b 3 s s"]:
    """The square in the middle, whose side is a share of the short one, but at least 2 pixels."""
    height, width = check_images(images).shape[2:]
    side = max(2, int(share * min(height, width)))
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, :, top : top + side, left : left + side]


@checked
def combine(
    probabilities: Float[Tensor, "b c"], vectors: Float[Tensor, "c d"], best: int = BEST
) -> Float[Tensor, "b d"]:
    """Equation 4: the vectors of the `best` most probable classes, weighted by their probabilities, at unit length.

    Raises ValueError for a `best` that is no whole number from 1 to the number of classes, and for probabilities that
    are negative or not finite, or of which the best are all 0.
    """
    best = whole("best", best, 1, probabilities.shape[1])
    if not ((probabilities >= 0) & (probabilities < torch.inf)).all():
        raise ValueError("probabilities: expected numbers from 0 on, got some that are negative or not finite")
    p, classes = probabilities.topk(best)  # (b, t) each
    total = p.sum(1, keepdim=True)  # (b, 1), Z in the paper
    if not (total > 0).all():
        raise ValueError("probabilities: expected some above 0 for every image, got an image with none")
    kept = torch.zeros_like(probabilities).scatter(1, classes, p / total)  # (b, c)
    return F.normalize(kept.to(vectors) @ check_finite(vectors, "vectors"), dim=1)


class ConSE:
    """Images and texts in one space: that of the text encoder.

    `eyes` is a timm network with its classifier, such as `zoo.load("efficientnet-lite0")`; `classes` are the names of
    its answers, by default ImageNet's.  Vectors have unit length, so their inner products are cosines.  Raises
    ValueError for eyes without a classifier, or with another number of classes.
    """

    @checked
    def __init__(self, eyes: Timm, reader: TextEncoder, classes: Sequence[str] | None = None, best: int = BEST) -> None:
        self.classes = check_texts(class_names() if classes is None else classes, "classes")
        if eyes.model.num_classes != len(self.classes):
            raise ValueError(f"eyes: expected {len(self.classes)} classes, got {eyes.model.num_classes}")
        self.eyes, self.reader = eyes, reader
        self.best = whole("best", best, 1, len(self.classes))
        self.vectors: Float[Tensor, "c d"] = self.encode_text([PROMPT.format(name) for name in self.classes])

    @torch.no_grad()
    def probabilities(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b c"]:
        """How likely each class is in the middle of each image.  Raises ValueError for anything but RGB images."""
        pooled = self.eyes.encode_image(self.eyes.preprocess(middle(images)), ()).pooled
        return self.eyes.model.get_classifier()(pooled).softmax(1)

    def encode_image(self, images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        """Unit vectors of images.  Raises ValueError for anything but a batch of uint8 RGB images."""
        return combine(self.probabilities(images).to(self.vectors.device), self.vectors, self.best)

    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "n d"]:
        """Unit vectors of texts.  Raises ValueError for no text, or anything but texts."""
        return F.normalize(self.reader.encode_text(texts), dim=1)
