"""Captions for the factory's photographs, in the style of CLIP's prompts: template, state and noun.

Book: intro/factory
"""

import random
from dataclasses import dataclass

from gadkit.checks import checked, one_of, share
from gadkit.factory.catalogue import Category, lookup

TEMPLATES = (
    "{}",
    "a {}",
    "a photo of a {}",
    "a photo of the {}",
    "a photo of one {}",
    "a close-up photo of a {}",
    "a close-up photo of the {}",
    "a cropped photo of a {}",
    "a cropped photo of the {}",
    "a bright photo of a {}",
    "a dark photo of the {}",
    "a blurry photo of a {}",
    "a good photo of a {}",
    "a photo of a {} for visual inspection",
    "a photo of the {} for anomaly detection",
    "an image of a {}",
)
NORMAL = (
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
    "normal {}",
    "good {}",
    "intact {}",
    "undamaged {}",
)
ANOMALOUS = (
    "damaged {}",
    "{} with flaw",
    "{} with defect",
    "{} with damage",
    "defective {}",
    "faulty {}",
    "abnormal {}",
    "{} with a flaw",
    "{} with a defect",
)
BY_DEFECT = {
    "scratch": ("scratched {}", "{} with a scratch", "{} with scratches"),
    "crack": ("cracked {}", "{} with a crack"),
    "hole": ("{} with a hole", "punctured {}"),
    "stain": ("stained {}", "{} with a stain"),
    "contamination": ("contaminated {}", "{} with contamination", "{} with dirt on it"),
    "discolouration": ("discoloured {}", "{} with a wrong colour"),
    "broken": ("broken {}", "chipped {}", "{} with a broken edge"),
    "bent": ("bent {}", "deformed {}"),
    "missing": ("{} with a missing part", "incomplete {}"),
    "misplaced": ("{} with a misplaced part", "misassembled {}"),
    "misprint": ("misprinted {}", "{} with a faulty print"),
}
GENERIC = {"object": ("object", "part", "item", "product"), "texture": ("texture", "surface", "material")}


@dataclass(frozen=True)
class Caption:
    """A text and what it claims: `category` None if it names none, `state` "normal", "anomalous" or a defect's name."""

    text: str
    category: str | None
    state: str


@checked
def caption(
    category: str,
    defect: str | None,
    rng: random.Random,
    generic: float = 0.2,
    invented: float = 0.2,
    vague: float = 0.5,
) -> Caption:
    """A caption of a photograph.

    With probability `generic` it says "object" or "texture" for the noun, with probability `invented` a made-up word,
    so that a model learns to read the state beside a noun it does not know.  A defective part is called by its defect
    or, with probability `vague`, only called anomalous.  Raises ValueError for an unknown category, a defect that
    has no words, and probabilities outside [0, 1] (of `generic` and `invented` together).
    """
    kind = lookup(category)
    share("generic", generic, zero=True), share("invented", invented, zero=True), share("vague", vague, zero=True)
    share("generic + invented", generic + invented, zero=True)
    if defect is not None:
        one_of("defect", defect, BY_DEFECT)
    noun, named = _noun(kind, rng, generic, invented)
    if defect is None:
        state, words = "normal", NORMAL
    elif rng.random() < vague:
        state, words = "anomalous", ANOMALOUS
    else:
        state, words = defect, BY_DEFECT[defect]
    return Caption(rng.choice(TEMPLATES).format(rng.choice(words).format(noun)), named, state)


def _noun(kind: Category, rng: random.Random, generic: float, invented: float) -> tuple[str, str | None]:
    dice = rng.random()
    if dice < generic:
        return rng.choice(GENERIC[kind.kind]), None
    if dice < generic + invented:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 8))), None
    named = None if kind.split == "randomised" else kind.name  # "a part" is true of any object
    return rng.choice(kind.nouns), named


@checked
def agrees(claim: Caption, category: str, defect: str | None) -> bool:
    """Whether a caption is true of a photograph of `category` with `defect`."""
    if claim.category not in (None, category):
        return False
    return {"normal": defect is None, "anomalous": defect is not None}.get(claim.state, claim.state == defect)
