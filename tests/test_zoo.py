"""One table of names: every row is complete, every preset is answered, and an error names missing weights."""

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from gadkit import methods, weights, zoo
from gadkit.backbones import Encoder, OpenCLIP, Timm
from gadkit.protocols import Backbone, Method
from gadkit.weights import ASSETS, Weights, WeightsUnavailable
from gadkit.zoo import IMAGE, METHOD, ROWS, TEXT

UNPUBLISHED = [row.name for row in ROWS if isinstance(row.paper, str)]
every_row = pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])


@every_row
@pytest.mark.parametrize("preset", zoo.PRESETS)
def test_a_row_says_where_from_and_on_what_terms(row: zoo.Row, preset: str) -> None:
    source = row.under(preset)
    if isinstance(source, str):
        assert source.strip()
        assert any(not isinstance(row.under(other), str) for other in zoo.PRESETS) or METHOD in row.gives
        return
    assert source.library in ("gadkit", "open_clip", "segment_anything", "timm", "transformers")
    assert source.id.strip()
    assert source.licence.strip()
    assert source.trained_on.strip()
    assert source.size is None or 0 <= source.size < 5000
    if source.library == "gadkit" or "shipped" in source.options:
        assert (ASSETS / source.card).is_file()
        if source.size:
            assert (ASSETS / f"{source.id}.safetensors").stat().st_size / 1e6 == pytest.approx(source.size, abs=0.05)
    else:
        assert source.card.startswith("https://")


def test_what_is_published_where() -> None:
    """By value: an id, a size or a licence is right or wrong, and nothing else here can know."""
    found = {name: zoo.find(name, "paper") for name in zoo.list(preset="paper")}
    assert {name: (source.id, source.size) for name, source in found.items() if source.library != "gadkit"} == {
        "clip": ("ViT-B-16-plus-240/laion400m_e31", 833.0),
        "clip-scratch": ("ViT-B-16-plus-240/laion400m_e31", 833.0),  # published CLIPs are trained from scratch
        "simclr": ("lightly-ai/simclrv1-imagenet1k-resnet50-1x", 103.0),
        "mocov3": ("nyu-visionx/moco-v3-vit-b", 346.0),
        "swav": ("https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar", None),
        "dino": ("timm/vit_base_patch16_224.dino", 343.0),
        "dinov2": ("timm/vit_base_patch14_reg4_dinov2.lvd142m", 346.0),
        "mae": ("timm/vit_base_patch16_224.mae", 343.0),
        "vit": ("timm/vit_base_patch16_224.augreg_in1k", 346.0),
        "convnext": ("timm/convnext_base.fb_in1k", 354.0),
        "swin": ("timm/swin_base_patch4_window7_224.ms_in1k", 353.0),
        "efficientnet-lite0": ("timm/tf_efficientnet_lite0.in1k", 18.8),
        "minilm": ("sentence-transformers/all-MiniLM-L6-v2", 90.9),
        "clip-pairs": ("ViT-B-16-quickgelu/openai", None),
        "siglip": ("google/siglip-base-patch16-224", 813.0),
        "siglip2": ("google/siglip2-base-patch16-224", None),
        "siglip2-naflex": ("google/siglip2-base-patch16-naflex", None),
        "clip-large": ("ViT-L-14-336-quickgelu/openai", None),
        "florence2": ("florence-community/Florence-2-base", None),
        "blip": ("Salesforce/blip-image-captioning-base", None),
        "blip2": ("Salesforce/blip2-opt-2.7b", None),
        "sam": ("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth", 2564.6),
        "sam-large": ("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_l_0b3195.pth", 1249.5),
        "sam-base": ("https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth", 375.0),
        "defect-finder": ("IDEA-Research/grounding-dino-tiny", None),
        "owl-vit": ("google/owlvit-base-patch32", None),
        "grounding-dino": ("IDEA-Research/grounding-dino-tiny", None),
        "oneformer": ("shi-labs/oneformer_ade20k_swin_tiny", None),
        "mask2former": ("facebook/mask2former-swin-tiny-coco-panoptic", None),
        "sam-2": ("facebook/sam2.1-hiera-tiny", None),
        "sam-3": ("facebook/sam3", None),
    }
    assert {source.trained_on for source in found.values()} == {
        *("nothing", "LAION-400M", "ImageNet-1k", "LVD-142M", "1.17 billion pairs of sentences"),
        "400 million pictures with texts from the web",
        "image-text pairs and boxes",
        "WebLI: pictures with texts from the web",
        *("ADE20K", "COCO", "SA-1B: 11 M images", "FLD-5B"),
        *("SA-V: videos, and SA-1B", "SA-Co: images and videos with noun phrases"),
        *("image-text pairs from the web", "image-text pairs from the web, then COCO"),
    }
    assert found["mae"].licence == "CC BY-NC 4.0"
    assert found["mae"].card == "https://huggingface.co/timm/vit_base_patch16_224.mae"


def test_names_can_be_listed_by_what_they_give_and_where_they_are() -> None:
    assert zoo.list() == tuple(row.name for row in ROWS)
    assert len(set(zoo.list())) == len(ROWS)
    assert zoo.list(gives=TEXT) == (
        *("clip-random", "clip", "clip-scratch", "clip-pairs", "siglip", "siglip2"),
        *("siglip2-naflex", "clip-large", "minilm"),
    )
    assert zoo.list(gives=METHOD) == tuple(methods.TRAININGS)
    assert zoo.list(gives=METHOD, preset="paper") == (
        *("simclr", "mocov3", "swav", "dino", "dinov2", "mae"),
        *("vit", "convnext", "swin"),
    )
    assert zoo.list(preset="tiny") == tuple(row.name for row in ROWS if not isinstance(row.tiny, str))
    with pytest.raises(ValueError, match=r"expected one of image encoder, text encoder, method, heads, .*, got 'soup'"):
        zoo.list("soup")
    with pytest.raises(ValueError, match="preset: expected one of tiny, paper, got 'huge'"):
        zoo.list(preset="huge")


def test_the_preset_is_the_argument_else_the_environment_else_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    assert zoo.preset() == "tiny"
    assert zoo.find("clip") is zoo.row("clip").tiny
    monkeypatch.setenv("GADKIT_PRESET", "paper")
    assert zoo.preset() == "paper"
    assert zoo.find("clip") is zoo.row("clip").paper
    assert zoo.find("clip", "tiny") is zoo.row("clip").tiny
    monkeypatch.setenv("GADKIT_PRESET", "huge")
    with pytest.raises(ValueError, match="preset: expected one of tiny, paper, got 'huge'"):
        zoo.preset()


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", ["clop", "", None, "SimCLR"])
def test_unknown_names_are_named(name: object) -> None:
    for ask in (zoo.find, zoo.row, zoo.load):
        with pytest.raises(
            ValueError, match=rf"name: expected one of random, clip-random, efficientnet-lite0, .*, got {name!r}"
        ):
            ask(name)
    with pytest.raises(ValueError, match=r"--backbone: expected one of .*, got "):
        zoo.check(["simclr", name], what="--backbone")


def test_a_network_that_only_reads_is_no_backbone() -> None:
    with pytest.raises(ValueError, match=r"--backbone: expected one of random, .*, swin, got 'minilm'"):
        zoo.check(["minilm"], what="--backbone")


@pytest.mark.parametrize("name", UNPUBLISHED)
def test_what_was_never_published_is_said_to_be_so(name: str) -> None:
    for ask in (zoo.find, zoo.load):
        with pytest.raises(WeightsUnavailable, match=f"published weights of {name}: .*GADKIT_PRESET=tiny"):
            ask(name, "paper")
    if IMAGE in zoo.row(name).gives:
        with pytest.raises(WeightsUnavailable):
            zoo.check(["random", name], "paper")
        zoo.check(["random", name])


def test_what_is_trained_is_what_has_a_row() -> None:
    assert [row.name for row in ROWS if METHOD in row.gives] == [*methods.TRAININGS]


@pytest.mark.parametrize("name", zoo.list(gives=IMAGE, preset="tiny"))
def test_every_name_is_loaded_and_keeps_the_contract(name: str, images: Tensor) -> None:
    row = zoo.row(name)
    state = torch.get_rng_state()
    backbone = zoo.load(row.name)
    assert torch.equal(torch.get_rng_state(), state), "loading draws no random numbers"
    assert isinstance(backbone, Backbone)
    timms = (*("vit", "convnext", "swin"), *("efficientnet-lite0", "efficientnet-random"))
    assert isinstance(backbone, OpenCLIP if TEXT in row.gives else Timm if name in timms else Encoder)
    tokens = backbone.encode_image(backbone.preprocess(images[:2]), backbone.patch_layers)
    assert tokens.pooled.shape == (2, backbone.embed_dim)
    assert tokens.grid == backbone.grid == ((14, 14) if name in (*timms[3:], "clip", "clip-random") else (12, 12))
    assert backbone.image_size == backbone.patch_size * backbone.grid[0]
    assert len(tokens.patches) == len(backbone.patch_layers)
    assert all(-backbone.depth <= layer < backbone.depth for layer in backbone.patch_layers)
    assert len(backbone.strides) == backbone.depth
    assert backbone.device == torch.device("cpu")


@pytest.mark.parametrize("name", zoo.list(METHOD))
def test_the_encoder_is_the_methods(name: str, images: Tensor) -> None:
    """An encoder is built from its row alone, without the class that it learnt in; the two must not drift apart."""
    method, backbone = zoo.load(name, gives=METHOD), zoo.load(name)
    assert isinstance(method, Method)
    assert not method.training
    network = backbone.vit if isinstance(backbone, Encoder) else backbone.model
    assert not network.training
    theirs = method.encoder.state_dict()
    assert theirs.keys() == network.state_dict().keys()
    assert all(torch.equal(value, theirs[key]) for key, value in network.state_dict().items())
    if isinstance(backbone, Encoder):
        assert backbone.pool == method.pool
        assert backbone.vit.config == method.encoder.config
        x = backbone.preprocess(images)
        with torch.no_grad():
            assert torch.equal(backbone.encode_image(x).patches[0], method.encoder(x)[:, method.encoder.prefix :])


def test_a_file_may_stand_in_for_the_shipped_one(tmp_path: Path, images: Tensor) -> None:
    for name, file in (("simclr", "simclr"), ("swin", "swin"), ("clip", "clip"), ("clip-scratch", "clip-scratch")):
        path = tmp_path / "mine.safetensors"
        shutil.copy(ASSETS / f"{file}.safetensors", path)
        ours, theirs = zoo.load(name, file=path), zoo.load(name)
        x = ours.preprocess(images[:1])
        assert torch.equal(ours.encode_image(x).pooled, theirs.encode_image(x).pooled)
        path.unlink()
        with pytest.raises(FileNotFoundError, match=r"no file mine\.safetensors"):
            zoo.load(name, file=str(path))
    shutil.copy(ASSETS / "mae.safetensors", tmp_path / "mae.safetensors")
    assert zoo.load("mae", gives=METHOD, file=tmp_path / "mae.safetensors").encoder.depth == 6
    for name in ("simclr", "swin"):
        with pytest.raises(ValueError, match=rf"expected those of {name} in mae\.safetensors, got those of mae"):
            zoo.load(name, file=tmp_path / "mae.safetensors")
    with pytest.raises(ValueError, match=r"a header with a tiny CLIP's config in mae\.safetensors"):
        zoo.load("clip", file=tmp_path / "mae.safetensors")


def test_a_name_gives_what_its_row_says() -> None:
    with pytest.raises(ValueError, match="clip gives: expected one of image encoder, text encoder, got 'method'"):
        zoo.load("clip", gives=METHOD)
    with pytest.raises(ValueError, match="device: expected cpu, cuda or mps"):
        zoo.load("random", device="abacus")
    with pytest.raises(ValueError, match="preset: expected one of tiny, paper, got 'huge'"):
        zoo.load("simclr", "huge")
    assert zoo.load("mae", "paper", gives=METHOD).needs  # with its heads it is the shipped one under every preset


def test_the_controls_are_the_same_whatever_was_drawn_before(images: Tensor) -> None:
    for name in ("random", "clip-random"):
        torch.manual_seed(5)
        one = zoo.load(name)
        torch.manual_seed(6)
        other = zoo.load(name, "paper")  # untrained under every preset
        x = one.preprocess(images)
        assert torch.equal(one.encode_image(x).pooled, other.encode_image(x).pooled)
    assert not torch.allclose(
        zoo.load("clip").encode_image(x).pooled, zoo.load("clip-random").encode_image(x).pooled, atol=0.1
    )


def test_how_a_method_was_made_is_known() -> None:
    assert zoo.facts("dinov2")["options"] == {"ibot": 1.0, "koleo": 0.1, "registers": 4, "balance": "sinkhorn"}
    # the recipe's length, or the long one of those that were trained again
    assert {zoo.facts(name)["photographs"] for name in zoo.list(METHOD)} <= {methods.PHOTOGRAPHS, 400_000}
    with pytest.raises(ValueError, match=r"method: expected one of simclr, .*, got 'clip'"):
        zoo.facts("clip")


def test_a_new_network_of_a_known_library_needs_a_row_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "it.safetensors")
    source = Weights("timm", "timm/resnet10t.c3_in1k", "Apache-2.0", 22.0, "https://x", "ImageNet-1k", "timm")
    monkeypatch.setitem(zoo._BY_NAME, "resnet10", zoo.Row("resnet10", (IMAGE,), source, source))
    loaded = zoo.load("resnet10", file=tmp_path / "it.safetensors")
    assert (loaded.image_size, loaded.patch_size, loaded.depth) == (176, 16, 5)
    assert weights.ASSETS == ASSETS
