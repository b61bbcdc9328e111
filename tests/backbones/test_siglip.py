"""Published SigLIPs: the library's own numbers through our door, in both layouts, and clear errors."""

import json
from pathlib import Path

import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer, models, normalizers, trainers
from torch import Tensor
from transformers import (
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
    SiglipTokenizer,
)

from gadkit import weights, zoo
from gadkit.backbones import siglip

CPU = torch.device("cpu")
TEXTS = ["a red gear", "a bolt"]
SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
LAYOUTS = ("processor_config.json", "preprocessor_config.json")


def words() -> Siglip2Tokenizer:
    """A small tokenizer of SigLIP 2's class."""
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.Replace(" ", "▁")])
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    made.train_from_iterator(TEXTS * 4, trainers.BpeTrainer(vocab_size=60, special_tokens=specials))
    held = json.loads(made.to_str())["model"]
    return Siglip2Tokenizer(vocab=held["vocab"], merges=[tuple(pair) for pair in held["merges"]])


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of the published class in the library's own format."""
    folder, tokenizer = tmp_path_factory.mktemp("siglip"), words()
    text = SIZE | {"vocab_size": len(tokenizer), "max_position_embeddings": 12}
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    torch.manual_seed(0)
    config = SiglipConfig(text_config=text | ends, vision_config=SIZE | {"image_size": 32, "patch_size": 8})
    SiglipModel(config).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def naflex(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint that keeps the aspect ratio: patches of 4 pixels, at most 16, positions for 4 x 4."""
    folder, tokenizer = tmp_path_factory.mktemp("naflex"), words()
    torch.manual_seed(0)
    text = SIZE | {"vocab_size": len(tokenizer), "max_position_embeddings": 12}
    ends = {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
    config = Siglip2Config(text_config=text | ends, vision_config=SIZE | {"patch_size": 4, "num_patches": 16})
    model = Siglip2Model(config)
    torch.nn.init.normal_(model.vision_model.embeddings.position_embedding.weight)
    model.save_pretrained(folder)
    Siglip2Processor(Siglip2ImageProcessor(patch_size=4, max_num_patches=16), tokenizer).save_pretrained(folder)
    return folder / "model.safetensors"


@pytest.fixture(scope="module")
def images() -> Tensor:
    """Two photographs of the size that the network takes."""
    return torch.randint(256, (2, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_vectors_are_the_librarys_in_both_layouts(checkpoint: Path, layout: str, images: Tensor) -> None:
    held = checkpoint.with_name(LAYOUTS[0])
    if layout != held.name and held.exists():
        held.with_name(layout).write_text(json.dumps(json.loads(held.read_text())["image_processor"]))
        held.unlink()
    found = siglip.load(zoo.find("siglip2", "paper"), CPU, checkpoint)
    assert (found.grid, found.depth, found.context_length, found.image_size) == ((4, 4), 2, 12, 32)
    tokens = found.encode_image(found.preprocess(images), (0, -1))
    model = SiglipModel.from_pretrained(checkpoint.parent).eval()
    record = SiglipImageProcessor.from_pretrained(checkpoint.parent)
    pixels = record(images=list(images), return_tensors="pt")["pixel_values"]
    ids = found.tokenizer(TEXTS, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model(input_ids=ids, pixel_values=pixels)
        hidden = model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states
    texts = found.encode_text(TEXTS)
    assert torch.allclose(found.preprocess(images), pixels, atol=1e-5)
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (tokens.pooled, texts)]
    assert torch.allclose(unit[0], out.image_embeds, atol=1e-5)
    assert torch.allclose(unit[1], out.text_embeds, atol=1e-5)
    assert [torch.allclose(a, b, atol=1e-5) for a, b in zip(tokens.patches, hidden[1:], strict=True)] == [True, True]
    assert not torch.allclose(texts[0], texts[1])
    long = "a red gear " * 9 + "red gear"
    assert found.full([*TEXTS, long]) == 1
    read = found.tokenizer(long, truncation=True, max_length=found.context_length)["input_ids"]
    kept = found.tokenizer.decode(read, skip_special_tokens=True)
    with pytest.warns(UserWarning, match=f"cut to {found.context_length} tokens: .* is not read$") as told:
        found.encode_text([TEXTS[0], long])
    rest = str(told[0].message).split("'")[1]
    assert f"{kept} {rest}".replace(" ", "") == long.replace(" ", "")
    for missing in ("config.json", layout):
        path = checkpoint.with_name(missing)
        away = path.rename(path.with_suffix(".away"))
        with pytest.raises(FileNotFoundError, match=missing.replace(".", r"\.")):
            siglip.load(zoo.find("siglip2", "paper"), CPU, checkpoint)
        away.rename(path)


def test_only_vectors_are_computed_where_no_layer_is_asked_for(checkpoint: Path, images: Tensor) -> None:
    found = siglip.load(zoo.find("siglip2", "paper"), CPU, checkpoint)
    tokens = found.encode_image(found.preprocess(images), ())
    assert tokens.patches == ()
    assert torch.equal(tokens.pooled, found.encode_image(found.preprocess(images)).pooled)


def test_another_network_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    for path in checkpoint.parent.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "clip"}))
    with pytest.raises(ValueError, match="expected those of a siglip, got those of a clip"):
        siglip.load(zoo.find("siglip2", "paper"), CPU, tmp_path)


def test_every_image_keeps_its_aspect_ratio_in_one_batch(naflex: Path) -> None:
    found = zoo.load("siglip2-naflex", "paper", "cpu", file=naflex)
    assert isinstance(found, siglip.NaFlex)
    assert (found.patch_size, found.most, found.embed_dim, found.context_length) == (4, 16, 32, 12)
    generator = torch.Generator().manual_seed(0)
    shapes = [(32, 32), (8, 32), (64, 16), (16, 40), (3, 90)]
    images = [torch.randint(256, (3, *shape), generator=generator, dtype=torch.uint8) for shape in shapes]
    patches = found.preprocess(images)
    assert patches.grids.tolist() == [[4, 4], [2, 8], [8, 2], [2, 5], [1, 16]]
    assert patches.pixels.shape == (5, 16, 3 * 4 * 4)
    assert patches.there.sum(1).tolist() == [16, 16, 16, 10, 16]
    assert patches.there[3].tolist() == [True] * 10 + [False] * 6
    vectors = found.encode_image(patches, chunk=2)
    model = Siglip2Model.from_pretrained(naflex.parent).eval()
    record = Siglip2ImageProcessor.from_pretrained(naflex.parent)
    ids = found.tokenizer(TEXTS, padding="max_length", max_length=12, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        out = model(input_ids=ids, **record(images=images, return_tensors="pt"))
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (vectors, found.encode_text(TEXTS))]
    assert torch.allclose(unit[0], out.image_embeds, atol=1e-6)
    assert torch.allclose(unit[1], out.text_embeds, atol=1e-6)


def test_padding_is_not_seen_and_the_shape_is(naflex: Path) -> None:
    found = zoo.load("siglip2-naflex", "paper", "cpu", file=naflex)
    image = torch.randint(256, (3, 16, 40), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    patches = found.preprocess([image])
    vector, there = found.encode_image(patches), patches.there[..., None]
    loud = siglip.Patches(patches.pixels.masked_fill(~there, 9.0), patches.there, patches.grids)
    assert torch.allclose(found.encode_image(loud), vector, atol=1e-6)
    unmasked = siglip.Patches(loud.pixels, torch.ones_like(loud.there), loud.grids)
    assert not torch.allclose(found.encode_image(unmasked), vector, atol=1e-3)
    turned = siglip.Patches(patches.pixels, patches.there, patches.grids.flip(1))
    assert not torch.allclose(found.encode_image(turned), vector, atol=1e-3)
    batch = found.preprocess(image[None].repeat(2, 1, 1, 1))  # a batch of one size is a sequence of images
    assert torch.allclose(found.encode_image(batch), vector.repeat(2, 1), atol=1e-6)


def test_more_patches_are_seen_where_more_are_asked_for(naflex: Path) -> None:
    held = zoo.load("siglip2-naflex", "paper", "cpu", file=naflex)
    finer = siglip.NaFlex(held.model, held.tokenizer, held.processor, most=64)
    image = torch.randint(256, (3, 16, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert held.preprocess([image]).grids.tolist() == [[2, 8]]
    assert finer.preprocess([image]).grids.tolist() == [[4, 16]]
    assert finer.encode_image(finer.preprocess([image])).shape == (1, 32)
    with pytest.raises(ValueError, match="most: expected a whole number from 1, got int 0"):
        siglip.NaFlex(held.model, held.tokenizer, held.processor, most=0)


@pytest.mark.usefixtures("untyped")
def test_what_is_no_image_is_refused(naflex: Path) -> None:
    found = zoo.load("siglip2-naflex", "paper", "cpu", file=naflex)
    with pytest.raises(ValueError, match="images: expected at least one, got none"):
        found.preprocess([])
    with pytest.raises(ValueError, match="images: expected dtype uint8"):
        found.preprocess([torch.zeros(3, 8, 8)])


def test_each_kind_is_refused_where_the_other_is_asked_for(checkpoint: Path, naflex: Path) -> None:
    with pytest.raises(ValueError, match="expected those of a siglip, got those of a siglip2"):
        zoo.load("siglip2", "paper", "cpu", file=naflex)
    with pytest.raises(ValueError, match="expected those of a siglip2, got those of a siglip"):
        zoo.load("siglip2-naflex", "paper", "cpu", file=checkpoint)


def test_the_first_ones_tokenizer_is_sentencepieces(checkpoint: Path, tmp_path: Path) -> None:
    """The published files of the first SigLIP: spiece.model, and no tokenizer.json."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a red gear\na bolt\na photo of a broken plate\na flawless blue nut without damage\n" * 8)
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder = tmp_path / "siglip"
    tokenizer = SiglipTokenizer(str(tmp_path / "spiece.model"))
    for path in checkpoint.parent.iterdir():
        if not path.name.startswith("tokenizer"):
            folder.mkdir(exist_ok=True)
            (folder / path.name).write_bytes(path.read_bytes())
    tokenizer.save_pretrained(folder)
    assert (folder / "spiece.model").is_file()
    assert not (folder / "tokenizer.json").exists()
    found = zoo.load("siglip", "paper", "cpu", file=folder)
    assert isinstance(found.tokenizer, SiglipTokenizer)
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    ids = found.tokenizer("A red, gear!", padding="max_length", max_length=12)["input_ids"]
    own = pieces.encode("a red gear")  # lower case and without punctuation, as it was trained
    assert ids == own + [1] * (12 - len(own))  # ends and is filled up by the same token
    assert found.encode_text(["a red gear", "a bolt"]).shape == (2, 32)
    assert torch.allclose(*found.encode_text(["A red, gear!", "a red gear"]), atol=1e-6)
    assert not torch.allclose(*found.encode_text(["a blue nut", "a red gear"]), atol=1e-4)


@pytest.mark.parametrize("name", ["siglip", "siglip2", "siglip2-naflex"])
def test_what_is_not_cached_is_said_to_be_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(
        weights.WeightsUnavailable, match=r"google/siglip.*-base-patch16-(224|naflex) .* are not cached here"
    ):
        siglip.load(zoo.find(name, "paper"), CPU, None, str(tmp_path))
