"""The cards of the CLIPs that learn from pairs: their measures by value, and the figures of the shipped ones."""

import json
from pathlib import Path

import pytest
import torch

from cards import contrastive as card
from gadkit import weights, zoo
from gadkit.factory import descriptions
from gadkit.factory.descriptions import Fact

RESULTS = Path(__file__).parents[2] / "book" / "results" / "contrastive.json"


@pytest.mark.parametrize("name", [name for name in card.TEXTS if name in zoo.list(preset="tiny")])
def test_a_card_is_what_the_files_say(name: str) -> None:
    assert card.text(name, RESULTS) == (weights.ASSETS / f"{name}.md").read_text(encoding="utf-8")
    assert (weights.ASSETS / f"{name}.safetensors").stat().st_size < 5e6


@pytest.mark.parametrize("name", [name for name in card.TEXTS if name in zoo.list(preset="tiny")])
def test_a_small_sample_is_read_as_well_as_the_card_says(name: str) -> None:
    """Preferences over the first choices of one kind, which the card has over more of them."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    (held,) = [row["values"] for row in rows if (row["who"], row["split"]) == (name, "seen")]
    found = card.preference(card.encoders(name).similarity, card.asked("noun", "seen", 40))
    assert found == pytest.approx(held["choices/noun"], abs=0.12)


def test_beside_a_model_stand_random_weights_the_sceptic_and_chance() -> None:
    rows = [
        {"who": who, "split": "held-out", "values": dict.fromkeys(("retrieval/text_to_image@1", "probe"), value)}
        for who, value in (("siglip", 0.25), (card.UNTRAINED, 0.125), (card.SCEPTIC, 0.5))
    ]
    rows[0]["values"] |= {"retrieval/chance/text_to_image@1": 0.04, "classes/chance": 0.1, "gap/gap": 1.0}
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in card.table(rows, "siglip", "held-out").split("\n")
    ]
    assert lines[0] == ["held-out", "siglip", "random weights", "sceptic", "chance"]
    assert lines[2:] == [
        ["retrieval/text_to_image@1", "0.250", "0.125", "0.500", "0.040"],
        ["probe", "0.250", "0.125", "0.500", "0.100"],
        ["gap/gap", "1.000", "–", "–", "–"],
    ]


def test_the_target_is_five_times_chance_on_held_out_categories() -> None:
    values = {"retrieval/text_to_image@1": 0.3, "retrieval/image_to_text@1": 0.2}
    values |= {f"retrieval/chance/{way}@1": 0.05 for way in ("text_to_image", "image_to_text")}
    rows = [{"who": "siglip", "split": "held-out", "values": values}]
    assert card.target(rows, "siglip") == (
        "text_to_image@1 0.300, 6 x chance (reached); image_to_text@1 0.200, 4 x chance (not reached)"
    )


def test_plain_captions_name_colour_noun_and_state() -> None:
    assert (
        card.plain(Fact("gear", "gear", "object", "red", "white", "scratch", 0.5)) == "a photo of a scratched red gear"
    )
    assert card.plain(Fact("felt", "felt", "texture", "", "", "", 0.0)) == "a photo of flawless felt"


@pytest.fixture(scope="module")
def held() -> descriptions.Described:
    """A few photographs."""
    return descriptions.render(24, size=32, split="development")


def knows(held: descriptions.Described, say: object) -> object:
    """A similarity of 1 for what `say` says of a photograph, else 0."""
    place = {image.numpy().tobytes(): fact for image, fact in zip(held.images, held.facts, strict=True)}

    def similarity(images: torch.Tensor, texts: list[str]) -> torch.Tensor:
        facts = [place[image.numpy().tobytes()] for image in images]
        return torch.tensor([[float(say(fact, text)) for text in texts] for fact in facts])

    return similarity


def test_retrieval_and_classes_of_what_knows_all_and_nothing(held: descriptions.Described) -> None:
    found = card.retrieval(knows(held, lambda fact, text: card.plain(fact) == text), held)
    assert found["text_to_image@1"] == found["image_to_text@1"] == pytest.approx(1)
    nothing = card.retrieval(lambda images, texts: torch.zeros(len(images), len(texts)), held)
    assert nothing["text_to_image@1"] == pytest.approx(nothing["chance/text_to_image@1"])
    assert 0 < nothing["chance/image_to_text@5"] < 1
    named = card.classes(knows(held, lambda fact, text: text.endswith(fact.noun)), held, "development")
    assert named == {"one prompt": 1.0, "all prompts": 1.0, "chance": pytest.approx(1 / 6)}


def test_a_probe_is_tested_on_the_other_half(held: descriptions.Described) -> None:
    names = card.factory.split("development")
    own = torch.tensor([names.index(fact.category) for fact in held.facts])
    assert card.probe(torch.nn.functional.one_hot(own, 6).float(), held, "development") >= 0.7
    leaked = torch.eye(24)  # each photograph by itself: nothing to learn for the other half
    assert card.probe(leaked, held, "development") < 0.7


def test_pictures_and_texts_are_encoded_once(held: descriptions.Described) -> None:
    model = card.encoders("clip-random")
    first = model.encode_images(held.images[:3])
    calls = []

    class Counting:
        def __getattr__(self, name: str) -> object:
            calls.append(name)
            return getattr(real, name)

    real, model.model = model.model, Counting()
    assert torch.equal(model.encode_images(held.images[:3]), first)
    assert calls == []
    assert model.similarity(held.images[:4], ["a gear", "a gear"]).shape == (4, 2)
    assert "encode_image" in calls
    model.model = real
