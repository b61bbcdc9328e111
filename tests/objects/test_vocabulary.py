"""Tokenizers of our own: ids as open_clip gives them, and as Grounding DINO wants them."""

import open_clip
import pytest
import torch
from transformers import AutoTokenizer
from transformers.models.grounding_dino import modeling_grounding_dino

from gadkit.backbones.tiny import tokenizer
from gadkit.objects.vocabulary import FIRST, PLACES, byte_pairs, learn_pieces, word_pieces

TEXTS = ["a photo of a gear", "the Red bolt, left of 2 nuts!", "naïve x-ray", "part"]
CORPUS = ["a red gear", "the gear left of the bolt", "a photo of a washer"] * 4


def test_byte_pairs_are_open_clips() -> None:
    ours, theirs = byte_pairs(), tokenizer()
    assert isinstance(theirs, open_clip.SimpleTokenizer)
    for text in TEXTS:
        ids = torch.tensor(ours(text)["input_ids"])
        assert torch.equal(theirs([text])[0, : len(ids)], ids)
    assert ours.bos_token_id > 0, "a first id of 0 would count as no query"


def test_pieces_spell_every_word_and_are_the_same_each_time() -> None:
    pieces = learn_pieces(CORPUS)
    assert pieces == learn_pieces(CORPUS)
    assert "gear" in pieces
    read = word_pieces(pieces)
    assert read.unk_token_id not in read("the Zebra's gear, washer-like 1029")["input_ids"]
    assert read.decode(read("the Red gear", add_special_tokens=False)["input_ids"]) == "the red gear"


def test_what_parts_phrases_stands_where_transformers_has_it(tmp_path) -> None:
    """Its ids are written into the code, so that another vocabulary would be misread without a word."""
    read = word_pieces(learn_pieces(CORPUS))
    ends = ["[CLS]", "[SEP]", ".", "?"]
    assert read.convert_tokens_to_ids(ends) == modeling_grounding_dino.SPECIAL_TOKENS == [101, 102, 1012, 1029]
    assert read("gear. bolt?")["input_ids"][::2] == [101, 1012, 1029]
    assert [PLACES[end] for end in ends] == [101, 102, 1012, 1029]
    assert read.pad_token_id == 0
    assert min(read.convert_tokens_to_ids([*learn_pieces(CORPUS)])) == FIRST == 1030
    read.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert again("a gear.")["input_ids"] == read("a gear.")["input_ids"]


@pytest.mark.parametrize("text", ["red gear", "gear left of the washer"])
def test_pieces_read_what_they_learnt_from(text: str) -> None:
    read = word_pieces(learn_pieces(CORPUS))
    assert read.decode(read(text, add_special_tokens=False)["input_ids"]) == text
