"""Test sets that are still to be loaded: the factory's, folders', the textiles', and classes as anomalies.

Book: anomaly/benchmark
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gadkit import factory
from gadkit.checks import checked, one_of, whole
from gadkit.data import semantic
from gadkit.data.folders import Depth, ImageFolder
from gadkit.data.testsets import folder_sets, kind_of, textile_sets
from gadkit.factory.sets import PROTOCOLS
from gadkit.protocols import TestSet

TEXTILES = "textiles"
BATCH = -1  # in place of a number of shots: the detector is fitted on the images to score, without their labels


@dataclass(frozen=True)
class Case:
    """A test set that is still to be loaded.

    `data` is where it comes from.  With `drawn`, a seed draws its own references; without, they are the first ones.
    `kind` is "texture" or "object" where that is known.
    """

    category: str
    data: str
    variant: int
    seeds: tuple[int, ...]
    load: Callable[[], TestSet]
    drawn: bool = False
    kind: str | None = None

    def cells(self, shots: Sequence[int]) -> list[tuple[int, int]]:
        """Seeds and shots to measure: without references there is nothing to draw, and one seed says it all."""
        return [(seed, k) for seed in self.seeds for k in shots if k > 0 or seed == self.seeds[0]]

    def open(self, shots: Sequence[int], done: Collection[tuple]) -> list[tuple[int, int]]:
        """Those of the `cells` whose (category, data, variant, seed, shots) is not in `done`."""
        return [(s, k) for s, k in self.cells(shots) if (self.category, self.data, self.variant, s, k) not in done]


@checked
def factory_cases(
    categories: Sequence[str],
    regime: str = "loose",
    variants: int = 5,
    seeds: Sequence[int] = (0, 1, 2),
    references: int = 4,
    size: int = 96,
    defects: str = "local",
) -> list[Case]:
    """`variants` products of each category under each data seed; `references` bounds the shots.

    `defects` are "local" or "global", as in `factory.test_set`.  Raises ValueError for no categories or seeds, and for
    another word.
    """
    whole("variants", variants), one_of("defects", defects, PROTOCOLS), one_of("regime", regime, factory.NUISANCE)
    data = regime if defects == "local" else f"{regime}, {defects}"
    options = {"references": references, "size": size, "defects": defects}
    if not categories or not seeds:
        raise ValueError(f"benchmark: expected categories and seeds, got {tuple(categories)} and {tuple(seeds)}")
    return [
        Case(c, data, v, (s,), partial(factory.test_set, c, v, s, regime, **options), False, _kind(c))
        for c in categories
        for v in range(variants)
        for s in seeds
    ]


@checked
def folder_cases(
    root: Path | str,
    categories: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    size: int = 240,
    depth: Depth | None = None,
) -> list[Case]:
    """Every category of a data set in a known layout, or those named, squashed to `size` pixels.

    A seed draws the references among the photographs to train on; `depth` is as in `folder_sets`.  Raises ValueError
    for an unknown category, and for a folder whose layout says nothing about defects.
    """
    folder_sets(root, size, depth, categories)  # asks nothing of the photographs yet
    where = str(Path(root).resolve())
    return [
        Case(name, where, 0, tuple(seeds), partial(_only, root, size, depth, name), True, _kind(name))
        for name in categories or ImageFolder(root).categories
    ]


@checked
def textile_cases(
    source: Path | str | None = None, seeds: Sequence[int] = (0, 1, 2), size: int = 224, each: int = 75
) -> list[Case]:
    """The simulated textiles, local and global faults apart; arguments and errors as those of `textile_sets`."""
    sets = textile_sets(source, size, each)
    return [Case(data.category, TEXTILES, 0, tuple(seeds), partial(_as_is, data), True, "texture") for data in sets]


@checked
def semantic_cases(
    source: str,
    protocols: Sequence[str] = semantic.PROTOCOLS,
    seeds: Sequence[int] = (0, 1, 2),
    size: int = 96,
    each: int = 20,
    root: Path | None = None,
) -> list[Case]:
    """Classes as anomalies: a test set for each class of a source, under each protocol; see `semantic.semantic_set`."""
    names, found = semantic.classes(source, root), []
    for protocol in protocols:
        data = f"{source}, {one_of('protocol', protocol, semantic.PROTOCOLS)}"
        for name in names:
            load = partial(semantic.semantic_set, source, protocol, name, size, each, root)
            found.append(Case(name, data, 0, tuple(seeds), load, True))
    return found


def _only(root: Path | str, size: int, depth: Depth | None, category: str) -> TestSet:
    return next(folder_sets(root, size, depth, (category,)))


def _as_is(data: TestSet) -> TestSet:
    return data


def _kind(category: str) -> str | None:
    known = factory.CATEGORIES.get(category)
    return known.kind if known else kind_of(category)
