"""The catalogue of the factory: every category, its kind, its split, the defects that fit it and the words for it.

Book: intro/factory
"""

from collections.abc import Callable
from dataclasses import dataclass

from gadkit.checks import checked, one_of
from gadkit.factory.everywhere import GLOBAL, TEXTURES_ONLY
from gadkit.factory.scene import Scene

SPLITS = ("seen", "development", "held-out", "randomised")


@dataclass(frozen=True)
class Category:
    """A kind of product.  `nouns` are the words that captions use for it, the plainest first."""

    name: str
    kind: str  # "object" or "texture"
    split: str
    defects: tuple[str, ...]
    nouns: tuple[str, ...]
    draw: Callable[[Scene], None]

    @property
    def everywhere(self) -> tuple[str, ...]:
        """The faults of the whole part or photograph that it can have."""
        return tuple(kind for kind in GLOBAL if self.kind == "texture" or kind not in TEXTURES_ONLY)


CATEGORIES: dict[str, Category] = {}

_SURFACE = ("scratch", "crack", "hole", "stain", "contamination", "discolouration")


def category(
    kind: str, split: str, nouns: str, *, also: str = "", pliable: bool = True
) -> Callable[[Callable[[Scene], None]], Callable[[Scene], None]]:
    """Register the function it decorates as a category named after it.

    `nouns` is a comma-separated list.  `also` names further defects, space-separated: "missing" and "misplaced" for a
    category that calls `Scene.removable` ("missing" alone if its piece has no place to slip to), "misprint" for one
    that calls `Scene.ink`.  `pliable`: bending it shows (not so on a texture without a pattern).
    """
    if kind not in ("object", "texture") or split not in SPLITS:
        raise ValueError(f"category: expected kind object or texture and a split of {SPLITS}, got {kind!r}, {split!r}")
    if unknown := set(also.split()) - {"missing", "misplaced", "misprint"}:
        raise ValueError(f"category: expected missing, misplaced or misprint in `also`, got {unknown}")

    def register(draw: Callable[[Scene], None]) -> Callable[[Scene], None]:
        defects = _SURFACE + ("broken",) * (kind == "object") + ("bent",) * pliable + tuple(also.split())
        words = tuple(noun.strip() for noun in nouns.split(","))
        CATEGORIES[draw.__name__] = Category(draw.__name__, kind, split, defects, words, draw)
        return draw

    return register


@checked
def split(name: str) -> tuple[str, ...]:
    """Names of the categories in a split: "seen", "development" or "held-out" (or "randomised", for training)."""
    one_of("split", name, SPLITS)
    return tuple(c.name for c in CATEGORIES.values() if c.split == name)


def lookup(name: str) -> Category:
    """A category by name.  Raises ValueError naming the ones there are."""
    return CATEGORIES[one_of("category", name, CATEGORIES)]
