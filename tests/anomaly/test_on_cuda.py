"""What a CPU can test of running on a GPU: detectors and measures under tensors that refuse what CUDA refuses."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pretend_cuda import CUDA, pretend_cuda
from torch import Tensor

from gadkit import factory, runtime, zoo
from gadkit.anomaly import metrics
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.anomaly.maps import association
from gadkit.anomaly.thresholds import held_out, threshold
from gadkit.anomaly.tiles import Tiled
from gadkit.search.neighbors import k_centre, knn_vote, topk


@pytest.fixture(scope="module")
def parts() -> factory.TestSet:
    """A few small cookies."""
    return factory.test_set("cookie", normal=3, size=48)


@pytest.fixture
def _gpu() -> Iterator[None]:
    with pretend_cuda():
        yield


@pytest.mark.usefixtures("_gpu")
def test_the_pretended_gpu_refuses_what_cuda_refuses() -> None:
    x = torch.arange(6.0, device="cuda").view(2, 3)
    assert x.device == CUDA
    assert (x + 1).sum().item() == 21
    assert x[torch.tensor([1])].cpu().tolist() == [[3, 4, 5]]
    assert (x * torch.tensor(2.0)).device == CUDA, "a single number may come from the CPU"
    y = torch.ones(2, 3)
    for mixes in (lambda: x + y, lambda: torch.cat([x, y]), lambda: x.add_(y), lambda: y[x.long()[0]]):
        with pytest.raises(RuntimeError, match="same device"):
            mixes()
    for numbers in (x.numpy, lambda: np.asarray(x), lambda: np.array(x)):
        with pytest.raises(TypeError, match="can't convert cuda:0"):
            numbers()
    with pytest.raises(RuntimeError, match="generator"):
        torch.rand(3, device="cuda", generator=torch.Generator())
    with torch.inference_mode():  # where torch asks for `to` in one piece
        assert (torch.ones(2).to("cuda").device, x.to(y).device.type) == (CUDA, "cpu")
    assert y.copy_(x).device.type == "cpu"
    assert torch.equal(y, x.cpu())


@pytest.mark.usefixtures("_gpu")
def test_a_gpu_that_is_there_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GADKIT_DEVICE")
    assert runtime.device().type == "cuda"
    assert runtime.describe(runtime.device()) == ("cuda:0", "cuda:0, a pretended GPU")


@pytest.mark.filterwarnings("ignore::gadkit.anomaly.detectors.saa.NothingFound")
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_on_a_gpu_gives_what_it_gives_on_a_cpu(name: str, parts: factory.TestSet) -> None:
    row, known, images = DETECTORS[name], parts.references[:3], parts.images[:2]
    normal = known if row.few_shot or row.batched else None
    expected = build(name, zoo.load(row.backbone), parts.object_name).fit(normal).score(images)
    with pretend_cuda():
        detector = build(name, zoo.load(row.backbone, device="cuda"), parts.object_name)
        assert detector.backbone.device.type == "cuda"
        if row.zero_shot:
            assert detector.fit().score(images.to("cuda")).scores.device == CUDA
        if row.few_shot:
            detector.fit([known[:1].to("cuda"), known[1:].to("cuda")])
            assert held_out(detector, known).scores.shape == known.shape[:1]
        if row.batched:
            detector.fit(known.to("cuda"))
        there, here = detector.score(images.to("cuda")), detector.score(images)
        assert (there.maps.device, there.scores.device, here.maps.device.type) == (CUDA, CUDA, "cpu")
        encoded = detector.encode(images)
        again = copy.copy(detector).load_state(detector.state()).score(encoded)
        tiled = Tiled(detector, 40).score(images[:1].to("cuda"))
        assert tiled.maps.device == CUDA
        found = [(r.maps.cpu(), r.scores.cpu()) for r in (there, here, again)]
    for maps, scores in found:
        assert torch.allclose(maps, expected.maps, atol=1e-4)
        assert torch.allclose(scores, expected.scores, atol=1e-4)


def measured(scores: Tensor, maps: Tensor, labels: Tensor, masks: Tensor) -> dict[str, float]:
    """Every measure of the benchmark."""
    return {
        "image": metrics.auroc(scores, labels),
        "pixel": metrics.auroc(maps, masks),
        "precision": metrics.average_precision(scores, labels),
        "f1": metrics.f1_max(scores, labels)[0],
        "regions": metrics.aupro(maps, masks),
        "threshold": threshold(scores),
    }


def test_measures_and_searches_take_tensors_of_a_gpu(generator: torch.Generator) -> None:
    labels, masks = torch.arange(8) > 3, torch.rand(8, 6, 6, generator=generator) > 0.8
    maps = masks + torch.rand(8, 6, 6, generator=generator)
    given = (maps.amax((1, 2)) + labels, maps, labels, masks)
    features, classes = torch.randn(9, 4, generator=generator), torch.arange(9) % 2
    with pretend_cuda():
        ours = [x.to("cuda") for x in given]
        assert measured(*ours) == pytest.approx(measured(*given))
        there = features.to("cuda")
        for search in (
            lambda x, _: topk(x[:2], x, 1)[1],
            lambda x, _: topk(x[:2], x, 3, "l2")[1],
            lambda x, y: knn_vote(x[:2], x, y, 3),
            lambda x, _: k_centre(x, 3)[0],
            lambda x, _: association(x[None, :2], x),
        ):
            found = search(there, classes.to("cuda"))
            assert found.device == CUDA
            assert torch.allclose(found.cpu(), search(features, classes))
