"""Which words detectors are taught, which are kept from them, and a scene's things as boxes with places in a list.

Of the categories that scenes to learn from show, every fourth is withheld: its things have no box in training, and no
text asks for it in a scene.  A CLIP has read its name in captions of single photographs; a detector that starts from
one, or keeps on naming such photographs, may find it all the same.

Book: objects/open-vocabulary
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gadkit.checks import checked, share
from gadkit.factory import scenes
from gadkit.factory.catalogue import lookup

_SEEN = scenes.object_categories("seen")
WITHHELD = _SEEN[3::4]
TAUGHT = tuple(name for name in _SEEN if name not in WITHHELD)
ASKED = {"owl-vit": "a photo of a {}", "grounding-dino": "{}"}  # how a detector is asked where it is measured


@checked
def texts(categories: Sequence[str], template: str = ASKED["owl-vit"]) -> list[str]:
    """What asks for each category: its plainest noun in a template, which has {} for it.

    Raises ValueError for a category that does not exist, and a template without a place for the noun.
    """
    if template.count("{}") != 1:
        raise ValueError(f"template: expected a text with {{}} for the noun, got {template!r}")
    return [template.replace("{}", lookup(name).nouns[0]) for name in categories]


@checked
def truth(
    things: Sequence[scenes.Thing], categories: Sequence[str], least: float = 0.0
) -> tuple[Float[Tensor, "k 4"], Int[Tensor, "k"]]:
    """Boxes (left, top, right, bottom) in pixels, and the places of their categories in the list.

    Left out are things of other categories, and those of which at most the share `least` is visible.
    """
    share("least", least, zero=True)
    kept = [thing for thing in things if thing.category in categories and thing.visible > least]
    boxes = torch.tensor([thing.box for thing in kept]).reshape(-1, 4)
    return boxes, torch.tensor([categories.index(thing.category) for thing in kept], dtype=torch.long)
