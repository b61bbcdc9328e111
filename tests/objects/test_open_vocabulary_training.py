"""Training: what is taught and what is withheld, captions that are true, and a run that ends in loadable weights."""

import json
import math
import random
from pathlib import Path

import pytest
import torch

from gadkit import factory, weights, zoo
from gadkit.backbones.tiny import RealStem
from gadkit.factory import CATEGORIES, scenes
from gadkit.objects import grounding_dino, owl_vit
from gadkit.objects.training import grounding_dino as dino
from gadkit.objects.training import owl_vit as owl
from gadkit.objects.training.words import TAUGHT, WITHHELD, texts, truth
from gadkit.objects.vocabulary import learn_pieces

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shown() -> scenes.Scenes:
    return scenes.render(12, seed=4095, size=64)


def test_withheld_words_are_seen_categories_that_are_not_taught(shown: scenes.Scenes) -> None:
    assert WITHHELD == ("wheel", "coin", "bottle", "pill")
    assert {*WITHHELD} | {*TAUGHT} == {*scenes.object_categories("seen")}
    assert not {*WITHHELD} & {*TAUGHT}
    assert texts(["gear", "cap"]) == ["a photo of a gear", "a photo of a bottle cap"]
    for things in shown.things:
        boxes, labels = truth(things, TAUGHT)
        expected = [(list(t.box), t.category) for t in things if t.category in TAUGHT]
        assert [*zip(boxes.tolist(), (TAUGHT[i] for i in labels), strict=True)] == expected
    assert not len(truth(shown.things[0], TAUGHT, 1.0)[0])


def test_captions_say_what_is_true_and_no_withheld_word(shown: scenes.Scenes) -> None:
    hidden = {noun for name in WITHHELD for noun in CATEGORIES[name].nouns}
    for number, things in enumerate(shown.things * 3):
        for text, places in dino.phrases(things, random.Random(number)):
            assert not any(text == noun or f"the {noun}" in text for noun in hidden)
            for place in places:
                thing = things[place]
                nouns = CATEGORIES[thing.category].nouns
                assert text in thing.expressions or any(text in (noun, f"{thing.colour} {noun}") for noun in nouns)
    pairs = [("gear", [1]), ("bolt", [])]
    found = dino.target(shown.things[0], pairs, 64)
    left, top, right, bottom = shown.things[0][1].box
    centre = [(left + right) / 128, (top + bottom) / 128, (right - left) / 64, (bottom - top) / 64]
    assert found["boxes"][0].tolist() == pytest.approx(centre)
    assert found["class_labels"].tolist() == [0]


@pytest.mark.parametrize("start", ["clip", "efficientnet-random", ""])
def test_owl_vit_learns_and_its_weights_load(start: str, tmp_path: Path) -> None:
    path = owl.train(tmp_path, steps=2, start=start, count=8, batch=4, named=4)
    found = owl_vit.load(zoo.find("owl-vit", "tiny"), CPU, path)
    text = "owlvit.text_model.embeddings.token_embedding.weight"
    held, state, clip = weights.read(path), found.model.state_dict(), zoo.load("clip").model.state_dict()
    facts = json.loads(weights.header(path)["facts"])
    assert (facts["start"], facts["batch"], facts["steps"]) == (start, 4, 2)
    if start == "clip":
        assert text not in held, "what is still the CLIP's is not stored again"
        assert torch.equal(state[text], clip["token_embedding.weight"]), "words stay as the CLIP has them"
        assert not torch.equal(held["class_head.dense0.weight"], clip["visual.proj"].T.half().float())
    else:
        assert torch.equal(state[text], held[text])
        assert torch.equal(state[text], clip["token_embedding.weight"]), "words are the CLIP's in every case"
        place = "owlvit.vision_model.embeddings.position_embedding.weight"
        assert state[place].shape != clip["visual.positional_embedding"].shape or not torch.allclose(
            state[place], clip["visual.positional_embedding"], atol=1e-2
        ), "the image tower is not"
    if start == "efficientnet-random":
        own = RealStem(160, start).eyes.state_dict()
        stem = found.model.owlvit.vision_model.embeddings.patch_embedding
        assert all(torch.equal(value, own[key]) for key, value in stem.eyes.state_dict().items())
        assert stem.mean.abs().max() > 0.1, "channels are standardised"
    assert len(found.detect(scenes.render(1).images, ["a gear"], 0.0)) == 1


def test_grounding_dino_learns_and_its_weights_load(tmp_path: Path) -> None:
    path = dino.train(tmp_path, steps=2, count=8)
    source = weights.Weights("gadkit", "grounding-dino", "MIT", None, "x.md", "the factory", "grounding-dino")
    found = grounding_dino.load(source, CPU, path)
    pieces = learn_pieces(dino.corpus())
    assert found.processor.tokenizer.get_vocab() == dino.processor_for(dino.DinoConfig(), pieces).tokenizer.get_vocab()
    assert len(found.detect(scenes.render(1).images, ["gear", "red bolt"], 0.0)) == 1


def test_squares_hold_the_photographs_that_their_names_say() -> None:
    images, labels = owl.squares(seed=3, count=2)
    assert images.shape == (2, 3, 2 * owl.SIDE, 2 * owl.SIDE)
    for n, (row, label) in enumerate(zip(images, labels, strict=True)):
        for place, one in enumerate(label.tolist()):
            seeds = torch.tensor([owl.PHOTOGRAPHS + 8 * 3 + 4 * n + place])
            alone = factory.render(owl.NAMES[one], seeds, seeds, size=owl.SIDE).images[0]
            y, x = divmod(place, 2)
            quarter = row[:, y * owl.SIDE : (y + 1) * owl.SIDE, x * owl.SIDE : (x + 1) * owl.SIDE]
            assert torch.equal(quarter, alone)


def test_naming_is_focal_loss_with_the_best_token_of_each_quarter() -> None:
    draw = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(2, 16, 3, generator=draw), torch.randint(3, (2, 4), generator=draw)
    expected = 0.0
    for image, label in zip(logits, labels, strict=True):
        for place, one in enumerate(label.tolist()):
            y, x = divmod(place, 2)
            tokens = [(2 * y + i) * 4 + 2 * x + j for i in range(2) for j in range(2)]
            best = max(tokens, key=lambda n: float(image[n, one]))
            for n in tokens:
                for q in range(3):
                    p = float(image[n, q].sigmoid())
                    hit = n == best and q == one
                    expected -= 0.25 * (1 - p) ** 2 * math.log(p) if hit else 0.75 * p**2 * math.log(1 - p)
    assert float(owl.naming(logits, labels)) == pytest.approx(expected / 8, rel=1e-5)
