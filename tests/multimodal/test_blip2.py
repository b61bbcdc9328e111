"""BLIP-2: what its two classes share, their own answers, a prompt that is read, and published layouts."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from layouts import LAYOUTS, rewrite
from torch import Tensor
from transformers import Blip2Processor

from gadkit import weights, zoo
from gadkit.multimodal import blip2
from gadkit.multimodal.blip2 import BLIP2, LONGEST, TASKS, wrap
from gadkit.multimodal.blip2_network import Architecture, Network
from gadkit.multimodal.protocols import Matcher, Reader
from gadkit.multimodal.vocabulary import PROMPT, byte_pairs, learn_pairs, pieces, word_pieces

SMALL = Architecture(
    32, 16, 32, 0, 1, queries=3, width=32, layers=2, head_width=16, context=12, embed=16, stem="patches",
    language_width=32, language_layers=1, language_context=80,
)  # fmt: skip
CORPUS = ["a red gear with a scratch", PROMPT.format("is the gear damaged?"), "yes no", "a blue bolt"]
WORDS, PAIRS = pieces(CORPUS), learn_pairs(CORPUS, 300)
TEXTS = ["a red gear", "a blue bolt with a scratch"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Network:
    """Weights so large that answers differ."""
    torch.manual_seed(0)
    made = Network(SMALL, len(WORDS), len(json.loads(PAIRS)["vocab"]) + 1).eval().requires_grad_(False)
    for weight in made.generation.language_model.parameters():
        weight.mul_(8 if weight.ndim > 1 else 1)
    return made


@pytest.fixture(scope="module")
def small(network: Network) -> BLIP2:
    return wrap(network, SMALL, WORDS, PAIRS)


def test_both_classes_share_the_queries_and_their_transformer(network: Network) -> None:
    first, second = network.generation, network.matching
    assert first.qformer is second.qformer
    assert first.vision_model is second.vision_model
    assert first.query_tokens is second.query_tokens
    assert sum(p.numel() for p in network.held().values()) == sum(p.numel() for p in network.parameters())
    rows = first.query_tokens[0]
    assert not torch.allclose(rows[0], rows[1])  # transformers' are all zeros, and would stay alike


def test_a_text_begins_with_the_end_token_and_comes_back() -> None:
    tokenizer = byte_pairs(PAIRS)
    ids = tokenizer("a red soup")["input_ids"]
    assert ids[0] == tokenizer.eos_token_id == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a red soup"


def test_answers_are_the_classes_with_their_processor(small: BLIP2, images: Tensor) -> None:
    assert isinstance(small, Reader)
    assert isinstance(small, Matcher)
    model, found = small.models["generation"], small.answer(images, ["is the gear damaged?"] * 4)
    given = small.processor(images=list(images), text=[PROMPT.format("is the gear damaged?")] * 4, return_tensors="pt")
    length = given["input_ids"].shape[1]
    written = model.generate(**given, max_new_tokens=LONGEST, do_sample=False)[:, length:]
    assert found == [text.strip() for text in small.processor.batch_decode(written, skip_special_tokens=True)]
    given = small.processor(images=list(images), text=["a photo of"] * 4, return_tensors="pt")
    start = model.generate(**given, max_new_tokens=LONGEST, do_sample=False)[:, given["input_ids"].shape[1] :]
    texts = small.processor.batch_decode(start, skip_special_tokens=True)
    assert small.caption(images) == [text.strip() for text in texts]


def test_an_answer_does_not_depend_on_its_neighbours(small: BLIP2, images: Tensor) -> None:
    questions = ["is the gear damaged?", "red", "a gear", "blue bolt"]
    together = small.answer(images, questions)
    assert together == [small.answer(images[i : i + 1], [question])[0] for i, question in enumerate(questions)]
    assert len(set(together)) > 1


def test_matching_is_the_classes(small: BLIP2, images: Tensor) -> None:
    model, found = small.models["matching"], small.match(images, TEXTS)
    prepared = small.prepare(images)
    for j, text in enumerate(TEXTS):
        row = small.pieces(text)["input_ids"]
        ids = torch.tensor([[9] * 3 + row] * 4)  # the class cuts off as many ids as there are queries
        theirs = model(
            pixel_values=prepared,
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            use_image_text_matching_head=True,
        ).logits_per_image.softmax(1)[:, 1]
        torch.testing.assert_close(found[:, j], theirs, atol=1e-5, rtol=0)


def test_weights_come_back(small: BLIP2, network: Network, images: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "blip2.safetensors"
    blip2.save(network, SMALL, WORDS, PAIRS, path, {"seed": 1})
    source = replace(zoo.find("blip2-random"), options={}, id="blip2")
    again = blip2.load(source, CPU, path)
    assert json.loads(weights.header(path)["facts"]) == {"seed": 1}
    torch.testing.assert_close(again.match(images, TEXTS), small.match(images, TEXTS), atol=1e-2, rtol=0)
    assert again.processor.tokenizer.get_vocab() == small.processor.tokenizer.get_vocab()
    model = again.models["generation"]
    assert model.language_model.lm_head.weight is model.language_model.get_input_embeddings().weight
    assert again.models["matching"].query_tokens is model.query_tokens
    blank = blip2.load(zoo.find("blip2-random"), CPU, path)
    assert not torch.allclose(blank.match(images, TEXTS), again.match(images, TEXTS))
    with pytest.raises(ValueError, match=r"expected a header with a BLIP-2's config in clip\.safetensors"):
        blip2.load(source, CPU, weights.ASSETS / "clip.safetensors")


def test_a_text_beyond_the_context_says_what_is_cut(small: BLIP2, images: Tensor) -> None:
    with pytest.warns(UserWarning, match=r"a text of 22 tokens is cut to 12: 'gear gear.*' is not read"):
        found = small.match(images, ["gear " * 20])
    torch.testing.assert_close(found, small.match(images, ["gear " * 10]))
    with pytest.warns(UserWarning, match=r"a text of \d+ tokens is cut to \d+: '.*gear' is not read"):
        assert len(small.answer(images[:1], ["is the " + "gear " * 60])) == 1


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_named(small: BLIP2, network: Network, images: Tensor) -> None:
    with pytest.raises(ValueError, match="texts: expected some words in each, got an empty text at place 1"):
        small.answer(images[:2], ["red", " "])
    with pytest.raises(ValueError, match="texts: expected some words in each, got an empty text at place 0"):
        small.match(images, [""])
    with pytest.raises(ValueError, match="questions: expected one for each of 4 images, got 1"):
        small.answer(images, ["red"])
    for call in (small.caption, lambda x: small.match(x, TEXTS), lambda x: small.answer(x, TEXTS)):
        with pytest.raises(ValueError, match="images: expected dtype uint8"):
            call(images.float())
    with pytest.raises(ValueError, match="models: expected some of generation, matching, got none"):
        BLIP2({}, small.processor)
    blind = copy.copy(network.generation)
    blind.config = copy.deepcopy(blind.config)
    blind.config.image_token_index = None
    with pytest.raises(ValueError, match="model: expected a configuration with image_token_index, got one without"):
        BLIP2({"generation": blind}, small.processor).caption(images)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, network: Network, small: BLIP2) -> dict[str, Path]:
    """A small checkpoint of each published class in the library's own format."""
    found = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp(task)
        getattr(network, task).save_pretrained(folder)
        reads = word_pieces(WORDS) if task == "matching" else byte_pairs(PAIRS)  # as published: a tokenizer each
        Blip2Processor(small.processor.image_processor, reads, num_query_tokens=3).save_pretrained(folder)
        found[task] = folder / "model.safetensors"
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_classes_are_loaded_in_both_layouts(
    checkpoints: dict[str, Path], layout: str, small: BLIP2, images: Tensor
) -> None:
    for path in checkpoints.values():
        rewrite(path, layout)
    source = zoo.find("blip2", "paper")
    writes, matches = (blip2.load(source, CPU, checkpoints[task]) for task in TASKS)
    assert writes.caption(images) == small.caption(images)
    assert writes.answer(images, ["red"] * 4) == small.answer(images, ["red"] * 4)
    torch.testing.assert_close(matches.match(images, TEXTS), small.match(images, TEXTS), atol=1e-5, rtol=0)
    torch.testing.assert_close(writes.prepare(images), small.prepare(images))
    with pytest.raises(ValueError, match="expected a checkpoint of Blip2ForImageTextRetrieval, got one of Blip2"):
        writes.match(images, TEXTS)


def test_what_is_not_cached_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsUnavailable, match=r"Salesforce/blip2-opt-2\.7b .* are not cached here"):
        blip2.load(zoo.find("blip2", "paper"), CPU, None, str(tmp_path))
