"""Every detector of the table keeps the same promises: one suite for all, and for those to come."""

import inspect
import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from blank_heads import blank
from suite import identical, joined, same, textured, through_files
from torch import Tensor

from gadkit import runtime
from gadkit.anomaly import detectors
from gadkit.anomaly.detectors import DETECTORS, build, default
from gadkit.anomaly.thresholds import held_out
from gadkit.backbones import OpenCLIP
from gadkit.protocols import AnomalyResult, Detector, Encoded

# untrained networks find no part in some pictures, or nothing at all
pytestmark = pytest.mark.filterwarnings("ignore::gadkit.anomaly.detectors.saa.NothingFound")
every = pytest.mark.parametrize("name", DETECTORS)
few_shot = pytest.mark.parametrize("name", [n for n, row in DETECTORS.items() if row.few_shot or row.batched])
Make = Callable[..., Detector]


@pytest.fixture(scope="module")
def make(placed: OpenCLIP) -> Make:
    def build_one(name: str, on: OpenCLIP = placed, **parameters: object) -> Detector:
        heads = blank(name) if isinstance(on, OpenCLIP) else {}
        return build(name, on, "metal nut", **heads, **parameters)

    return build_one


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(9)


def fits(name: str, pictures: Tensor) -> list[Tensor | None]:
    """What a detector can be fitted with: nothing, and four images."""
    row = DETECTORS[name]
    return [None] * bool(row.zero_shot) + [pictures[:4]] * bool(row.few_shot or row.batched)


@every
def test_a_row_leads_to_a_detector_by_the_rules(make: Make, name: str) -> None:
    row, detector = DETECTORS[name], make(name)
    assert isinstance(detector, Detector)
    assert type(detector) is getattr(detectors, row.kind)
    assert row.zero_shot or row.few_shot or row.batched
    assert row.about
    assert ("object_name" in inspect.signature(type(detector)).parameters) is row.object_name
    assert not [a for a in vars(detector) if a.endswith("_")], "nothing is learnt before fit"
    assert set(inspect.signature(type(detector)).parameters) <= set(vars(detector)), "hyper-parameters are attributes"
    assert detector.image_size == 40
    assert detector.shots == 0


@every
def test_maps_and_scores(make: Make, pictures: Tensor, name: str) -> None:
    for normal in fits(name, pictures):
        detector = make(name)
        assert detector.fit(normal) is detector
        assert detector.shots == (0 if normal is None else 4)
        for images in (pictures[4:], pictures[4:5, :, :33, :20]):
            result = detector.score(images)
            assert result.maps.shape == (len(images), *images.shape[2:])
            assert result.scores.shape == (len(images),)
            assert result.maps.dtype == result.scores.dtype == torch.float32
            assert torch.isfinite(result.maps).all()
            assert not result.maps.requires_grad
        assert len(set(detector.score(pictures[4:]).scores.tolist())) == 5, "different images score differently"


@every
def test_encoded_once_scored_often(make: Make, pictures: Tensor, name: str) -> None:
    detector = make(name)
    encoded = detector.encode(pictures[4:])
    assert isinstance(encoded, Encoded)
    assert (len(encoded), encoded.size) == (5, (40, 56))
    assert all(len(values) == 5 for values in encoded.features.values())
    for normal in fits(name, pictures):
        whole = detector.fit(normal).score(pictures[4:])
        same(detector.score(encoded), whole)
        same(detector.score(encoded[1:3]), AnomalyResult(whole.maps[1:3], whole.scores[1:3]))


@every
def test_batches_change_nothing(make: Make, pictures: Tensor, name: str) -> None:
    for normal in fits(name, pictures):
        together = make(name).fit(normal).score(pictures[4:])
        alone = [make(name).fit(normal).score(picture[None]) for picture in pictures[4:]]
        same(joined(alone), together)
        again = make(name).fit(None if normal is None else normal.flip(0))
        same(again.score(pictures[4:]), together)


@every
def test_it_gives_the_same_again_and_forgets_an_earlier_fit(make: Make, pictures: Tensor, name: str) -> None:
    for first, then in itertools.product(fits(name, pictures), repeat=2):
        fresh = make(name).fit(then).score(pictures[4:])
        assert identical(make(name).fit(then).score(pictures[4:]), fresh)
        other = None if first is None else pictures[4:8]
        assert identical(make(name).fit(other).fit(then).score(pictures[4:]), fresh)


@every
def test_results_come_back_where_the_images_are(make: Make, pictures: Tensor, name: str) -> None:
    for where, normal in itertools.product({torch.device("cpu"), runtime.device()}, fits(name, pictures)):
        images = pictures[4:].to(where)
        detector = make(name).fit(None if normal is None else normal.to(where))
        encoded = detector.encode(images)
        results = [detector.score(images), detector.score(encoded)]
        tensors = [*encoded.features.values(), *(t for r in results for t in (r.maps, r.scores))]
        assert {tensor.device.type for tensor in tensors} == {where.type}


@every
def test_zero_shot_or_an_error_that_says_it_cannot(make: Make, pictures: Tensor, name: str) -> None:
    if DETECTORS[name].zero_shot:
        assert make(name).fit().score(pictures[:2]).scores.shape == (2,)
    else:
        with pytest.raises(ValueError, match=r"normal images: .* needs some"):
            make(name).fit()


@few_shot
def test_leaving_one_out_is_fitting_without_it(make: Make, pictures: Tensor, name: str) -> None:
    detector = make(name).fit(pictures[:4])
    before = detector.score(pictures[4:])
    for i, found in enumerate(detector.leave_one_out(pictures[:4])):
        others = pictures[[j for j in range(4) if j != i]]
        same(found, make(name).fit(others).score(pictures[i : i + 1]))
    assert identical(detector.score(pictures[4:]), before)
    if not DETECTORS[name].batched:  # there an image of the set is never compared with itself
        assert (held_out(detector, pictures[:4]).scores > detector.score(pictures[:4]).scores).all()
    with pytest.raises(ValueError, match="expected at least 2"):
        held_out(detector, pictures[:1])
    with pytest.raises(ValueError, match="expected the 4 that the detector was fitted on, got 3"):
        held_out(detector, pictures[:3])


@pytest.mark.parametrize("parameters", [{"thin": 0.3}, {"turns": 3}, {"turns": 2, "thin": 0.2}], ids=str)
def test_leaving_one_out_of_a_bank_of_another_kind(make: Make, pictures: Tensor, parameters: dict) -> None:
    detector = make("patch-knn", **parameters).fit(pictures[:3])
    for i, found in enumerate(detector.leave_one_out(pictures[:3])):
        others = pictures[[j for j in range(3) if j != i]]
        same(found, make("patch-knn", **parameters).fit(others).score(pictures[i : i + 1]))


@few_shot
def test_good_parts_in_batches_of_any_size(make: Make, pictures: Tensor, name: str) -> None:
    batches = [pictures[:1], pictures[1:4], pictures[4:6, :, :33]]
    detector = make(name).fit(batches)
    assert detector.shots == 6
    whole = make(name).fit(pictures[:4]).score(pictures[4:])
    same(make(name).fit(iter([pictures[:1], pictures[1:4]])).score(pictures[4:]), whole)
    found = list(detector.leave_one_out(batches, [2, 1, 3]))
    assert [len(result.scores) for result in found] == [1, 1, 1, 1, 2], "no result holds two parts"
    others = [[pictures[2:4], batches[2]], [pictures[:2], pictures[3:4], batches[2]], [pictures[:3]]]
    for part, image, result in ((0, pictures[:1], found[0]), (0, pictures[1:2], found[1]), (2, batches[2], found[4])):
        same(result, make(name).fit(others[part]).score(image))


@pytest.mark.usefixtures("untyped")
@few_shot
def test_batches_that_do_not_fit_are_named(make: Make, pictures: Tensor, name: str) -> None:
    detector = make(name).fit([pictures[:2], pictures[2:4]])
    with pytest.raises(ValueError, match="expected at least one, got none"):
        make(name).fit([])
    with pytest.raises(ValueError, match="read more than once, got an iterator"):
        next(detector.leave_one_out(iter([pictures[:4]])))
    for batches, words in (([pictures[:3]], "got fewer"), ([pictures[:3], pictures[:2]], "got more")):
        with pytest.raises(ValueError, match=f"expected the 4 that the detector was fitted on, {words}"):
            list(detector.leave_one_out(batches))
    with pytest.raises(ValueError, match="expected the 4 that the detector was fitted on, got 3"):
        next(detector.leave_one_out([pictures[:4]], [1, 2]))
    with pytest.raises(ValueError, match="parts: expected a whole number from 1, got int 0"):
        next(detector.leave_one_out([pictures[:4]], [4, 0]))


def test_a_bank_within_a_bound(make: Make, pictures: Tensor) -> None:
    """Left out are folds: each bank is that of the other folds' parts, and none is larger than the bound."""
    bound = 30 * 32 * 4 / 1e6  # 30 of the 225 patches
    detector = make("patch-knn", bank=bound, extent=0.0).fit(pictures[:9])
    assert detector.bank_.shape == (30, 32)
    assert (detector.score(pictures).maps >= make("patch-knn").fit(pictures[:9]).score(pictures).maps - 1e-6).all()
    for i, found in enumerate(detector.leave_one_out(pictures[:9])):
        others = pictures[[j for j in range(9) if j % 5 != i % 5]]
        same(found, make("patch-knn", bank=bound, extent=0.0).fit(others.split(1)).score(pictures[i : i + 1]))
    large = make("patch-knn", bank=1.0).fit(pictures[:4])
    assert identical(large.score(pictures[4:]), make("patch-knn").fit(pictures[:4]).score(pictures[4:]))


@every
def test_words_and_colours(make: Make, pictures: Tensor, name: str) -> None:
    for normal in fits(name, pictures):
        detector = make(name).fit(normal)
        low, high = detector.map_range
        assert low < high
        assert detector.explain()[0].isupper()
        assert not detector.explain().endswith(".")
        assert ("metal nut" in detector.explain()) is DETECTORS[name].object_name
        assert ("4 images" in detector.explain()) is (normal is not None)
        assert bool(detector.remarks()) is bool(DETECTORS[name].batched)


@every
def test_a_saved_detector_comes_back_bit_for_bit(make: Make, pictures: Tensor, name: str) -> None:
    for normal in fits(name, pictures):
        detector = make(name).fit(normal)
        state = through_files(detector.state())
        other = make(name)
        assert other.load_state(state) is other
        assert other.shots == detector.shots
        assert other.explain() == detector.explain()
        assert identical(other.score(pictures[4:]), detector.score(pictures[4:]))
        if normal is not None:
            assert identical(held_out(other, normal), held_out(detector, normal))
        again = other.state()
        assert (again.parameters, set(again.tensors)) == (state.parameters, set(state.tensors))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("winclip", {"scales": (2,), "temperature": 0.01, "fusion": "harmonic", "patch_layer": 0, "resize": "pil"}),
        ("winclip", {"scales": (), "text_pooling": "normalised"}),
        (
            "inctrl",
            {"layers": (0, 1), "temperature": 0.07, "terms": ("text",), "pairing": "reference", "resize": "crop"},
        ),
        ("patch-knn", {"layers": (0, 1), "k": 2, "thin": 0.5, "turns": 2, "top": 0.1}),
        ("knn", {"k": 3}),
        ("anomalyclip", {"layers": (0, 1), "words": ("good.", "bad."), "half": True, "sigma": 0.1, "blocks": 2}),
        ("uniadet", {"peak": 0.25, "temperature": 0.01}),
    ],
)
def test_hyper_parameters_come_back_too(make: Make, pictures: Tensor, name: str, parameters: dict) -> None:
    from gadkit.anomaly.prompts import PromptEnsemble

    if DETECTORS[name].object_name:
        parameters = parameters | {"prompts": PromptEnsemble(("good {}",), ("bad {}", "{} with holes"), ("a {}.",))}
    detector = make(name, **parameters).fit(fits(name, pictures)[-1])
    other = make(name).fit(fits(name, pictures.flip(0))[-1]).load_state(through_files(detector.state()))
    assert {key: getattr(other, key) for key in parameters} == parameters
    assert identical(other.score(pictures[4:]), detector.score(pictures[4:]))


@pytest.mark.usefixtures("untyped")
@every
def test_a_state_that_does_not_fit_is_refused(make: Make, small: Callable, pictures: Tensor, name: str) -> None:
    detector = make(name).fit(fits(name, pictures)[-1])
    before, state = detector.score(pictures[4:]), detector.state()
    learnt = next(key for key in state.tensors if key not in ("backbone", "shots_"))
    spoilt = {
        rf"expected \w+, version {state.version}, got Oracle, version": replace(state, detector="Oracle"),
        rf"version {state.version}, got \w+, version 9": replace(state, version=9),
        "expected the parameters": replace(state, parameters={**state.parameters, "magic": 1}),
        f"expected tensors that fit .*{learnt}|heads: expected": replace(
            state, tensors={key: value for key, value in state.tensors.items() if key != learnt}
        ),
        "expected tensors that fit|keys: expected .* beside queries|(references|heads|pair): expected": replace(
            state, tensors={**state.tensors, learnt: state.tensors[learnt][:, :-1]}
        ),
        "expected the tensors .* got .*spare": replace(state, tensors={**state.tensors, "spare": torch.zeros(1)}),
        "tensors named backbone and shots_": replace(state, tensors={learnt: state.tensors[learnt]}),
        "NaN": replace(state, tensors={**state.tensors, learnt: state.tensors[learnt] * torch.nan}),
    }
    for message, bad in spoilt.items():
        with pytest.raises(ValueError, match=message):
            detector.load_state(bad)
        assert identical(detector.score(pictures[4:]), before), "it stays as it was"
    with pytest.raises(ValueError, match="made with this backbone, got one of other weights"):
        make(name, small(seed=2)).load_state(state)


BAD = [
    (torch.zeros(1, 3, 8, 8), "uint8"),
    (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "at least one image"),
    (torch.zeros(3, 8, 8, dtype=torch.uint8), "shape"),
    (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "shape"),
    (torch.zeros(1, 3, 1, 8, dtype=torch.uint8), "2 x 2"),
    ("folder", "str"),
]


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(("images", "reason"), BAD, ids=[reason for _, reason in BAD])
@every
def test_bad_images_are_named(make: Make, pictures: Tensor, name: str, images: object, reason: str) -> None:
    detector = make(name).fit(fits(name, pictures)[-1])
    for call in (detector.score, detector.encode):
        with pytest.raises(ValueError, match=rf"^images: .*{reason}"):
            call(images)
    takes_some = DETECTORS[name].few_shot or DETECTORS[name].batched
    with pytest.raises(ValueError, match="^normal images: .*" + (reason if takes_some else "takes none")):
        detector.fit(images)


@pytest.mark.usefixtures("untyped")
@every
def test_misuse_is_named(make: Make, pictures: Tensor, name: str) -> None:
    detector = make(name)
    for call in (lambda: detector.score(pictures), detector.state, lambda: next(detector.leave_one_out(pictures))):
        with pytest.raises(RuntimeError, match=r"not fitted yet: call fit\(normal\)"):
            call()
    detector.fit(fits(name, pictures)[-1])
    with pytest.raises(ValueError, match=r"encoded: expected the features .*, got strange, without"):
        detector.score(Encoded({"strange": torch.zeros(2, 3)}, (8, 8)))
    with pytest.raises(ValueError, match="encoded: expected at least one image, got none"):
        detector.score(detector.encode(pictures)[:0])
    with pytest.raises(ValueError, match="expected"):
        make(name, "no backbone")


def test_the_table_is_read_without_torch() -> None:
    code = "import sys; from gadkit.anomaly.detectors import DETECTORS; print(len(DETECTORS), 'torch' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(len(DETECTORS)), "False"]


def test_names_that_lead_nowhere(placed: OpenCLIP) -> None:
    assert DETECTORS[default(normal=True)].few_shot
    reading, alone = (DETECTORS[default(normal=False, named=named)] for named in (True, False))
    assert reading.zero_shot
    assert alone.zero_shot
    assert not alone.object_name
    with pytest.raises(ValueError, match=re.escape(f"detector: expected one of {', '.join(DETECTORS)}, got 'oracle'")):
        build("oracle", placed)
    with pytest.raises(ValueError, match='winclip reads, so it expects an object name such as "metal nut", got none'):
        build("winclip", placed)
    with pytest.raises(AttributeError, match="no attribute 'Oracle'"):
        detectors.Oracle  # noqa: B018 - asking is the test
