"""SAA and SAA+ against their literal form, and what happens where nothing is found."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import tiny_objects
import torch
from literal_saa import Literal
from suite import textured, through_files
from torch import Tensor

from gadkit.anomaly import saliency
from gadkit.anomaly.detectors import SAA, backbone_of, build, saa
from gadkit.anomaly.hybrid import HybridPrompts
from gadkit.backbones import OpenCLIP, Timm
from gadkit.backbones.timm_models import TINY
from gadkit.nn.baselines import tiny_model

ignored = pytest.mark.filterwarnings("ignore::gadkit.anomaly.detectors.saa.NothingFound")
MINE = HybridPrompts(specific=("scratch", "bent {}", "hole"), area=0.7, keep=3)
SEVERAL = replace(MINE, count=2, keep=9)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(4)


@pytest.fixture(scope="module")
def finer() -> Timm:
    """Eyes whose layers have several strides."""
    torch.manual_seed(0)
    return Timm(tiny_model("convnext"), TINY, patch_size=16, patch_layers=(0, 1, 2))


def detector(eyes: object, **parameters: object) -> SAA:
    """One on the smallest models, which knows something of the part."""
    networks = {"finder": tiny_objects.finder(), "segmenter": tiny_objects.segmenter()}
    return build("saa+", eyes, "metal nut", **{**networks, "prompts": MINE, **parameters}).fit()


@ignored
@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"use": ()},
        {"use": ("language",)},
        {"rival": True},
        {"rival": True, "asks": "apart"},
        {"use": ("property",)},
        {"use": ("saliency",), "prompts": SEVERAL},
        {"use": ("confidence",), "most": 4},
        {"prompts": HybridPrompts(noun="nut,", specific=("scratch",), inside=0.6), "rival": True},
        {"asks": "apart"},
        {"asks": "apart", "use": ("property", "saliency"), "prompts": SEVERAL},
        {"asks": "apart", "use": ("saliency",), "prompts": SEVERAL, "zeroed": True},
        {"area": "mask", "asks": "apart", "prompts": replace(MINE, area=1.0)},
        {"merge": "raw", "neighbours": "nearest", "top": 0.3, "sharpness": 1.5},
        {"channels": "bgr", "shrink": False, "layers": (0, 1)},
    ],
    ids=str,
)
def test_scores_and_maps_are_those_of_the_literal_form(
    backbone: OpenCLIP, pictures: Tensor, parameters: dict[str, object]
) -> None:
    ours = detector(backbone, **parameters)
    found, plain = ours.score(pictures), Literal(ours)
    for i, image in enumerate(pictures[:2]):
        heat, score = plain.score(image)
        np.testing.assert_allclose(found.maps[i], heat, atol=1e-6, rtol=1e-6)
        np.testing.assert_allclose(found.scores[i], score, atol=1e-6, rtol=1e-6)
    assert found.scores.max() > found.scores.min()


@ignored
@pytest.mark.parametrize("parameters", [{"finer": "own"}, {"merge": "raw"}, {"finer": "own", "merge": "raw"}], ids=str)
def test_spots_of_several_strides(finer: Timm, pictures: Tensor, parameters: dict[str, str]) -> None:
    ours = detector(finer, **parameters)
    spots, grid = ours._spots(pictures[:1])
    expected = Literal(ours).spots(pictures[0])
    assert grid == expected.shape[:2] == ((24, 24) if "finer" in parameters else (6, 6))
    np.testing.assert_allclose(spots[0], expected.reshape(-1, expected.shape[2]), atol=1e-6)


@ignored
def test_options_change_what_comes_out(backbone: OpenCLIP, finer: Timm, pictures: Tensor) -> None:
    """Otherwise a literal form that ignores an option, too, would agree."""
    usual = detector(backbone).score(pictures).maps
    for change in (
        *({"use": saa.KINDS[:i] + saa.KINDS[i + 1 :]} for i in range(4)),
        *(
            {"asks": "apart"},
            {"rival": True},
            {"area": "mask"},
            {"neighbours": "nearest"},
            {"sharpness": 1.0},
            {"shrink": False},
        ),
        *({"channels": "bgr"}, {"most": 2}, {"threshold": 0.9}),
        *({"prompts": replace(MINE, noun="nut,")}, {"prompts": replace(MINE, keep=1)}),
    ):
        assert not torch.equal(detector(backbone, **change).score(pictures).maps, usual), change
    usual = detector(finer).score(pictures).maps
    for change in ({"finer": "own"}, {"merge": "raw"}, {"layers": (0,)}):
        assert not torch.equal(detector(finer, **change).score(pictures).maps, usual), change
    within = [detector(backbone, rival=True, prompts=replace(MINE, inside=share)) for share in (0.0, 0.9)]
    assert not torch.equal(*(one.score(pictures).maps for one in within))
    several = {"asks": "apart", "use": ("saliency",), "prompts": SEVERAL}
    maps = [detector(backbone, **several, zeroed=zeroed).score(pictures).maps for zeroed in (False, True)]
    assert not torch.equal(*maps)


def test_saliency_of_known_spots() -> None:
    spots = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    expected = torch.tensor([[0, 0.5, 1], [0, 0.5, 1], [0.5, 0.5, 0.5], [0.5, 1, 1]])  # distances to the others, sorted
    for neighbours, chosen in (("farthest", expected[:, 1:]), ("nearest", expected[:, :2])):
        for chunk in (1, 3, 9):
            found = saliency.self_saliency(spots, 0.5, neighbours, chunk)
            torch.testing.assert_close(found, chosen.mean(1), atol=1e-6, rtol=0)
    objects = torch.tensor([[1, 0, 0, 1], [0, 1, 0, 1]]).bool()  # the last spot belongs to both
    for zeroed, last in ((False, 1.0), (True, 0.5)):
        found = saliency.object_saliency(spots, objects, zeroed, 1)
        torch.testing.assert_close(found, torch.tensor([0, 0, 0, last]), atol=1e-6, rtol=0)
    assert not saliency.object_saliency(spots, objects[:1]).any(), "one object has nothing to be compared with"
    assert not saliency.object_saliency(spots, objects[:0]).any()


def test_weighing_and_joining_by_hand() -> None:
    masks = torch.tensor([[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]]).bool()
    heat, scores = torch.tensor([[0.1, 0.3], [0.9, 0.9]]), torch.tensor([0.5, 0.4, 0.2])
    weighed = saliency.rescore(scores, masks, heat, 2.0)
    torch.testing.assert_close(weighed, torch.tensor([0.5, 0.4, 0.2]) * torch.tensor([0.4, 0.2, 0.0]).exp())
    torch.testing.assert_close(saliency.aggregate(scores, masks), torch.tensor([[0.3, 0.25], [0, 0]]))
    torch.testing.assert_close(saliency.aggregate(scores, masks, False), torch.tensor([[0.45, 0.5], [0, 0]]))
    assert not saliency.aggregate(scores[:0], masks[:0]).any()


@pytest.mark.parametrize("name", ["saa", "saa+"])
def test_nothing_found_is_a_map_of_zeros_and_a_warning(backbone: OpenCLIP, pictures: Tensor, name: str) -> None:
    networks = {"finder": tiny_objects.finder(), "segmenter": tiny_objects.segmenter()}
    ours = build(name, backbone, "nut", **networks, threshold=1.0).fit()
    with pytest.warns(saa.NothingFound) as told:
        found = ours.score(pictures)
    assert "nothing was found in 4 of 4 images: their maps are 0" in str(told[0].message)
    assert [str(w.message) for w in told[1:]] == (
        [] if name == "saa" else ["no nut was found in 4 of 4 images: the whole image is taken for it"]
    )
    assert not found.maps.any()
    assert not found.scores.any()
    assert [len(one.boxes) for one in ours.propose(pictures)] == [0] * 4
    surest = sorted(float(one.scores.max()) for one in build(name, backbone, "nut", **networks).propose(pictures))
    some = build(name, backbone, "nut", **networks, threshold=(surest[1] + surest[2]) / 2).fit()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        together = some.score(pictures)
    assert re.match("nothing was found in [123] of 4 images: their maps are 0", str(told[0].message))
    assert 0 < together.maps.flatten(1).any(1).sum() < 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", saa.NothingFound)
        for i in range(4):  # one that is empty among others changes nothing for them
            torch.testing.assert_close(some.score(pictures[i : i + 1]).maps[0], together.maps[i], atol=1e-6, rtol=0)


@ignored
def test_networks_are_asked_once(backbone: OpenCLIP, pictures: Tensor) -> None:
    """All texts in one pass of the finder, all boxes of an image in one encoding."""
    finder, segmenter = tiny_objects.Finder(), tiny_objects.Segmenter()
    for asks, rival, passes in (("together", False, 2), ("together", True, 1), ("apart", True, 7)):
        finder.calls = segmenter.images = 0
        detector(backbone, finder=finder, segmenter=segmenter, asks=asks, rival=rival).encode(pictures)
        assert (finder.calls, segmenter.images) == (passes, len(pictures))
    ours = detector(backbone, finder=finder, segmenter=segmenter)
    encoded = ours.encode(pictures)
    finder.calls = segmenter.images = 0
    ours.score(encoded)
    assert (finder.calls, segmenter.images) == (0, 0)


@ignored
def test_candidates_say_what_they_are(backbone: OpenCLIP, pictures: Tensor) -> None:
    ours = detector(backbone, asks="apart")
    for one in ours.propose(pictures):
        assert one.texts == tuple(MINE.texts("metal nut"))
        assert (one.scores[:-1] >= one.scores[1:]).all()
        assert one.masks.shape == (len(one.boxes), 40, 56)
        assert set(one.labels.tolist()) <= set(range(len(one.texts)))
        assert (one.boxes[:, 2:] > one.boxes[:, :2]).all()
        assert one.boxes.min() >= 0
        assert (one.boxes <= torch.tensor([56, 40, 56, 40])).all()


@ignored
def test_a_state_knows_its_networks(backbone: OpenCLIP) -> None:
    state = through_files(detector(backbone).state())
    assert detector(backbone, prompts=HybridPrompts()).load_state(state).prompts == MINE
    for what, other in (("finder", tiny_objects.finder(1)), ("segmenter", tiny_objects.segmenter(1))):
        with pytest.raises(ValueError, match=f"state: expected one that was made with this {what}, got one of another"):
            detector(backbone, **{what: other}).load_state(state)
    broken = replace(state, parameters={**state.parameters, "prompts": {"general": [], "specific": []}})
    with pytest.raises(ValueError, match="expected at least one text"):
        detector(backbone).load_state(broken)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"finder": print}, "finder: expected one of the kind OpenVocabulary, got"),
        ({"segmenter": 3}, "segmenter: expected one of the kind Promptable, got int 3"),
        ({"prompts": "defect"}, "prompts: expected one of the kind HybridPrompts, got str 'defect'"),
        ({"finder": "nobody"}, "finder: expected one of .*, got 'nobody'"),
        ({"use": "saliency"}, "use: expected a tuple of language, property, saliency, confidence, got 'saliency'"),
        ({"use": ("magic",)}, "use: expected one of language, .*, got 'magic'"),
        ({"threshold": 2.0}, r"threshold: expected a share in \(0, 1\], got float 2.0"),
        ({"asks": "never"}, "asks: expected one of together, apart, got 'never'"),
        ({"neighbours": "all"}, "neighbours: expected one of farthest, nearest, got 'all'"),
        ({"sharpness": 0}, "sharpness: expected a number above 0"),
        ({"most": 0}, "most: expected a whole number from 1"),
        ({"prompts": HybridPrompts(general=(), specific=("hole",)), "use": ()}, "general: expected at least one text"),
    ],
    ids=str,
)
def test_wrong_arguments_are_named(backbone: OpenCLIP, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        detector(backbone, **parameters)


def test_others_take_no_finder(backbone: OpenCLIP) -> None:
    with pytest.raises(ValueError, match="finder: expected none, for knn stands on no models that see objects"):
        build("knn", backbone, finder="owl-vit")
    assert backbone_of("saa+", "random") == "random", "it reads by its finder"
