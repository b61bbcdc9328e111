"""Which words detectors are taught, which are kept from them, and a scene's things as boxes with places in a list.

Of the categories that scenes to learn from show, every fourth is withheld: its things have no box in training, and no
text asks for it.  A CLIP has read its name in captions; a detector that starts from one may know it all the same.

Book: objects/open-vocabulary
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.factory import CATEGORIES, scenes

_SEEN = scenes.object_categories("seen")
WITHHELD = _SEEN[3::4]
TAUGHT = tuple(name for name in _SEEN if name not in WITHHELD)
ASKED = "a photo of a {}"  # how a category is asked for where detectors are measured


def texts(categories: Sequence[str]) -> list[str]:
    """What asks for each category: its plainest noun in the template `ASKED`."""
    return [ASKED.format(CATEGORIES[name].nouns[0]) for name in categories]


def truth(
    things: Sequence[scenes.Thing], categories: Sequence[str], least: float = 0.0
) -> tuple[Float[Tensor, "k 4"], Int[Tensor, "k"]]:
    """Boxes (left, top, right, bottom) in pixels, and the places of their categories in the list.

    Left out are things of other categories, and those of which at most the share `least` is visible.
    """
    kept = [thing for thing in things if thing.category in categories and thing.visible > least]
    boxes = torch.tensor([thing.box for thing in kept]).reshape(-1, 4)
    return boxes, torch.tensor([categories.index(thing.category) for thing in kept], dtype=torch.long)
