"""The shipped readers still give the figures on their cards, and what is measured of them is what it is called."""

import json
from pathlib import Path

import pytest
import torch

from cards import readers as card
from gadkit import weights, zoo
from gadkit.factory import descriptions
from gadkit.multimodal.training.reading import other

SHIPPED = [name for name in card.NAMES if name in zoo.list(preset="tiny")]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_card_is_what_the_files_say(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card, "RESULTS", Path(__file__).parents[2] / card.RESULTS)
    written = (weights.ASSETS / f"{name}.md").read_text(encoding="utf-8")
    assert card.text(name) == written
    sample = json.loads(card.RESULTS.read_text(encoding="utf-8"))["sample"][name]
    assert card.spot_check(name) == pytest.approx(sample, abs=0.09)  # one of 12 may change sides
    assert (weights.ASSETS / f"{name}.safetensors").stat().st_size < 5e6


def test_every_question_has_a_kind() -> None:
    found = {card.kind_of(question) for fact in card.known()[:60] for question, _ in descriptions.questions(fact)}
    assert found == {*card.KINDS.values()}
    with pytest.raises(ValueError, match="question: expected one of the factory's, got 'is it soup"):
        card.kind_of("is it soup?")


def test_a_reader_that_knows_the_facts_is_always_right() -> None:
    shown = card.rendered("development", 8)
    answers = [dict(descriptions.questions(fact)) for fact in shown.facts]
    known = {image.numpy().tobytes(): i for i, image in enumerate(shown.images)}

    def answer(images: torch.Tensor, questions: list[str]) -> list[str]:
        return [answers[known[x.numpy().tobytes()]][q] for x, q in zip(images, questions, strict=True)]

    def caption(images: torch.Tensor) -> list[str]:
        rng = card.random.Random(5)
        return [descriptions.caption(fact, rng, vague=0.0) for fact in shown.facts]

    assert set(card.answered(answer, shown).values()) == {1}
    told = card.captioned(caption, shown)
    assert told.pop("CIDEr-D") > 10
    assert set(told.values()) == {1}
    rng = card.random.Random(0)
    false = {fact: other(fact, rng) for fact in shown.facts}
    assert all(fact != lie for fact, lie in false.items())
    matched = card.matched(lambda images, texts: torch.tensor([[0.9, 0.1]]), shown)
    assert set(matched.values()) == {1}
    assert set(card.matched(lambda images, texts: torch.tensor([[0.5, 0.5]]), shown).values()) == {0}


def test_readers_without_an_image_say_what_was_most_frequent() -> None:
    counting = card.counting()
    nothing = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    assert len({*counting["most frequent"][0](nothing)}) == 1
    asked = ["what colour is the cookie?", "what is missing from the gear?"]
    first, second = counting["question only"][1](nothing, asked), counting["most frequent"][1](nothing, asked)
    assert first[1] == second[1] == "nothing"
    assert first[0] == second[0]  # no cookie was in training: the kind of question decides
