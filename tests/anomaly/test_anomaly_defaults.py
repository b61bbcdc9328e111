"""What detectors, measures and the benchmark assume where nothing is said."""

from collections.abc import Callable

import pytest

from gadkit.anomaly import benchmark, hybrid, maps, metrics, plain, saliency, thresholds
from gadkit.anomaly.detectors import (
    DETECTORS,
    DetectorSpec,
    anomalyclip,
    base,
    build,
    colour,
    default,
    inctrl,
    knn,
    musc,
    patches,
    saa,
    subspace,
    uniadet,
    winclip,
)
from gadkit.anomaly.prompts import WINCLIP
from gadkit.backbones import openclip

DEFAULTS = [  # with where they come from
    (metrics.aupro, {"limit": 0.3}),  # Bergmann et al. 2020
    (plain.plain_aupro, {"limit": 0.3, "thresholds": 200}),
    (plain.random_maps, {"seed": 0}),
    (thresholds.threshold, {"quantile": 1.0}),  # the highest held-out score
    (thresholds.held_out, {"quiet": True}),
    (maps.association, {"chunk": 2048}),
    (
        benchmark.factory_cases,
        {"regime": "loose", "variants": 5, "seeds": (0, 1, 2), "references": 4, "size": 96, "defects": "local"},
    ),
    (benchmark.folder_cases, {"seeds": (0, 1, 2), "size": 240}),  # WinCLIP's images are 240 pixels a side
    (benchmark.run, {"shots": (0, 4), "done": (), "quiet": False}),
    (knn.distances, {"k": 1}),  # AnomalyDINO and PatchCore: the nearest alone
    (patches.top_mean, {"share": 0.01}),  # AnomalyDINO, eq. 4
    (knn.KNN, {"k": 1, "chunk": 16}),
    (colour.Colour, {"cells": 32, "where": "anywhere", "chunk": 16}),  # settled on development
    (knn.PatchKNN, {"k": 1, "turns": 1, "top": 0.01, "finer": "average", "extent": 0.0, "chunk": 16}),
    (
        musc.MuSc,  # MuSc, section 4: r, the interval and, for MVTec AD, k
        {"radii": (1, 3, 5), "lowest": 0.3, "neighbours": (1, 2, 3), "most": 128, "finer": "average", "chunk": 16},
    ),
    (
        subspace.SubspaceAD,  # SubspaceAD, section 3.2: tau
        {"explained": 0.99, "turns": 1, "top": 0.01, "finer": "average", "merge": "join", "extent": 0.0, "chunk": 16},
    ),
    (
        winclip.WinCLIP,
        {
            "prompts": WINCLIP,
            "temperature": 0.07,
            "scales": (2, 3),  # WinCLIP, sections 4 and 5
            "text_pooling": "mean",
            "patch_norm": False,
            "fusion": "mean",
            "patch_layer": -1,
            "image_term": True,
            "resize": "torch",
            "precision": "float32",
            "chunk": openclip.CHUNK,
        },
    ),
    (
        inctrl.InCTRL,
        {
            "prompts": WINCLIP,
            "temperature": 0.01,  # CLIP's own, as in the published code
            "terms": ("reference", "text"),
            "pairing": "correct",
            "resize": "squash",
            "precision": "float32",
            "chunk": openclip.CHUNK,
        },
    ),
    (
        anomalyclip.AnomalyCLIP,
        {
            "words": ("object.", "damaged object."),
            "temperature": 0.07,
            "layers": (-1,),
            "class_norm": False,
            "half": False,
            "sigma": 4 / 518,  # 4 of 518 pixels
            "precision": "float32",
            "chunk": openclip.CHUNK,
        },
    ),
    (anomalyclip.untrained, {"context": 12, "rows": 8, "tokens": 4, "seed": 0}),  # section 4.1
    (
        saa.SAA,  # thresholds, 400 of 4,096 spots and the exponential: the published code
        {
            "prompts": hybrid.PLAIN,
            "use": ("language", "property", "saliency", "confidence"),
            "threshold": 0.1,
            "asks": "together",
            "rival": False,
            "area": "box",
            "merge": "unit",
            "finer": "average",
            "neighbours": "farthest",
            "top": 400 / 4096,
            "sharpness": 3.0,
            "zeroed": False,
            "shrink": True,
            "channels": "rgb",
            "most": 50,
            "chunk": 8,
        },
    ),
    (
        hybrid.HybridPrompts,
        {"general": hybrid.GENERAL, "specific": (), "count": 1, "area": 0.9, "inside": 0.0, "keep": 5},
    ),
    (saliency.self_saliency, {"top": 400 / 4096, "neighbours": "farthest", "chunk": 4096}),
    (saliency.object_saliency, {"zeroed": False, "chunk": 4096}),
    (saliency.rescore, {"sharpness": 3.0}),
    (saliency.aggregate, {"shrink": True}),
    (uniadet.UniADet, {"temperature": 0.07, "peak": 0.5, "sigma": 4 / 518, "chunk": 16}),
    (
        DetectorSpec,
        {"zero_shot": "", "few_shot": "", "batched": "", "backbone": "clip", "objects": ()}
        | dict.fromkeys(("object_name", "bank", "heads", "pixels"), False),
    ),
    (build, {}),
]


@pytest.mark.parametrize(("call", "expected"), DEFAULTS, ids=[call.__name__ for call, _ in DEFAULTS])
def test_the_defaults_are_what_is_written(call: Callable, expected: dict, defaults: Callable) -> None:
    assert defaults(call) == expected


def test_what_the_table_says() -> None:
    """What was settled for each of these; a new detector has its say in its own row."""
    reading, sighted = (
        ("winclip", "inctrl", "saa", "saa+"),
        ("patch-knn", "subspace", "musc", "made-up", "knn", "uniadet"),
    )
    backbones = {"winclip": "clip", "inctrl": "clip", "anomalyclip": "clip", "colour": "random"}
    parameters = {
        "patch-knn": {"extent": 1.0},  # settled on development: experiments.scores
        "anomalyclip": {"blocks": 1},  # likewise: its card
        "saa": {"use": ()},  # what makes it SAA
        "subspace": {"explained": 0.9, "turns": 8},  # likewise: experiments.planes
    }
    for name in {*reading, *sighted, *backbones}:
        row = DETECTORS[name]
        assert row.object_name is (name in reading)
        assert row.backbone == backbones.get(name, "efficientnet-lite0")
        assert dict(row.parameters) == parameters.get(name, {})
    assert (default(normal=True), default(normal=False)) == ("subspace", "winclip")
    assert default(normal=False, named=False) == "anomalyclip"


@pytest.mark.parametrize(
    "kind", [knn.KNN, knn.PatchKNN, winclip.WinCLIP, inctrl.InCTRL, anomalyclip.AnomalyCLIP, uniadet.UniADet]
)
def test_files_of_detectors_have_a_version(kind: type[base.Base]) -> None:
    """Saved states stay readable: whatever changes their layout raises the number, here too."""
    assert kind.version == (2 if kind is knn.PatchKNN else 1)


def test_distances_are_shown_from_a_fifth_to_one() -> None:
    assert knn.FAR == (0.2, 0.6)
    assert base.SAME == 0.999
