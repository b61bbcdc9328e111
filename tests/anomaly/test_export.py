"""A detector as an ONNX graph: what onnxruntime computes with it, from pixels that Pillow has resized."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from gadkit import factory, zoo
from gadkit.anomaly import export
from gadkit.anomaly.detectors import build
from gadkit.anomaly.detectors.anomalyclip import AnomalyCLIP, untrained
from gadkit.anomaly.detectors.knn import KNN, PatchKNN
from gadkit.anomaly.detectors.subspace import SubspaceAD
from gadkit.anomaly.detectors.winclip import WinCLIP
from gadkit.anomaly.tiles import Tiled
from gadkit.backbones import OpenCLIP, Timm
from gadkit.protocols import Detector


def small() -> Timm:
    """An untrained network of the kind of the real eyes, which is exported in seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = timm.create_model("test_efficientnet", num_classes=0)
    config = {"input_size": (3, 64, 64), "interpolation": "bicubic", "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.2)}
    return Timm(model, config, patch_size=8)


def by_onnx(content: bytes, images: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Scores and maps without torch: Pillow resizes as the metadata say, onnxruntime computes."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["gadkit"])
    side = facts["input"]["side"]
    assert facts["input"]["resize"] == "bicubic"
    planes = [[Image.fromarray(plane.numpy().astype(np.float32)) for plane in image] for image in images]
    squashed = [[np.array(plane.resize((side, side), Image.Resampling.BICUBIC)) for plane in image] for image in planes]
    return tuple(session.run(["scores", "maps"], {"pixels": np.array(squashed).clip(0, 255)}))


def check(detector: Detector, images: torch.Tensor) -> bytes:
    """Export a fitted detector, and hold the graph to it."""
    content = export.to_onnx(detector, {"threshold": 0.25})
    scores, maps = by_onnx(content, images)
    result = detector.score(images)
    np.testing.assert_allclose(scores, result.scores, atol=1e-4)
    upsampled = torch.nn.functional.interpolate(torch.tensor(maps)[:, None], images.shape[2:], mode="bilinear")[:, 0]
    if smooth := export.facts_of(content)["smooth"]:
        deviations = [smooth * side for side in images.shape[2:]]
        upsampled = torch.stack([torch.tensor(gaussian_filter(fine.numpy(), deviations)) for fine in upsampled])
    torch.testing.assert_close(upsampled, result.maps, atol=1e-4, rtol=0)
    return content


def test_a_plane_as_a_graph(images: torch.Tensor) -> None:
    detector = SubspaceAD(small(), explained=0.8, turns=2, extent=0.5).fit(images[:2])
    content = check(detector, images)
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    facts = export.facts_of(content)
    assert (facts["detector"], facts["tiles"], facts["threshold"]) == ("SubspaceAD", None, 0.25)
    assert facts["output"]["maps"] == [8, 8]
    assert export.about(Tiled(detector, 64, 0.3))["tiles"] == {"size": 64, "overlap": 0.3}
    other = SubspaceAD(detector.backbone, explained=0.8).fit(images[2:])
    with pytest.raises(RuntimeError, match="expected a graph that agrees with the detector"):
        export._check_agrees(content, other)


@pytest.mark.slow
def test_a_memory_with_several_neighbours_and_layers_as_they_are(images: torch.Tensor) -> None:
    check(PatchKNN(small(), (0, -1), k=3, top=0.1, finer="join").fit(images[:2]), images)
    check(SubspaceAD(small(), (-1, -1), merge="mean").fit(images[:2]), images)


@pytest.mark.parametrize(
    ("shots", "settings"),
    [
        (0, {}),
        (2, {"patch_norm": True, "fusion": "harmonic"}),
        (2, {"image_term": False, "scales": (3,), "patch_layer": 0, "fusion": "sum"}),
        (0, {"scales": ()}),
    ],
)
def test_words_and_windows_as_a_graph(
    shots: int, settings: dict, images: torch.Tensor, backbone: OpenCLIP, untyped: None
) -> None:
    detector = WinCLIP(backbone, "nut", **settings).fit(images[:shots] if shots else None)
    content = check(detector, images)  # among them those that it was fitted on: nothing is nearer
    onnx.checker.check_model(onnx.load_from_string(content), full_check=True)
    assert export.facts_of(content)["smooth"] == 0


@pytest.mark.parametrize("settings", [{"sigma": 0.05}, {"layers": (0, -1), "class_norm": True, "blocks": 1}])
def test_learnt_prompts_as_a_graph(settings: dict, images: torch.Tensor, backbone: OpenCLIP, untyped: None) -> None:
    detector = AnomalyCLIP(backbone, untrained(backbone), **settings).fit()
    assert export.facts_of(check(detector, images))["smooth"] == detector.sigma


@pytest.mark.slow
@pytest.mark.parametrize("name", ["winclip", "anomalyclip"])
def test_the_detectors_that_read_on_the_real_eyes(name: str) -> None:
    check(build(name, zoo.load("clip"), "fuse").fit(), factory.test_set("fuse", 3, 1, "loose").images)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["subspace", "patch-knn"])
def test_the_default_detectors_on_the_real_eyes(name: str) -> None:
    data = factory.test_set("fuse", 3, 1, "loose", references=4)
    check(build(name, zoo.load("efficientnet-lite0")).fit(data.references), data.images)


def test_what_has_no_form_is_refused(images: torch.Tensor, tiny_clip, untyped: None) -> None:
    eyes = small()
    with pytest.raises(ValueError, match="an ONNX form, one of WinCLIP, PatchKNN, SubspaceAD, AnomalyCLIP, got KNN"):
        export.to_onnx(KNN(eyes).fit(images), {})
    with pytest.raises(ValueError, match="a network of timm, such as efficientnet-lite0, got one on OpenCLIP"):
        export.to_onnx(PatchKNN(tiny_clip()).fit(images), {})
    with pytest.raises(RuntimeError, match="not fitted"):
        export.to_onnx(PatchKNN(eyes), {})
    with pytest.raises(ValueError, match="one of winclip, patch-knn, subspace, anomalyclip, got inctrl"):
        export.check("inctrl")
    words = WinCLIP(tiny_clip(), "nut")
    with pytest.raises(ValueError, match="expected a detector on patches, got WinCLIP"):
        export.eyes_to_onnx(words)
    with pytest.raises(ValueError, match="expected a detector with resize 'torch', got one with 'pil'"):
        export.to_onnx(WinCLIP(words.backbone, "nut", resize="pil").fit(), {})
    words.backbone.preprocess = torch.nn.Identity()
    with pytest.raises(ValueError, match="expected gadkit's preprocessing"):
        export.to_onnx(words.fit(), {})
    for content in (b"", b"no graph", onnx.ModelProto().SerializeToString()):
        assert not export.is_graph(content)
        with pytest.raises(ValueError, match="expected a graph that `gadkit export` wrote"):
            export.facts_of(content)
