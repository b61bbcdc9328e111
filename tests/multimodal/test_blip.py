"""BLIP: what its three classes share, their own answers, the clip it begins as, and published layouts."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import transformers
from layouts import LAYOUTS, rewrite
from torch import Tensor

from gadkit import weights, zoo
from gadkit.backbones.tiny import REAL
from gadkit.multimodal import blip, towers
from gadkit.multimodal.blip import BLIP, TASKS, wrap
from gadkit.multimodal.blip_network import Architecture, Batch, Network
from gadkit.multimodal.protocols import Matcher, Reader
from gadkit.multimodal.vocabulary import PAD, ids_of, pieces

SMALL = Architecture(
    32, 16, 32, frozen=0, blocks=1, head_width=16, text_layers=2, context=12, embed=16, dropout=0.0, stem="patches"
)
WORDS = pieces(["a red gear with a scratch", "is the gear damaged?", "yes no", "a blue bolt"])
TEXTS = ["a red gear", "a blue bolt with a scratch"]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    return Network(SMALL, len(WORDS)).eval()


@pytest.fixture(scope="module")
def small(network: Network) -> BLIP:
    """An untrained reader of one block."""
    return wrap(network, SMALL, WORDS)


def ids(small: BLIP, texts: list[str]) -> Tensor:
    return ids_of(texts, small.processor.tokenizer, 12)


def test_encoder_and_decoder_share_all_but_self_attention(network: Network) -> None:
    encoder, decoder = network.matching.text_encoder, network.captioning.text_decoder
    shared = {id(p) for p in encoder.parameters()}
    own = [name for name, p in decoder.named_parameters() if id(p) not in shared]
    assert own
    assert all(".attention." in name or name.startswith("cls.predictions.") for name in own)
    assert decoder.cls.predictions.decoder.weight is encoder.embeddings.word_embeddings.weight
    assert network.answering.text_decoder is decoder
    assert network.answering.text_encoder is encoder
    assert len({id(m.vision_model) for m in (network.matching, network.captioning, network.answering)}) == 1
    first = decoder.bert.encoder.layer[0]
    assert first.crossattention is encoder.encoder.layer[0].crossattention
    assert first.attention is not encoder.encoder.layer[0].attention
    assert sum(p.numel() for p in network.held().values()) == sum(p.numel() for p in network.parameters())


def test_matching_and_contrast_are_the_classes(small: BLIP, images: Tensor) -> None:
    assert isinstance(small, Reader)
    assert isinstance(small, Matcher)
    model, found = small.models["matching"], small.match(images, TEXTS)
    assert found.shape == (4, 2)
    tokens = ids(small, TEXTS)
    mask, prepared = (tokens != PAD).long(), small.prepare(images)
    with torch.no_grad():
        for j in range(2):
            one = {"input_ids": tokens[j : j + 1].repeat(4, 1), "attention_mask": mask[j : j + 1].repeat(4, 1)}
            theirs = model(pixel_values=prepared, **one).itm_score.softmax(1)[:, 1]
            torch.testing.assert_close(found[:, j], theirs, atol=1e-5, rtol=0)
        cosines = model(input_ids=tokens, attention_mask=mask, pixel_values=prepared, use_itm_head=False).itm_score
    torch.testing.assert_close(small.encode_image(images) @ small.encode_text(TEXTS).T, cosines, atol=1e-5, rtol=0)


def test_a_matching_text_may_stand_beside_a_longer_one(small: BLIP, images: Tensor) -> None:
    both, alone = small.match(images[:1], TEXTS), small.match(images[:1], TEXTS[:1])
    torch.testing.assert_close(both[:, :1], alone, atol=1e-5, rtol=0)


def test_captions_are_the_classes(small: BLIP, images: Tensor) -> None:
    written = small.models["captioning"].generate(
        pixel_values=small.prepare(images), max_new_tokens=10, do_sample=False
    )
    theirs = small.processor.batch_decode(written, skip_special_tokens=True)
    assert small.caption(images) == [text.strip() for text in theirs]


def test_an_answer_does_not_depend_on_its_neighbours(network: Network, images: Tensor) -> None:
    """The class attends to padding, so questions of one length go together."""
    wide = copy.deepcopy(network).requires_grad_(False)  # weights so large that the answers differ
    for weight in wide.parameters():
        weight.mul_(10 if weight.ndim > 1 else 1)
    small = wrap(wide, SMALL, WORDS)
    questions = ["is the gear damaged?", "red", "is the gear damaged?", "blue bolt"]
    together = small.answer(images, questions)
    apart = [small.answer(images[i : i + 1], [question])[0] for i, question in enumerate(questions)]
    assert together == apart
    assert len(set(together)) > 1


def test_losses_of_words_are_the_classes(network: Network, small: BLIP, images: Tensor) -> None:
    captions, questions, answers = (ids(small, t) for t in (TEXTS, ["is the gear damaged?", "red"], ["yes", "a bolt"]))
    pictures = small.prepare(images[:2])
    begun = [
        torch.cat([torch.full((2, 1), small.processor.tokenizer.bos_token_id), x[:, 1:]], 1)
        for x in (captions, answers)
    ]
    labels = [x.masked_fill(x == PAD, -100) for x in begun]
    with torch.no_grad():
        seen = network.matching.vision_model(pixel_values=pictures).last_hidden_state
        mine = network.write(captions, seen)
        theirs = network.captioning(
            pixel_values=pictures, input_ids=begun[0], attention_mask=(captions != PAD).long(), labels=labels[0]
        ).loss
        told = network.write(answers, network.encode(questions, seen), questions != PAD)
        asked = network.answering(
            pixel_values=pictures,
            input_ids=questions,
            attention_mask=(questions != PAD).long(),
            decoder_input_ids=begun[1],
            decoder_attention_mask=(answers != PAD).long(),
            labels=labels[1],
        ).loss
    torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(told, asked, atol=1e-5, rtol=0)


def test_all_four_losses_reach_everything_that_learns(network: Network, small: BLIP, images: Tensor) -> None:
    captions, questions, answers = (ids(small, t) for t in (TEXTS, ["is the gear damaged?", "red"], ["yes", "a bolt"]))
    batch = Batch(
        small.prepare(images[:2]), captions, captions.flip(0), questions, answers, torch.eye(2, dtype=torch.bool)
    )
    losses = network(batch)
    assert sorted(losses) == ["answers", "captions", "contrast", "matching"]
    assert losses["matching"].item() == pytest.approx(math.log(2), abs=0.3)
    torch.stack([*losses.values()]).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    network.zero_grad()


def test_the_image_tower_begins_as_the_clips(images: Tensor) -> None:
    """Two frozen blocks and two that learn, before a step is taken: the clip's own tokens after its last norm."""
    network = Network(Architecture(), len(WORDS)).eval()
    clip = zoo.load("clip", "tiny", "cpu")
    prepared = clip.preprocess(images[:2])
    with torch.no_grad():
        tokens = network.matching.vision_model.embeddings(prepared)
        found = network.matching.vision_model(pixel_values=prepared).last_hidden_state
        again = network.matching.vision_model(pixel_values=tokens.half()).last_hidden_state
    theirs = clip.encode_image(prepared, (-1,), norm=True).patches[0]
    torch.testing.assert_close(found[:, 1:], theirs, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(again, found, atol=3e-2, rtol=0)
    held = network.held()
    assert not any(name.startswith("matching.vision_model.embeddings") for name in held)
    assert sum(p.numel() for p in held.values()) * 2 < 5e6
    front = network.train().matching.vision_model.embeddings
    assert not any(module.training for module in front.modules())


def test_weights_come_back(small: BLIP, network: Network, images: Tensor, tmp_path: Path) -> None:
    path = tmp_path / "blip.safetensors"
    blip.save(network, SMALL, WORDS, path, {"seed": 1})
    source = replace(zoo.find("blip-random"), options={}, id="blip")
    again = blip.load(source, CPU, path)
    assert json.loads(weights.header(path)["facts"]) == {"seed": 1}
    torch.testing.assert_close(again.match(images, TEXTS), small.match(images, TEXTS), atol=1e-2, rtol=0)
    decoder = again.models["captioning"].text_decoder
    assert decoder.cls.predictions.decoder.weight is again.models["matching"].text_encoder.get_input_embeddings().weight
    blank = blip.load(zoo.find("blip-random"), CPU, path)
    assert not torch.allclose(blank.encode_text(TEXTS), again.encode_text(TEXTS))
    with pytest.raises(ValueError, match=r"expected a header with a BLIP's config in clip\.safetensors"):
        blip.load(source, CPU, weights.ASSETS / "clip.safetensors")
    with pytest.raises(ValueError, match=r"expected those of a BLIP, got some without \['matching\.itm_head\."):
        blip.fill(network, {k: v for k, v in network.held().items() if "itm_head" not in k})


def test_weights_know_the_clip_that_they_stand_on() -> None:
    towers.check_digest(towers.clip_digest(), "a BLIP")
    with pytest.raises(ValueError, match=r"on the clip here \(\w{8}\), got some that stand on another \(abad"):
        towers.check_digest("abadcafe" * 8, "a BLIP")
    assert REAL.layers == 4  # of which BLIP takes 2 and 2, and BLIP-2 3


def test_a_text_beyond_the_context_says_what_is_cut(small: BLIP, images: Tensor) -> None:
    with pytest.warns(UserWarning, match=r"a text of 22 tokens is cut to 12: 'gear gear.*' is not read"):
        found = small.match(images, ["gear " * 20])
    torch.testing.assert_close(found, small.match(images, ["gear " * 10]))
    with pytest.warns(UserWarning, match="is cut to 12"):
        assert small.answer(images[:1], ["gear " * 20]) == small.answer(images[:1], ["gear " * 10])


@pytest.mark.usefixtures("untyped")
def test_bad_input_is_named(small: BLIP, images: Tensor) -> None:
    with pytest.raises(ValueError, match="texts: expected some words in each, got an empty text at place 1"):
        small.answer(images[:2], ["red", " "])
    with pytest.raises(ValueError, match="texts: expected some words in each, got an empty text at place 0"):
        small.match(images, [""])
    with pytest.raises(ValueError, match="questions: expected one for each of 4 images, got 1"):
        small.answer(images, ["red"])
    for call in (small.caption, small.encode_image, lambda x: small.match(x, TEXTS), lambda x: small.answer(x, TEXTS)):
        with pytest.raises(ValueError, match="images: expected dtype uint8"):
            call(images.float())
    with pytest.raises(ValueError, match="models: expected some of captioning, answering, matching, got soup"):
        BLIP({"soup": small.models["matching"]}, small.processor)
    with pytest.raises(ValueError, match="stem: expected one of patches"):
        Network(replace(SMALL, stem="soup"), 20)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory, network: Network, small: BLIP) -> dict[str, Path]:
    """A small checkpoint of each published class in the library's own format."""
    found = {}
    for task in TASKS:
        folder = tmp_path_factory.mktemp(task)
        shared = getattr(network, task)
        apart = type(shared)(shared.config)  # as published: nothing is shared
        apart.load_state_dict(shared.state_dict())
        apart.save_pretrained(folder)
        small.processor.save_pretrained(folder)
        found[task] = folder / "model.safetensors"
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_classes_are_loaded_in_both_layouts(
    checkpoints: dict[str, Path], layout: str, small: BLIP, images: Tensor
) -> None:
    for path in checkpoints.values():
        rewrite(path, layout)
    source = zoo.find("blip", "paper")
    found = {task: blip.load(source, CPU, path) for task, path in checkpoints.items()}
    assert found["captioning"].caption(images) == small.caption(images)
    questions = ["is the gear damaged?", "red", "bolt", "a gear"]
    assert found["answering"].answer(images, questions) == small.answer(images, questions)
    torch.testing.assert_close(found["matching"].match(images, TEXTS), small.match(images, TEXTS), atol=1e-5, rtol=0)
    record = found["matching"].processor.image_processor
    assert (record.size, list(record.image_mean)) == ({"height": 32, "width": 32}, [0.5] * 3)
    with pytest.raises(ValueError, match="expected a checkpoint of BlipForImageTextRetrieval, got one of Blip"):
        found["captioning"].match(images, TEXTS)


def test_another_class_is_named(checkpoints: dict[str, Path]) -> None:
    path = checkpoints["matching"].with_name("config.json")
    held = path.read_text()
    path.write_text(held.replace("BlipForImageTextRetrieval", "SoupModel"))
    with pytest.raises(ValueError, match=r"expected one of BlipForConditionalGeneration, .* got SoupModel"):
        blip.load(zoo.find("blip", "paper"), CPU, checkpoints["matching"])
    path.write_text(held)


def test_what_is_not_cached_is_said_to_be_so(tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsUnavailable, match=r"blip-image-captioning-base .* are not cached here"):
        blip.load(zoo.find("blip", "paper"), CPU, None, str(tmp_path))


def test_images_are_prepared_as_the_record_says(small: BLIP, images: Tensor) -> None:
    found = small.prepare(images)
    theirs = transformers.BlipImageProcessor(
        size={"height": 32, "width": 32}, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )(list(images), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(found, theirs)
    plain = F.interpolate(images.float(), (32, 32), mode="bicubic", antialias=True).round().clamp(0, 255) / 127.5 - 1
    torch.testing.assert_close(found, plain, atol=2 / 127, rtol=0)
