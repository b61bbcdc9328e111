"""What the readers learn from: texts that are true, texts that are false, and trainings that write what loads again."""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from gadkit import weights, zoo
from gadkit.evaluation.captions import parse
from gadkit.factory import CATEGORIES, descriptions, split
from gadkit.factory.catalogue import lookup
from gadkit.factory.descriptions import Fact
from gadkit.multimodal import blip as blip_module
from gadkit.multimodal import blip2 as blip2_module
from gadkit.multimodal import training
from gadkit.multimodal.blip2_network import Architecture, Network
from gadkit.multimodal.training import blip, blip2, reading
from gadkit.multimodal.vocabulary import IGNORED, PAD, PROMPT, learn_pairs, pieces

GEAR = Fact("gear", "gear", "object", "red", "white", "scratch", 0.6)
FACTS = [
    GEAR,
    replace(GEAR, defect="", severity=0.0),
    replace(GEAR, defect="crack"),
    replace(GEAR, colour="blue"),
    Fact("random_part", "part", "object", "red", "", "scratch", 0.6),
    Fact("tile", "tile", "texture", "", "", "crack", 0.6),
]


def test_what_is_true_of_a_photograph_is_decided_by_noun_colour_and_state() -> None:
    held = reading.claims(FACTS)
    rows = torch.arange(len(FACTS))
    precise = held.true(rows, rows, torch.zeros(len(FACTS), dtype=torch.bool))
    expected = [
        [1, 0, 0, 0, 1, 0],  # a scratched red gear is a scratched red part, too
        [0, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    assert precise.int().tolist() == expected
    vague = held.true(rows, rows, torch.ones(len(FACTS), dtype=torch.bool))
    assert vague[0].tolist() == [True, False, True, False, True, False]  # "damaged" is true of scratch and crack
    assert vague[1].tolist() == [False, True, False, False, False, False]


def test_false_captions_are_false_of_one_thing() -> None:
    rng, kinds = random.Random(0), set()
    for fact in FACTS * 40:
        false = reading.other(fact, rng)
        differs = [fact.defect != false.defect, fact.colour != false.colour, fact.category != false.category]
        assert sum(differs) == 1, (fact, false)
        kinds.add(differs.index(True))
        if lookup(fact.category).split == "randomised":
            assert not differs[2]
        if differs[2]:
            assert false.category in split("seen")
            assert not {*lookup(false.category).nouns} & {*lookup(fact.category).nouns}
    assert kinds == {0, 1, 2}


def test_texts_are_drawn_by_the_seed_and_are_true() -> None:
    texts = reading.write(FACTS, seed=3)
    assert texts == reading.write(FACTS, seed=3)
    assert texts != reading.write(FACTS, seed=4)
    for fact, captions, vague in zip(FACTS, texts.captions, texts.vague, strict=True):
        assert len(captions) == reading.CAPTIONS
        for caption, flag in zip(captions, vague, strict=True):
            said = parse(caption)
            assert fact.category in said.categories
            assert said.state == ("damaged" if flag else fact.defect)
    assert {len(row) for row in (*texts.questions, *texts.answers)} == {reading.QUESTIONS}


def test_parts_that_do_not_exist_are_asked_for_by_any_noun() -> None:
    rng = random.Random(0)
    found = {question for _ in range(60) for question, _ in reading.ask(FACTS[4], rng)}
    held_out = [noun for name in split("held-out") for noun in lookup(name).nouns if lookup(name).kind == "object"]
    assert any(f"the {noun}" in question for noun in held_out for question in found)
    seen = {question for _ in range(30) for question, _ in reading.ask(GEAR, rng)}
    assert any("the gear" in question for question in seen)
    assert not any(f"the {noun} " in f"{question} " for noun in held_out for question in seen)


def test_the_language_model_reads_of_every_category() -> None:
    facts = blip2.invented(600, 1)
    assert {fact.category for fact in facts} == {*CATEGORIES}
    assert all(fact.defect in ("", *lookup(fact.category).defects) for fact in facts)
    assert all(bool(fact.severity) == bool(fact.defect) for fact in facts)


TINY = Architecture(32, 16, 32, 0, 1, queries=3, width=32, layers=2, head_width=16, stem="patches", language_width=32)
SMALL = {"counts": {"seen": 6, "randomised": 2}, "batch": 4, "steps": 2}


@pytest.mark.parametrize("start", ["clip", ""])
def test_blip_trains_writes_and_is_loaded(start: str, tmp_path: Path, images: torch.Tensor) -> None:
    path = blip.train(tmp_path, start=start, **SMALL)
    found = blip_module.load(replace(zoo.find("blip-random"), options={}), torch.device("cpu"), path)
    assert len(found.caption(images[:1])) == 1
    if start:
        before = weights.read(path)
        again = weights.read(blip.train(tmp_path, start=start, **SMALL))  # a run that is done is not done again
        assert all(torch.equal(value, again[name]) for name, value in before.items())
        assert path.stat().st_size < 5e6
        assert weights.header(path)["clip"]


def test_blip2_trains_in_three_stages_and_goes_on(
    tmp_path: Path, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is killed in stage 2 takes up the language model and stage 1 as they were."""
    monkeypatch.setitem(blip2.STARTS, "clip", TINY)
    whole = blip2.train(tmp_path / "whole", spoken=20, **SMALL)
    found = blip2_module.load(replace(zoo.find("blip2-random"), options={}), torch.device("cpu"), whole)
    assert len(found.answer(images[:1], ["is the gear damaged?"])) == 1
    second: Callable = blip2.Held.second

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(blip2.Held, "second", killed)
    with pytest.raises(KeyboardInterrupt):
        blip2.train(tmp_path / "cut", spoken=20, **SMALL)
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {"language", "stage1"}
    monkeypatch.setattr(blip2.Held, "second", second)
    again = weights.read(blip2.train(tmp_path / "cut", spoken=20, **SMALL))
    for name, value in weights.read(whole).items():
        assert torch.equal(value, again[name]), name


def test_in_stage_2_only_what_follows_the_prompt_is_predicted() -> None:
    corpus = descriptions.vocabulary()[::50]
    pairs, vocabulary = learn_pairs([*corpus, PROMPT]), pieces(corpus)
    network = Network(TINY, len(vocabulary), blip2.reader_tokens(pairs))
    reader = blip2_module.wrap(network, TINY, vocabulary, pairs)
    ids, labels = blip2.Held._spoken(reading.write(FACTS[:2]), reader)
    tokenizer = reader.processor.tokenizer
    assert ids.shape[:2] == (2, reading.CAPTIONS + reading.QUESTIONS)
    for row, wanted in zip(ids.flatten(0, 1), labels.flatten(0, 1), strict=True):
        kept = wanted != IGNORED
        assert torch.equal(row[kept], wanted[kept])
        text, answer = tokenizer.decode(row[3:][row[3:] != PAD]), tokenizer.decode(wanted[kept])
        assert answer.endswith("</s>")
        assert text == (f"</s>{text.split('Answer:')[0][4:]}Answer:{answer}" if "Answer:" in text else f"</s>{answer}")


@pytest.mark.parametrize("made", [Architecture(), blip2.STARTS[""]])
def test_it_fits_and_only_the_q_former_learns_beside_frozen_towers(made: Architecture) -> None:
    network = Network(made, 365, 1001)
    held = network.held()
    front = any(name.startswith("generation.vision_model.embeddings") for name in held)
    assert front == (not made.frozen)
    assert (sum(p.numel() for p in held.values()) * 2 < 4.9e6) == (not front)


@pytest.mark.usefixtures("untyped")
def test_another_reader_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reader: expected one of .*blip, blip2.*, got 'soup'"):
        training.train("soup", tmp_path)
