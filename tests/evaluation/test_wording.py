"""Choices of words: true and false where they should be, and what a reader, a coin and a bag of words make of them."""

import pytest
import torch

from gadkit.evaluation.sceptic import Sceptic, histograms
from gadkit.evaluation.wording import KINDS, SAME_WORDS, Choices, choices, preference
from gadkit.factory.scenes.words import COLOURS


@pytest.fixture(scope="module")
def asked() -> dict[str, Choices]:
    """Choices of every kind."""
    return {kind: choices(kind, 12, "development", size=32) for kind in KINDS}


def test_texts_differ_in_one_respect(asked: dict[str, Choices]) -> None:
    for kind, held in asked.items():
        assert 0 < len(held) <= 12
        assert len(held.images) == len(held.true) == len(held.false)
        for true, false in zip(held.true, held.false, strict=True):
            assert true != false
            a, b = (sorted(word for word in text.split() if word not in ("a", "an")) for text in (true, false))
            assert (a == b) == (kind in SAME_WORDS), (kind, true, false)
            if kind == "colour":
                assert len({*a} ^ {*b}) == 2
                assert {*a} ^ {*b} <= {*COLOURS}


def test_the_same_choices_come_again(asked: dict[str, Choices]) -> None:
    again = choices("accent", 12, "development", size=32)
    assert (again.true, again.false) == (asked["accent"].true, asked["accent"].false)
    assert torch.equal(again.images, asked["accent"].images)


def test_negations_are_true_of_both_states(asked: dict[str, Choices]) -> None:
    """No answer that is the same for all pictures is right of all."""
    damaged = ["with damage" in text for text in asked["negation"].true]
    assert {*damaged} == {True, False}
    assert all(("with damage" in a) != ("with damage" in b) for a, b in zip(*texts(asked["negation"]), strict=True))


def texts(held: Choices) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return held.true, held.false


def test_a_reader_is_right_a_liar_wrong_and_a_coin_half(asked: dict[str, Choices]) -> None:
    held = asked["noun"]
    true = {*held.true}

    def reader(images: torch.Tensor, said: list[str]) -> torch.Tensor:
        return torch.tensor([[float(text in true) for text in said]] * len(images))

    only = Choices(held.images[:1], held.true[:1], ("a thing of another kind",))
    assert preference(reader, only) == 1
    assert preference(lambda images, said: -reader(images, said), only) == 0
    assert preference(lambda images, said: torch.zeros(len(images), len(said)), held, 5) == 0.5


def test_preferences_are_each_pictures_own() -> None:
    """Each picture is asked about its own two texts, in pieces and at once."""
    images = torch.arange(7, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4)
    held = Choices(images, tuple(str(i) for i in range(7)), tuple(str(i + 100) for i in range(7)))

    def similarity(images: torch.Tensor, said: list[str]) -> torch.Tensor:
        numbers = torch.tensor([float(text) for text in said])
        return -(images[:, 0, 0, 0].float()[:, None] - numbers).abs()

    assert preference(similarity, held, 3) == preference(similarity, held) == 1


def test_a_bag_of_words_is_right_half_of_the_time_where_the_words_are_the_same(asked: dict[str, Choices]) -> None:
    sceptic = Sceptic(asked["colour"].images, asked["colour"].true, 3)
    for kind in ("accent", "binding", "relation", "shuffled"):
        same = Choices(
            asked[kind].images, *(tuple(t.replace("an ", "a ") for t in some) for some in texts(asked[kind]))
        )
        assert preference(sceptic.similarity, same) == 0.5
    assert preference(sceptic.similarity, asked["colour"]) > 0.6


def test_histograms_are_shares_of_plain_colours() -> None:
    red, white = torch.tensor([220, 20, 20]), torch.tensor([250, 250, 250])
    image = torch.stack([red, red, red, white]).T.reshape(1, 3, 2, 2).to(torch.uint8)
    found = histograms(image)[0]
    assert found[COLOURS.index("red")] == 0.75
    assert found[COLOURS.index("white")] == 0.25


def test_a_sceptic_says_what_the_nearest_colours_say() -> None:
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    images[0, 0] = 220
    sceptic = Sceptic(images, ["a red gear", "a black bolt"], 1)
    found = sceptic.similarity(images, ["red", "black", "zebra"])
    assert found.shape == (2, 3)
    assert found[0, 0] > 0 == found[0, 1] == found[0, 2]
    assert found[1, 1] > 0 == found[1, 0]


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kind: expected one of noun, .*, got 'verb'"):
        choices("verb", 2, size=32)
    with pytest.raises(ValueError, match="count: expected a whole number from 1"):
        choices("noun", 0, size=32)
    with pytest.raises(ValueError, match="captions: expected one for each of 2 pictures, got 1"):
        Sceptic(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), ["a"])
    with pytest.raises(ValueError, match="neighbours: expected a whole number from 1 to 1"):
        Sceptic(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), ["a"], 2)
