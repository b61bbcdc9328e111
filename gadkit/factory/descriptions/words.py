"""What can be said of one part: captions, and questions with their short answers.

Book: intro/factory
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from gadkit.checks import checked, share
from gadkit.factory.captions import ANOMALOUS, BY_DEFECT, NORMAL
from gadkit.factory.catalogue import CATEGORIES, lookup
from gadkit.factory.scenes.words import COLOURS

TEMPLATES = ("{}", "{}", "a photo of {}", "a close-up photo of {}", "a picture of {}", "an image of {}")
FLAWS = {  # the short answer to "what is wrong with it?"
    "broken": "broken edge",
    "missing": "missing part",
    "misplaced": "misplaced part",
}
GRADES = ((0.5, "slight"), (0.75, "moderate"), (1.0, "severe"))  # severities up to which a defect is called so


@dataclass(frozen=True)
class Fact:
    """What a photograph shows.  `noun` is the plainest word for the category, `kind` "object" or "texture".

    `colour` and `accent` are plain colour words, or "" for a part without one; `defect` is "" for a sound part, whose
    `severity` is 0.
    """

    category: str
    noun: str
    kind: str
    colour: str
    accent: str
    defect: str
    severity: float


@checked
def caption(fact: Fact, rng: random.Random, plain: float = 0.75, accented: float = 0.5, vague: float = 0.2) -> str:
    """A true sentence with colour, noun and state, e.g. "a photo of a red gear with white details and a scratch".

    With probability `plain` the noun is the fact's, else any word for the category; with probability `accented` the
    second colour is named, where there is one; with probability `vague` a defective part is only called damaged.
    Raises ValueError for probabilities outside [0, 1].
    """
    share("plain", plain, zero=True), share("accented", accented, zero=True), share("vague", vague, zero=True)
    noun = fact.noun if rng.random() < plain else rng.choice(lookup(fact.category).nouns)
    accent = fact.accent if rng.random() < accented else ""
    states = NORMAL if not fact.defect else ANOMALOUS if rng.random() < vague else BY_DEFECT[fact.defect]
    thing = phrase(rng.choice(states), f"{fact.colour} {noun}".strip(), accent)
    return rng.choice(TEMPLATES).format(thing if fact.kind == "texture" else f"{article(thing)} {thing}")


@checked
def phrase(state: str, thing: str, accent: str = "") -> str:
    """A state such as "{} with a scratch" of a thing such as "red gear", and its second colour."""
    if not accent:
        return state.format(thing)
    details = f"with {accent} details"
    if state.startswith("{} without"):
        return f"{thing} {details},{state[2:]}"
    if state.startswith("{} with"):
        return f"{thing} {details} and{state.removeprefix('{} with')}"
    return f"{state.format(thing)} {details}"


def article(words: str) -> str:
    """The article before some words: "a" or "an"."""
    return "an" if words[0] in "aeiou" else "a"


@checked
def questions(fact: Fact) -> list[tuple[str, str]]:
    """Every question that the fact answers, each with its short answer."""
    the, yes = f"the {fact.noun}", {True: "yes", False: "no"}
    flaw = FLAWS.get(fact.defect, fact.defect) or "nothing"
    asked = [
        ("what is this?", fact.noun),
        (f"is {the} damaged?", yes[bool(fact.defect)]),
        (f"is {the} flawless?", yes[not fact.defect]),
        (f"what is wrong with {the}?", flaw),
        (f"what is missing from {the}?", "part" if fact.defect == "missing" else "nothing"),
    ]
    if fact.colour:
        asked += [
            (f"what colour is {the}?", fact.colour),
            (f"what colour are the details of {the}?", fact.accent or fact.colour),
        ]
    if fact.defect:
        grade = next(word for most, word in GRADES if fact.severity <= most)
        asked.append((f"how bad is the damage of {the}?", grade))
    return asked


@checked
def vocabulary() -> list[str]:
    """Sentences with every noun of every split, every colour, state and question: a corpus for tokenizers."""
    return [*dict.fromkeys(_sentences())]


def _sentences() -> Iterator[str]:
    rng = random.Random(0)
    colours = [*COLOURS]
    for place, category in enumerate(CATEGORIES.values()):
        for number, noun in enumerate(category.nouns):
            colour, accent = colours[(place + number) % len(colours)], colours[(place + 2 * number + 3) % len(colours)]
            fact = Fact(category.name, noun, category.kind, colour, accent, "", 0.0)
            for defect in ("", *category.defects):
                worse = replace(fact, defect=defect, severity=rng.uniform(0.3, 1.0) if defect else 0.0)
                for state in (*BY_DEFECT[defect], *ANOMALOUS) if defect else NORMAL:
                    for second in ("", accent):
                        thing = phrase(state, f"{colour} {noun}", second)
                        said = thing if category.kind == "texture" else f"{article(thing)} {thing}"
                        yield rng.choice(TEMPLATES).format(said)
                yield from (text for pair in questions(worse) for text in pair)
