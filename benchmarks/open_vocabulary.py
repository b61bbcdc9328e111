"""OWL-ViT's speed with the vectors of its texts kept, against reading them again with every image.

Book: objects/open-vocabulary
"""

import time
from collections.abc import Callable, Iterator

from benchmarks import Timing, best
from gadkit import factory, zoo
from gadkit.objects.owl_vit import OwlViT
from gadkit.objects.training.words import texts

IMAGES = 8


def rows(
    make: Callable[[], OwlViT] = lambda: zoo.load("owl-vit", "tiny"),
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Images one by one with the words of every object of the factory, kept and read again; their answers are equal."""
    kept, plain = make(), make()
    words = texts([c.name for c in factory.CATEGORIES.values() if c.kind == "object" and c.split != "randomised"])
    images = factory.scenes.render(IMAGES, purpose="development").images

    def again() -> list:
        found = []
        for image in images.split(1):
            plain.forget()
            found += plain.detect(image, words, 0.0)
        return found

    def once() -> list:
        return [found for image in images.split(1) for found in kept.detect(image, words, 0.0)]

    seconds = best({"kept": once, "read again": again}, rounds, clock)
    for name, value in seconds.items():
        yield f"{IMAGES} images, {len(words)} texts {name}", value, "s"
    yield "texts kept against read again", seconds["read again"] / seconds["kept"], "x"
    gaps = [(a.scores - b.scores).abs().max().item() for a, b in zip(once(), again(), strict=True)]
    yield "largest change of a score", max(gaps), ""
