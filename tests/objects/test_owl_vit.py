"""OWL-ViT: the CLIP it is made of, answers in pixels, words kept, an image for a word, and published layouts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from layouts import LAYOUTS, rewrite
from torch import Tensor
from transformers import OwlViTConfig, OwlViTForObjectDetection, OwlViTImageProcessor, OwlViTProcessor

from gadkit import weights, zoo
from gadkit.backbones.openclip import OpenCLIP
from gadkit.objects import owl_vit
from gadkit.objects.open_vocabulary import answer, without_doubles
from gadkit.objects.owl_vit import OwlConfig, OwlViT, build, predict, processor_for
from gadkit.objects.protocols import Boxes, OpenVocabulary
from gadkit.objects.towers import from_clip
from gadkit.objects.vocabulary import byte_pairs

SMALL = OwlConfig(image_size=32, patch_size=8, width=32, layers=1, text_width=32, text_layers=1, stem="patches")
TEXTS = ["a gear", "a red bolt"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def small() -> OwlViT:
    """An untrained detector of one block."""
    torch.manual_seed(0)
    return OwlViT(build(SMALL), processor_for(SMALL), threshold=0.0)


def source(**options: object) -> weights.Weights:
    return weights.Weights("gadkit", "owl-vit", "MIT", None, "owl-vit.md", "the factory", "owl-vit", options)


@pytest.mark.parametrize("stem", ["convolutions", "efficientnet-random"])
def test_its_towers_are_the_clips(stem: str, tiny_clip, images: Tensor) -> None:
    size = {"image_size": 32, "layers": 1} | ({"patch_size": 16} if stem != "convolutions" else {})
    clip: OpenCLIP = tiny_clip(stem=stem, **size)
    config = OwlConfig(**{"patch_size": 8, "stem": stem, "mean": 0.45, "std": 0.27} | size)
    model = build(config)
    left = model.load_state_dict(from_clip(clip.model.state_dict()), strict=False)
    assert not left.unexpected_keys
    assert {name.split(".")[0] for name in left.missing_keys} == {"layer_norm", "class_head", "box_head"}
    assert "class_head.dense0.weight" not in left.missing_keys
    found = OwlViT(model, processor_for(config)).encode_text(TEXTS)
    torch.testing.assert_close(found, F.normalize(clip.encode_text(TEXTS), dim=-1), atol=1e-5, rtol=0)
    prepared = clip.preprocess(images)
    vectors = model.owlvit.get_image_features(prepared).pooler_output
    torch.testing.assert_close(vectors, clip.encode_image(prepared).pooled, atol=1e-4, rtol=0)


def test_a_foreign_weight_is_named() -> None:
    with pytest.raises(ValueError, match=r"weights: expected those of a CLIP, got visual\.soup"):
        from_clip({"visual.soup": torch.zeros(1)})


def test_its_forward_is_the_classes(small: OwlViT, images: Tensor) -> None:
    """Words first, then images: what `forward` does in one."""
    ids = small.processor.tokenizer(TEXTS, padding=True, return_tensors="pt")  # of one length
    prepared = small.prepare(images)
    with torch.no_grad():
        whole = small.model(
            input_ids=ids["input_ids"].repeat(4, 1),
            attention_mask=ids["attention_mask"].repeat(4, 1),
            pixel_values=prepared,
        )
        logits, boxes = predict(small.model, prepared, small.encode_text(TEXTS).expand(4, -1, -1))
    torch.testing.assert_close(logits, whole.logits, atol=1e-5, rtol=0)
    torch.testing.assert_close(boxes, whole.pred_boxes, atol=1e-6, rtol=0)


def test_its_answers_are_the_processors(small: OwlViT, images: Tensor) -> None:
    assert isinstance(small, OpenVocabulary)
    threshold = 0.5
    found = small.detect(images, TEXTS, threshold)
    ids = small.processor.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = small.model(ids["input_ids"].repeat(4, 1), small.prepare(images), ids["attention_mask"].repeat(4, 1))
    theirs = small.processor.post_process_grounded_object_detection(out, threshold, torch.tensor([[48, 64]] * 4))
    for ours, other in zip(found, theirs, strict=True):
        order = other["scores"].argsort(descending=True, stable=True)
        far = torch.tensor([64.0, 48, 64, 48])
        cut = other["boxes"][order].clamp(min=0).minimum(far)
        torch.testing.assert_close(ours.scores, other["scores"][order], atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.boxes, cut, atol=1e-3, rtol=0)
        assert torch.equal(ours.labels, other["labels"][order])
    assert sum(len(one.scores) for one in found) > 0


def test_no_object_is_an_empty_answer(small: OwlViT, images: Tensor) -> None:
    for found in (small.detect(images, TEXTS, 1.0), answer(torch.zeros(2, 3, 1), torch.rand(2, 3, 4), (8, 8), 0.5)):
        for one in found:
            assert one.boxes.shape == (0, 4)
            assert one.scores.shape == one.labels.shape == (0,)
            assert one.labels.dtype == torch.long


def test_answers_are_sorted_cut_at_the_edge_and_have_an_area() -> None:
    scores = torch.tensor([[[0.2, 0.3], [0.9, 0.1], [0.8, 0.0], [0.05, 0.01]]])
    boxes = torch.tensor([[[0.5, 0.5, 0.5, 0.5], [0.0, 0.5, 0.4, 1.0], [1.5, 0.5, 0.2, 0.2], [0.5, 0.5, 1, 1]]])
    (found,) = answer(scores, boxes, (10, 20), 0.1)
    assert found.labels.tolist() == [0, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.3])
    assert found.boxes.flatten().tolist() == pytest.approx([0, 0, 4, 10, 5, 2.5, 15, 7.5])


def test_doubles_are_those_of_one_label() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 9], [20, 0, 30, 10]])
    found = without_doubles(Boxes(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.tensor([0, 0, 1, 0])))
    assert found.scores.tolist() == pytest.approx([0.9, 0.7, 0.6])


def test_words_are_encoded_once_until_a_weight_changes(small: OwlViT, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, encode = [], OwlViT._encode
    monkeypatch.setattr(OwlViT, "_encode", lambda self, texts: asked.append(texts) or encode(self, texts))
    fresh = OwlViT(small.model, small.processor)
    before = fresh.encode_text(["a gear", "a nut", "a gear"])
    assert torch.equal(before[0], before[2])
    fresh.encode_text([" a nut ", "a bolt"])
    assert asked == [["a gear", "a nut"], ["a bolt"]]
    weight = small.model.owlvit.text_model.final_layer_norm.bias
    with torch.no_grad():
        weight += torch.arange(len(weight)) * 0.1
    assert not torch.allclose(fresh.encode_text(["a gear"]), before[:1])
    with torch.no_grad():
        weight -= torch.arange(len(weight)) * 0.1


def test_a_text_beyond_the_context_says_what_is_cut(small: OwlViT) -> None:
    words = "gear " * 60
    with pytest.warns(UserWarning, match=r"a text of \d+ tokens is cut to 48: 'gear .*gear' is not read"):
        found = small.encode_text([words])
    assert torch.equal(found, small.encode_text(["gear " * 46]))


def test_an_image_stands_in_for_a_word(small: OwlViT, images: Tensor) -> None:
    found = small.detect_like(images, images[1], threshold=0.0)
    assert len(found) == 4
    assert all((one.labels == 0).all() for one in found)
    prepared = small.prepare(images)
    with torch.no_grad():
        whole = small.model.image_guided_detection(prepared[2:3], prepared[1:2])
    best = whole.logits.sigmoid().max().item()
    assert found[2].scores[0].item() == pytest.approx(best, abs=1e-5)
    part = small.detect_like(images[:1], images[1], [8, 0, 40, 24], 0.0)[0]
    assert torch.equal(part.scores, small.detect_like(images[:1], images[1][:, :24, 8:40], threshold=0.0)[0].scores)


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_named(small: OwlViT, images: Tensor) -> None:
    for texts, got in (([], r"list \[\]"), ("a gear", "str 'a gear'"), ([3], r"list \[3\]")):
        with pytest.raises(ValueError, match=f"texts: expected a list of at least one text, got {got}"):
            small.detect(images, texts)
    with pytest.raises(ValueError, match="texts: expected some words in each, got an empty text at place 1"):
        small.detect(images, ["a gear", "  "])
    with pytest.raises(ValueError, match="images: expected dtype uint8"):
        small.detect(images.float(), TEXTS)
    with pytest.raises(ValueError, match=r"threshold: expected a share in \[0, 1\], got float 2.0"):
        small.detect(images, TEXTS, 2.0)
    with pytest.raises(ValueError, match=r"box: expected \(left, top, right, bottom\) with left < right"):
        small.detect_like(images, images[0], [9, 9, 3, 20])
    with pytest.raises(ValueError, match="box: expected it inside a query image of 64 x 48 pixels"):
        small.detect_like(images, images[0], [0, 0, 70, 20])
    with pytest.raises(ValueError, match="stem: expected one of patches, convolutions"):
        build(replace(SMALL, stem="soup"))


def test_weights_come_back(small: OwlViT, images: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "owl-vit.safetensors"
    owl_vit.save(small.model, replace(SMALL, threshold=0.3), path, {"seed": 1})
    again = owl_vit.load(source(), CPU, path)
    assert again.threshold == 0.3
    assert json.loads(weights.header(path)["facts"]) == {"seed": 1}
    for a, b in zip(small.detect(images, TEXTS), again.detect(images, TEXTS, 0.0), strict=True):
        torch.testing.assert_close(a.scores, b.scores, atol=2e-2, rtol=0)  # in half precision
    blank = owl_vit.load(source(random=True), CPU, path)
    assert not torch.allclose(blank.encode_text(TEXTS), again.encode_text(TEXTS))
    with pytest.raises(ValueError, match=r"expected a header with an OWL-ViT's config in clip\.safetensors"):
        owl_vit.load(source(), CPU, weights.ASSETS / "clip.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no file nothing\.safetensors"):
        owl_vit.load(source(), CPU, tmp_path / "nothing.safetensors")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of the published class in the library's own format."""
    folder, words = tmp_path_factory.mktemp("owl"), byte_pairs()
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    text = size | ends | {"vocab_size": len(words), "max_position_embeddings": 16}
    vision = size | {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    OwlViTForObjectDetection(OwlViTConfig(text_config=text, vision_config=vision, projection_dim=32)).save_pretrained(
        folder
    )
    OwlViTProcessor(OwlViTImageProcessor(size={"height": 32, "width": 32}), words).save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_published_class_is_loaded_in_both_layouts(checkpoint: Path, layout: str, images: Tensor) -> None:
    rewrite(checkpoint, layout)
    found = owl_vit.load(zoo.find("owl-vit", "paper"), CPU, checkpoint)
    assert found.context_length == 16
    assert found.processor.image_processor.size == {"height": 32, "width": 32}
    assert [one.boxes.shape[1] for one in found.detect(images, TEXTS, 0.0)] == [4] * 4
    for missing in ("config.json", layout):
        path = checkpoint.with_name(missing)
        away = path.rename(path.with_suffix(".away"))
        with pytest.raises(FileNotFoundError, match=missing.replace(".", r"\.")):
            owl_vit.load(zoo.find("owl-vit", "paper"), CPU, checkpoint)
        away.rename(path)


def test_what_is_not_cached_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsUnavailable, match=r"google/owlvit-base-patch32 .* are not cached here"):
        owl_vit.load(zoo.find("owl-vit", "paper"), CPU, None, str(tmp_path))
