"""Every range of seeds, in one place: no two uses of the factory ever show the same product.

| from | for |
| --- | --- |
| 0 | pairs that the CLIP learns from (`pairs`) |
| `FIRST_FILM`, 2^38 | films to learn from (`films.motion`) |
| `FIRST_POOL`, 2^39 | unlabelled pools, and the same with geometry (`pool`, `geometry`): at most 2^36 in all |
| `FIRST_COLLECTION`, 2^39 + 2^37 | the collection of the curation experiment |
| `FIRST_LESSON`, 2^39 + 2^38 | products with a few normal photographs each, for heads that learn to compare |
| `FIRST_SCENES["training"]`, 2^39 + 2^38 + 2^37 | scenes of several parts to learn from (`scenes`): 2^34 numbers |
| `FIRST_DESCRIBED`, each 2^34 after `FIRST_SCENES` | single parts, described (`descriptions`): 2^30 numbers |
| `FIRST_TEST`, 2^40 | test sets, films to be tested on, the evaluation protocol: at most 2^44 numbers |
| `FIRST_SCENES["development"]`, 2^45 | scenes to settle choices on |
| `FIRST_SCENES["test"]`, 2^46 | scenes to be tested on |

Book: intro/factory
"""

FIRST_FILM = 1 << 38
FIRST_POOL = 1 << 39
POOLS = 1 << 12  # pools that differ by their seed
POOL_SIZE = 1 << 24  # photographs a pool may hold
FIRST_COLLECTION = FIRST_POOL + (1 << 37)
FIRST_LESSON = FIRST_POOL + (1 << 38)
FIRST_TEST = 1 << 40  # training stays below
FIRST_SCENES = {"training": FIRST_LESSON + (1 << 37), "development": 1 << 45, "test": 1 << 46}
FIRST_DESCRIBED = {purpose: first + (1 << 34) for purpose, first in FIRST_SCENES.items()}
SCENES = 1 << 18  # scenes that one seed may hold, each with 16 numbers of its own; or described photographs, with 1
