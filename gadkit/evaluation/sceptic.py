"""A sceptic's baseline for models of pictures and words: colours for eyes, and a bag of words.

A picture is its histogram of the eleven plain colours.  A text fits as far as its words are those of the captions of
the pictures whose histograms are nearest.  Nothing is learnt, no word has a meaning and no order counts.

Book: multimodal/contrastive
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit.checks import check_images, check_texts, checked, whole
from gadkit.factory.scenes.words import COLOURS, colours

CHUNK = 256  # pictures whose colours are counted together


@checked
def histograms(images: UInt8[Tensor, "b 3 h w"], chunk: int = CHUNK) -> Float[Tensor, "b c"]:
    """The share of each plain colour in each picture."""
    found = []
    for some in check_images(images).split(chunk):
        places = colours(some).flatten(1)
        counts = torch.zeros(len(some), len(COLOURS), device=places.device)
        found.append(counts.scatter_add_(1, places, torch.ones_like(places, dtype=torch.float)) / places.shape[1])
    return torch.cat(found)


class Sceptic:
    """Histograms of known pictures, and the words of their captions.

    Raises ValueError for other numbers of pictures and captions, or more neighbours than pictures.
    """

    def __init__(self, images: UInt8[Tensor, "n 3 h w"], captions: Sequence[str], neighbours: int = 10) -> None:
        if len(images) != len(check_texts(captions, "captions")):
            raise ValueError(f"captions: expected one for each of {len(images)} pictures, got {len(captions)}")
        self.neighbours = whole("neighbours", neighbours, 1, len(images))
        words = sorted({word for text in captions for word in text.split()})
        self._places = {word: place for place, word in enumerate(words)}
        self.known, self.texts = histograms(images), self.bags(captions)

    def bags(self, texts: Sequence[str]) -> Float[Tensor, "t w"]:
        """Which words each text has, as unit vectors; words that no caption had do not count."""
        bags = torch.zeros(len(texts), len(self._places) + 1)
        for row, text in enumerate(texts):
            for word in text.split():
                bags[row, self._places.get(word, -1)] = 1
        return F.normalize(bags[:, :-1], dim=1)

    @torch.no_grad()
    def similarity(self, images: UInt8[Tensor, "b 3 h w"], texts: Sequence[str]) -> Float[Tensor, "b t"]:
        """How much the words of each text are those of the captions of each picture's nearest known pictures."""
        far = torch.cdist(histograms(images.cpu()), self.known, p=1)
        near = far.topk(self.neighbours, largest=False).indices  # (b, k)
        return self.texts[near].mean(1) @ self.bags(check_texts(texts)).T
