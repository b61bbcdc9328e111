"""Published SigLIPs: the library's own numbers through our door, in both layouts, and clear errors."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, trainers
from torch import Tensor
from transformers import Siglip2Tokenizer, SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipProcessor

from gadkit import weights, zoo
from gadkit.backbones import siglip

CPU = torch.device("cpu")
TEXTS = ["a red gear", "a bolt"]
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
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = size | {"vocab_size": len(tokenizer), "max_position_embeddings": 12}
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    torch.manual_seed(0)
    config = SiglipConfig(text_config=text | ends, vision_config=size | {"image_size": 32, "patch_size": 8})
    SiglipModel(config).save_pretrained(folder)
    SiglipProcessor(SiglipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
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
    assert found.full([*TEXTS, "a red gear " * 9]) == 1
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


@pytest.mark.parametrize("name", ["siglip", "siglip2"])
def test_what_is_not_cached_is_said_to_be_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(weights.WeightsUnavailable, match=r"google/siglip.*-base-patch16-224 .* are not cached here"):
        siglip.load(zoo.find(name, "paper"), CPU, None, str(tmp_path))
