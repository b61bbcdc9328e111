"""A procedural factory: parts and materials, their defects with exact masks, and captions for all of them.

Everything is made from seeds by whole-batch tensor operations, so there is nothing to download, the truth is known to
the pixel, and categories that a model has never seen can be kept aside for certain.

Book: intro/factory
"""

from gadkit.factory.captions import Caption, agrees, caption
from gadkit.factory.catalogue import CATEGORIES, Category, split
from gadkit.factory.everywhere import GLOBAL
from gadkit.factory.mvtec import export
from gadkit.factory.parts import (  # noqa: F401 - importing registers their categories
    electric,
    household,
    materials,
    metal,
    natural,
    randomised,
    woven,
)
from gadkit.factory.render import GRADES, NUISANCE, Shots, Surfaces, render, survey
from gadkit.factory.sets import TestSet, test_set

__all__ = [
    "CATEGORIES",
    "GLOBAL",
    "GRADES",
    "NUISANCE",
    "Caption",
    "Category",
    "Shots",
    "Surfaces",
    "TestSet",
    "agrees",
    "caption",
    "export",
    "render",
    "split",
    "survey",
    "test_set",
]
