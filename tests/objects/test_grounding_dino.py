"""Grounding DINO: phrases that do not see one another, captions as few as it takes, and published layouts."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS, rewrite
from torch import Tensor
from transformers import (
    BertConfig,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    SwinConfig,
)
from transformers.models.grounding_dino import modeling_grounding_dino as library

from gadkit import weights, zoo
from gadkit.objects import grounding_dino
from gadkit.objects.grounding_dino import DinoConfig, GroundingDino, batched, build, processor_for
from gadkit.objects.protocols import OpenVocabulary
from gadkit.objects.training.grounding_dino import phrased_loss
from gadkit.objects.vocabulary import learn_pieces, word_pieces

PIECES = learn_pieces(["a red gear", "the gear left of the bolt", "a washer"])
SMALL = DinoConfig(image_size=64, width=32, queries=8, text_width=24, text_layers=1, context=16, stem="swin")
TEXTS = ["red gear", "bolt"]
CPU = torch.device("cpu")
WIDTHS = {"layers": 2, "ffn_dim": 32}


@pytest.fixture(scope="module")
def small() -> GroundingDino:
    """An untrained detector of two layers: of one the class cannot share its heads."""
    torch.manual_seed(0)
    processor = processor_for(SMALL, PIECES)
    return GroundingDino(build(SMALL, len(processor.tokenizer)), processor, threshold=0.0)


def source(**options: object) -> weights.Weights:
    return weights.Weights("gadkit", "grounding-dino", "MIT", None, "x.md", "the factory", "grounding-dino", options)


def test_a_caption_is_the_processors(small: GroundingDino) -> None:
    (caption,) = small.captions(TEXTS)
    theirs = small.processor(images=torch.zeros(3, 64, 64, dtype=torch.uint8), text=[TEXTS], return_tensors="pt")
    assert caption.ids == tuple(theirs["input_ids"][0].tolist())
    assert caption.spans == ((1, 3), (4, 5))
    assert caption.places == (0, 1)


def test_its_scores_are_those_of_the_best_token(small: GroundingDino, images: Tensor) -> None:
    assert isinstance(small, OpenVocabulary)
    found = small.detect(images, TEXTS)
    ids, mask = batched(small.captions(TEXTS) * 4, CPU)
    with torch.no_grad():
        out = small.model(pixel_values=small.prepare(images), input_ids=ids, attention_mask=mask)
    for i, one in enumerate(found):
        assert one.boxes.shape == (8, 4)
        tokens = out.logits[i].sigmoid()
        literal = [max((max(row[1:3]), 0), (row[4], 1)) for row in tokens.tolist()]
        assert one.scores.tolist() == pytest.approx(sorted((score for score, _ in literal), reverse=True), abs=1e-5)
    assert small.detect(images, TEXTS, 1.0)[0].boxes.shape == (0, 4)


def test_phrases_do_not_see_one_another(small: GroundingDino) -> None:
    """The text encoder gives a phrase the same tokens, whatever stands beside it; the joint layers come later."""
    read: list[Tensor] = []
    hook = small.model.model.text_backbone.register_forward_hook(lambda *x: read.append(x[2].last_hidden_state))
    for texts in (TEXTS, ["red gear", "washer"]):
        ids, mask = batched(small.captions(texts) * 2, CPU)
        with torch.no_grad():
            small.model(pixel_values=torch.zeros(2, 3, 64, 64), input_ids=ids, attention_mask=mask)
    hook.remove()
    torch.testing.assert_close(read[0][:, 1:3], read[1][:, 1:3])
    assert not torch.allclose(read[0][:, 4], read[1][:, 4])


def test_texts_that_do_not_fit_go_into_several_captions(small: GroundingDino, images: Tensor) -> None:
    texts = ["red gear", "bolt", "washer", "the gear left of the bolt", "gear", "a red bolt"]
    captions = small.captions(texts)
    assert [caption.places for caption in captions] == [(0, 1, 2, 3), (4, 5)]
    assert all(len(caption.ids) <= 16 for caption in captions)
    found = small.detect(images[:2], texts)[0]
    alone = small.detect(images[:2], texts[4:])[0]
    assert len(found.boxes) == 2 * 8
    assert found.scores[found.labels > 3].tolist() == pytest.approx(alone.scores.tolist(), abs=1e-5)


def test_a_text_beyond_the_context_says_what_is_cut(small: GroundingDino) -> None:
    with pytest.warns(UserWarning, match="a text of 22 tokens is cut to 15: 'gear gear .*gear' is not"):
        (caption,) = small.captions(["gear " * 20])
    assert len(caption.ids) == 16
    assert caption.spans == ((1, 14),)


def test_its_own_loss_falls(small: GroundingDino, images: Tensor) -> None:
    """Which it does only where label maps and phrases agree."""
    torch.manual_seed(0)
    processor = processor_for(SMALL, PIECES)
    model = build(SMALL, len(processor.tokenizer)).train()
    ids, mask = batched(small.captions(TEXTS) * 4, CPU)
    labels = [{"boxes": torch.tensor([[0.5, 0.5, 0.4, 0.4]]), "class_labels": torch.tensor([i % 2])} for i in range(4)]
    optimiser, losses = torch.optim.AdamW(model.parameters(), lr=1e-3), []
    for _ in range(4):
        loss = model(small.prepare(images), ids, attention_mask=mask, labels=labels).loss
        optimiser.zero_grad(), loss.backward(), optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_every_phrase_is_looked_up_in_its_own_caption(small: GroundingDino) -> None:
    """Two captions of one length have the library's loss; any batch has the mean of its images' over their boxes."""
    torch.manual_seed(0)
    asked = [["gear", "red bolt"], ["bolt"], ["red gear", "bolt", "gear"], ["bolt", "red gear"]]
    ids, mask = batched([small.captions(texts)[0] for texts in asked], CPU)
    logits, proposed = torch.randn(4, 8, 16), torch.randn(4, 8, 16)
    boxes, proposals = (0.2 + 0.3 * torch.rand(4, 8, 4) for _ in range(2))
    maps, places = library.build_label_maps(logits, ids), library.build_text_mask(logits, mask)
    labels = [
        {"boxes": torch.rand(len(named), 4) / 2 + 0.2, "class_labels": torch.tensor(named, dtype=torch.long)}
        for named in ([1, 0], [], [2], [1, 1])
    ]

    def loss(of: list[int], function: Callable[..., tuple] = phrased_loss) -> float:
        found = function(
            *(logits[of], [labels[i] for i in of], CPU, boxes[of], small.model.config),
            *(tuple(maps[i] for i in of), places[of]),
            encoder_logits=proposed[of],
            encoder_pred_boxes=proposals[of],
        )
        return float(found[0])

    own = small.model.loss_function
    assert loss([0, 3]) == pytest.approx(loss([0, 3], own), rel=1e-5)
    alone = [loss([i]) for i in range(4)]
    assert alone == pytest.approx([loss([i], own) for i in range(4)], rel=1e-5)
    counts = [len(one["boxes"]) for one in labels]
    expected = sum(max(n, 1) * one for n, one in zip(counts, alone, strict=True)) / sum(counts)
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]):
        assert loss(order) == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_named(small: GroundingDino, images: Tensor) -> None:
    for texts, got in (([], r"list \[\]"), ("a gear", "str 'a gear'"), ([3], r"list \[3\]")):
        with pytest.raises(ValueError, match=f"texts: expected a list of at least one text, got {got}"):
            small.detect(images, texts)
    with pytest.raises(ValueError, match="got an empty text at place 1"):
        small.detect(images, ["a gear", " . "])
    with pytest.raises(ValueError, match=r"texts: expected one phrase each, got 'gear. bolt', which \. parts"):
        small.detect(images, ["gear. bolt."])
    with pytest.raises(ValueError, match="images: expected dtype uint8"):
        small.detect(images.float(), TEXTS)
    with pytest.raises(ValueError, match="threshold: expected a share"):
        small.detect(images, TEXTS, -1.0)
    with pytest.raises(ValueError, match="stem: expected one of swin"):
        build(replace(SMALL, stem="soup"), 1200)


def test_a_tokenizer_with_other_ids_is_refused(small: GroundingDino) -> None:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?", "gear"]
    other = type(small.processor.tokenizer)(vocab={word: i for i, word in enumerate(words)})
    processor = GroundingDinoProcessor(small.processor.image_processor, other)
    with pytest.raises(ValueError, match=r"at the ids 101, 102, 1012 and 1029, got \[2, 3, 5, 6\]"):
        GroundingDino(small.model, processor)


@pytest.mark.parametrize("stem", ["swin", "efficientnet-random"])
def test_weights_come_back(stem: str, images: Tensor, tmp_path: Path) -> None:
    config = replace(SMALL, stem=stem, threshold=0.0)
    processor = processor_for(config, PIECES)
    first = GroundingDino(build(config, len(processor.tokenizer)), processor, 0.0)
    path = tmp_path / "grounding-dino.safetensors"
    grounding_dino.save(first.model, config, PIECES, path, {"seed": 1})
    assert not any(".eyes." in name for name in weights.read(path))
    again = grounding_dino.load(source(), CPU, path)
    assert again.processor.tokenizer.get_vocab() == processor.tokenizer.get_vocab()
    for a, b in zip(first.detect(images, TEXTS), again.detect(images, TEXTS), strict=True):
        torch.testing.assert_close(a.scores, b.scores, atol=2e-2, rtol=0)  # in half precision
    blank = grounding_dino.load(source(random=True), CPU, path)
    name = "model.text_projection.weight"
    assert not torch.allclose(blank.model.state_dict()[name], again.model.state_dict()[name])
    with pytest.raises(ValueError, match=r"expected a header with a Grounding DINO's config in clip\.safetensors"):
        grounding_dino.load(source(), CPU, weights.ASSETS / "clip.safetensors")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of the published class in the library's own format."""
    folder, words = tmp_path_factory.mktemp("dino"), word_pieces(PIECES)
    swin = SwinConfig(image_size=64, patch_size=4, embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
    swin.window_size, swin.out_features = 2, ["stage2", "stage3", "stage4"]
    text = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    sizes = {f"{part}_{key}": value for part in ("encoder", "decoder") for key, value in WIDTHS.items()}
    config = GroundingDinoConfig(
        backbone_config=swin, text_config=text, num_queries=5, d_model=32, max_text_len=24, **sizes
    )
    torch.manual_seed(0)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    images = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 96})
    GroundingDinoProcessor(images, words).save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_published_class_is_loaded_in_both_layouts(checkpoint: Path, layout: str, images: Tensor) -> None:
    rewrite(checkpoint, layout)
    found = grounding_dino.load(zoo.find("grounding-dino", "paper"), CPU, checkpoint)
    assert found.context_length == 24
    assert found.prepare(images).shape == (4, 3, 64, 85)  # the shorter side as the checkpoint's processor wants it
    for one in found.detect(images, TEXTS, 0.0):
        assert one.boxes.shape[1] == 4
        assert (one.boxes[:, 2:] <= torch.tensor([64.0, 48])).all()
    with pytest.raises(weights.WeightsUnavailable, match=r"IDEA-Research/grounding-dino-tiny .* are not cached here"):
        grounding_dino.load(zoo.find("grounding-dino", "paper"), CPU, None, str(checkpoint.parent / "empty"))
