"""Published universal segmenters load offline from a folder in either of the library's two layouts."""

import json
from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPTokenizer,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    Mask2FormerImageProcessor,
    OneFormerConfig,
    OneFormerForUniversalSegmentation,
    OneFormerImageProcessor,
    OneFormerProcessor,
    SwinConfig,
)

from gadkit import zoo
from gadkit.objects.protocols import Universal
from gadkit.weights import WeightsUnavailable

INFO = {"0": {"name": "belt", "isthing": 0}, "1": {"name": "gear", "isthing": 1}, "2": {"name": "nut", "isthing": 1}}
LAYOUTS = ("processor_config.json", "preprocessor_config.json")
SWIN = {"image_size": 64, "patch_size": 4, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}
SHARED = {
    "num_queries": 6,
    "num_labels": 3,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "dim_feedforward": 16,
    "num_attention_heads": 2,
    "train_num_points": 16,
}


def tokenizer() -> CLIPTokenizer:
    words = [f"{letter}{end}" for end in ("", "</w>") for letter in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary = [*words, "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: n for n, word in enumerate(vocabulary)}, merges=[])


def swin() -> SwinConfig:
    return SwinConfig(**SWIN, window_size=2, out_features=["stage1", "stage2", "stage3", "stage4"])


@pytest.fixture(scope="module")
def oneformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint as training leaves it, with a processor whose own class file is gone."""
    folder, made = tmp_path_factory.mktemp("oneformer"), tmp_path_factory.mktemp("made")
    for place in (folder, made):
        (place / "factory.json").write_text(json.dumps(INFO))
    words = tokenizer()
    config = OneFormerConfig(
        **{
            **SHARED,
            "backbone_config": swin(),
            "mask_dim": 32,
            "conv_dim": 32,
            "task_seq_len": 24,
            "is_training": True,
        },
        text_encoder_width=64,
        text_encoder_context_length=24,
        text_encoder_num_layers=1,
        text_encoder_vocab_size=len(words),
        text_encoder_n_ctx=2,
    )
    OneFormerForUniversalSegmentation(config).save_pretrained(folder)
    images = OneFormerImageProcessor(
        repo_path=str(made), class_info_file="factory.json", num_text=4, size={"shortest_edge": 64, "longest_edge": 64}
    )
    OneFormerProcessor(images, words, max_seq_length=24, task_seq_length=24).save_pretrained(folder)
    (made / "factory.json").unlink()
    return folder


def in_layout(folder: Path, layout: str) -> Path:
    """The same checkpoint with its image processor in the file that the layout has."""
    path = folder / LAYOUTS[0]
    if layout == LAYOUTS[1] and path.exists():
        held = json.loads(path.read_text())
        (folder / layout).write_text(json.dumps(held["image_processor"] | {k: held[k] for k in held if "length" in k}))
        path.unlink()
    return folder


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_oneformer_segments_for_all_tasks(oneformer: Path, layout: str) -> None:
    model = zoo.load("oneformer", "paper", file=in_layout(oneformer, layout))
    assert isinstance(model, Universal)
    assert (model.classes, model.things) == (("belt", "gear", "nut"), (False, True, True))
    images = torch.randint(256, (1, 3, 48, 64), dtype=torch.uint8)
    found = {task: model.segment(images, task, 0.2)[0] for task in ("semantic", "instance", "panoptic")}
    assert found["semantic"].masks.sum(0).eq(1).all()
    assert all(one.masks.shape[1:] == (48, 64) for one in found.values())
    assert all(model.things[label] for label in found["instance"].labels)
    given = [model.prepare(images, task)["task_inputs"] for task in ("semantic", "instance")]
    assert not torch.equal(*given)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_mask2former_does_its_one_task(tmp_path: Path, layout: str) -> None:
    config = Mask2FormerConfig(
        **SHARED, backbone_config=swin(), mask_feature_size=32, feature_size=32,
        id2label={0: "nut", 1: "gear", 2: "belt"},
    )  # fmt: skip
    Mask2FormerForUniversalSegmentation(config).save_pretrained(tmp_path)
    Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 64}).save_pretrained(tmp_path)
    if layout == LAYOUTS[0]:
        path = tmp_path / LAYOUTS[1]
        (tmp_path / layout).write_text(json.dumps({"image_processor": json.loads(path.read_text())}))
        path.unlink()
    model = zoo.load("mask2former", "paper", file=tmp_path)
    assert isinstance(model, Universal)
    images = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    assert model.segment(images, "panoptic")[0].masks.shape[1:] == (64, 64)
    assert model.classes == ("nut", "gear", "belt")
    with pytest.raises(ValueError, match="task: expected one of panoptic, got 'semantic'"):
        model.segment(images, "semantic")


def test_what_is_missing_is_named(oneformer: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"config\.json"):
        zoo.load("oneformer", "paper", file=tmp_path)
    with pytest.raises(ValueError, match="expected those of a mask2former, got those of a oneformer"):
        zoo.load("mask2former", "paper", file=oneformer)
    with pytest.raises(WeightsUnavailable, match="oneformer_demo"):
        zoo.load("oneformer", "paper", cache_dir=tmp_path)
    with pytest.raises(WeightsUnavailable, match="facebook/mask2former-swin-tiny-coco-panoptic"):
        zoo.load("mask2former", "paper", cache_dir=tmp_path)
