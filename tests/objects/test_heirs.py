"""SAM 2 and SAM 3 load offline from small checkpoints of their own classes, and answer as the library does."""

from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS, rewrite

from gadkit import zoo
from gadkit.objects import heirs
from gadkit.objects.protocols import OpenVocabulary, Promptable
from gadkit.weights import WeightsUnavailable


@pytest.fixture(scope="module")
def image() -> torch.Tensor:
    return torch.randint(256, (3, 48, 80), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def sam2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small SAM 2 with weights that make a difference."""
    folder, made = tmp_path_factory.mktemp("sam2"), heirs.small_sam2()
    draw = torch.Generator().manual_seed(0)
    for parameter in made.model.parameters():
        torch.nn.init.normal_(parameter, std=0.2, generator=draw)
    made.model.save_pretrained(folder), made.processor.save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def sam3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, made = tmp_path_factory.mktemp("sam3"), heirs.small_sam3()
    made.model.save_pretrained(folder), made.processor.save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sam_2_answers_as_the_library_does(sam2: Path, layout: str, image: torch.Tensor, copied) -> None:
    model = zoo.load("sam-2", "paper", file=copied(sam2, layout))
    assert isinstance(model, Promptable)
    points = torch.tensor([[[20.0, 30.0], [50.0, 10.0]], [[70.0, 40.0], [3.0, 3.0]]])
    labels, boxes = torch.tensor([[1, 0], [1, 1]]), torch.tensor([[5.0, 6.0, 60.0, 40.0], [0.0, 0.0, 80.0, 48.0]])
    found = model.set_image(image).predict(points, labels, boxes)
    given = model.processor(
        images=image,
        input_points=[points.tolist()],
        input_labels=[labels.tolist()],
        input_boxes=[boxes.tolist()],
        return_tensors="pt",
    )
    sizes = given.pop("original_sizes")
    out = model.model(**given, multimask_output=True)
    torch.testing.assert_close(found.logits, out.pred_masks[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.iou, out.iou_scores[0], atol=1e-5, rtol=1e-4)
    assert torch.equal(found.masks, model.processor.post_process_masks(out.pred_masks, sizes)[0])
    again = model.predict(points, labels, logits=found.logits[:, 0], several=False)
    assert again.masks.shape == (2, 1, 48, 80)
    assert not torch.equal(again.logits, model.predict(points, labels, several=False).logits), "a mask is a prompt"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_sam_3_answers_words_with_masks(sam3: Path, layout: str, image: torch.Tensor, copied) -> None:
    model = zoo.load("sam-3", "paper", file=copied(sam3, layout))
    assert isinstance(model, OpenVocabulary)
    texts = ["a gear", "a red bolt"]
    (found,), (boxes,) = model.segment(image[None], texts, 0.0), model.detect(image[None], texts, 0.0)
    assert found.masks.shape == (len(found.labels), 48, 80)
    assert (found.scores.diff() <= 0).all()
    assert torch.equal(boxes.labels, found.labels)
    for label, text in enumerate(texts):
        given = model.processor(images=image, text=text, return_tensors="pt")
        sizes = given.pop("original_sizes").tolist()
        out = model.model(**given)
        (one,) = model.processor.post_process_instance_segmentation(out, threshold=0.0, target_sizes=sizes)
        mine = found.labels == label
        torch.testing.assert_close(found.scores[mine], one["scores"].sort(descending=True).values)
    (nothing,) = model.segment(image[None], texts, 1.0)
    assert nothing.masks.shape == (0, 48, 80)


def test_bad_input(sam2: Path, image: torch.Tensor, sam3: Path) -> None:
    model = zoo.load("sam-2", "paper", file=sam2)
    with pytest.raises(RuntimeError, match="expected an image first"):
        model.predict(torch.zeros(1, 1, 2))
    model.set_image(image)
    with pytest.raises(ValueError, match="expected points, boxes or both"):
        model.predict()
    with pytest.raises(ValueError, match="inside the image"):
        model.predict(torch.tensor([[[90.0, 3.0]]]))
    with pytest.raises(ValueError, match="expected left < right"):
        model.predict(boxes=torch.tensor([[9.0, 9.0, 3.0, 12.0]]))
    with pytest.raises(ValueError, match="texts"):
        zoo.load("sam-3", "paper", file=sam3).segment(image[None], [])


@pytest.mark.parametrize("name", ["sam-2", "sam-3"])
def test_what_is_not_there(name: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=name.replace("-", "")):
        zoo.load(name, "paper", cache_dir=str(tmp_path))
    with pytest.raises(FileNotFoundError):
        zoo.load(name, "paper", file=tmp_path / "model.safetensors")


@pytest.fixture
def copied(tmp_path: Path):
    """A checkpoint's folder again, its processor in another layout."""
    import shutil

    def copy(file: Path, layout: str) -> Path:
        shutil.copytree(file.parent, tmp_path / "copy")
        rewrite(tmp_path / "copy" / file.name, layout)
        return tmp_path / "copy" / file.name

    return copy
