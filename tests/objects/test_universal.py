"""The tiny OneFormer and Mask2Former: shipped weights, training, and what the files hold."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gadkit import zoo
from gadkit.evaluation import segments
from gadkit.factory import scenes
from gadkit.objects import eyes, universal
from gadkit.objects.otsu import Otsu
from gadkit.objects.protocols import Universal
from gadkit.objects.segments import TASKS
from gadkit.objects.training import mask2former, mask_transformers, oneformer
from gadkit.objects.training.lessons import lessons
from gadkit.weights import ASSETS


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A OneFormer of two steps on four scenes."""
    return oneformer.train(tmp_path_factory.mktemp("run"), steps=2, scenes=4)


def test_targets_of_the_three_tasks() -> None:
    instances = torch.tensor([[0, 1], [2, 2]], dtype=torch.uint8)
    found = {task: mask_transformers.targets(instances, task) for task in TASKS}
    table, one, two = [[1, 0], [0, 0]], [[0, 1], [0, 0]], [[0, 0], [1, 1]]
    assert found["semantic"][0].tolist() == [table, [[0, 1], [1, 1]]]
    assert found["instance"][0].tolist() == [one, two]
    assert found["panoptic"][0].tolist() == [table, one, two]
    assert [labels.tolist() for _, labels in found.values()] == [[0, 1], [1, 1], [0, 1, 1]]
    texts = mask_transformers.texts("panoptic", found["panoptic"][1])
    assert texts.shape == (universal.TEXTS, universal.TOKENS)
    assert torch.equal(texts[1], texts[2])
    assert not torch.equal(texts[0], texts[1])


def test_training_writes_what_loading_reads(trained: Path) -> None:
    model = zoo.load("oneformer", file=trained)
    assert isinstance(model, Universal)
    assert trained.stat().st_size < 5e6
    image = torch.randint(256, (1, 3, 64, 80), dtype=torch.uint8)
    found = model.segment(image, "semantic")[0]
    assert found.masks.shape[1:] == (64, 80)
    assert found.masks.sum(0).eq(1).all()
    said = [model.queries(image, task)[0] for task in TASKS]
    assert not torch.allclose(said[0], said[1])  # the task's word is heard
    again = zoo.load("oneformer", file=oneformer.train(trained.parent, steps=2, scenes=4))
    assert torch.equal(again.queries(image)[1], model.queries(image)[1])


def test_lessons_are_kept_and_are_what_the_eyes_see(trained: Path) -> None:
    held, made = lessons(4, folder=trained.parent), lessons(4)
    assert held.things == made.things
    assert all(torch.equal(a, b) for a, b in zip(held.maps, made.maps, strict=True))
    assert torch.equal(held.instances, made.instances)
    network = universal.build("oneformer")
    image = scenes.render(1, 0, 128, "seen").images
    maps = network.get_submodule(universal.EYES.rstrip("."))(eyes.prepare(image, universal.SIZE)).feature_maps
    for one, kept in zip(maps, held.draw([0]), strict=True):
        torch.testing.assert_close(one, kept, atol=2e-2, rtol=2e-3)


def test_mask2former_has_a_network_for_each_task(tmp_path: Path) -> None:
    source = replace(zoo.find("oneformer", "tiny"), id="mask2former", options={"kind": "mask2former"})
    path = mask2former.train(tmp_path, steps=3, scenes=2)
    model = universal.load(source, torch.device("cpu"), path)
    assert isinstance(model, Universal)
    assert tuple(model.parts) == TASKS
    weights = [next(iter(part.network.model.transformer_module.parameters())) for part in model.parts.values()]
    assert not torch.equal(weights[0], weights[1])
    assert universal.describe(model)["networks"] == 3


def test_another_models_file_is_refused(trained: Path) -> None:
    with pytest.raises(ValueError, match=r"expected those of a tiny oneformer in clip\.safetensors, got others"):
        zoo.load("oneformer", file=ASSETS / "clip.safetensors")
    with pytest.raises(ValueError, match="eyes: expected one of"):
        eyes.build("closed")


def test_what_is_shipped_finds_parts() -> None:
    """The small sample of the card: better than untrained weights and than Otsu's threshold."""
    some = scenes.render(4, 0, 128, "development")
    models = {name: zoo.load(name) for name in ("oneformer", "oneformer-random")} | {"Otsu": Otsu()}
    found = {name: segments.quality(model.segment(some.images), some)["PQ"] for name, model in models.items()}
    assert found["oneformer"] > max(0.5, found["oneformer-random"], found["Otsu"])
