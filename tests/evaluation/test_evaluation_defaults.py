"""What the evaluation assumes where nothing is said: numbers are only comparable at equal settings."""

from collections.abc import Callable

import pytest

from gadkit.evaluation import downstream, features, probes, protocol, representation, results, sets

DEFAULTS = [  # with where they come from
    (sets.parts, {"products": 50, "size": 96}),
    (sets.defects, {"size": 96}),
    (sets.plates, {"size": 96}),
    (sets.clips, {"frames": 4}),
    (sets.digits, {"per_class": 60}),
    (sets.photographs, {"size": 96}),
    (features.encode, {"blocks": False, "patches": False}),
    (features.Features, {}),
    (features.Features.__call__, {"blocks": False, "patches": False}),
    (probes.fit_linear, {"strength": 10.0, "tolerance": 3e-4}),
    (probes.linear_probe, {"strength": 10.0}),
    (probes.knn_accuracy, {"k": 10, "temperature": 0.07}),  # the temperature: Wu et al. 2018
    (probes.label_efficiency, {"shares": (0.01, 0.1), "seed": 0}),  # SimCLR's shares of ImageNet's labels
    (downstream.BoxHead.find, {"least": 0.01}),
    (downstream.mean_average_precision, {"iou": 0.5}),  # AP50
    (downstream.regions, {"side": 3}),
    (representation.uniformity, {"t": 2.0}),  # Wang and Isola 2020
    (representation.fit_colours, {"margin": 0.02}),
    (representation.nearest, {"k": 5}),
    (
        protocol.Sizes,
        {"side": 96, "products": (50, 6), "defects": (6, 3), "plates": (240, 80), "clips": (96, 48)},
    ),
    (
        protocol.evaluate,
        {"seeds": (0, 1, 2), "only": tuple(protocol.EVALUATORS), "sizes": protocol.Sizes()},
    ),
    (results.measure, {}),
    (results.merge, {"key": results.key, "what": "every representation by one protocol; values by seed"}),
    (results.run, {"seeds": (0, 1, 2)}),
]


@pytest.mark.parametrize(("call", "expected"), DEFAULTS, ids=[call.__qualname__ for call, _ in DEFAULTS])
def test_the_defaults_are_what_is_written(call: Callable, expected: dict, defaults: Callable) -> None:
    assert defaults(call) == expected


def test_constants_that_numbers_depend_on() -> None:
    assert (downstream.IOU, downstream.SAME) == (0.5, 0.5)
    assert (downstream.STRENGTH, downstream.RIDGE) == (1.0, 1.0)
    assert representation.ROUNDING == 10
    assert (features.CHUNKS, features.CHUNK) == ({"cpu": 8}, 256)
    assert (sets.BACKGROUND, sets.PART, sets.DEFECT) == (0, 1, 2)
    assert (sets.FILMS, sets.FRAMES, sets.TILES) == (1000, 4, 4)
