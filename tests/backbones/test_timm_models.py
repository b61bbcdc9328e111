"""The adapter gives what timm's own models give, on one grid; published weights load by timm's own calls, offline."""

from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg
from torch import Tensor, nn

from gadkit import zoo
from gadkit.backbones import Preprocess, Timm
from gadkit.backbones.timm_models import TINY, _cleaner, _demand
from gadkit.nn.baselines import ARCHITECTURES, tiny_model
from gadkit.weights import WeightsUnavailable

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "interpolation": "bilinear"}
PUBLISHED = [name for name in zoo.list(preset="paper") if zoo.find(name, "paper").library == "timm"]
FOREIGN = [name for name in PUBLISHED if "architecture" in zoo.find(name, "paper").options]  # not timm's own
HALF = (0.5,) * 3
SEEN = {  # how each wants its images, by its authors or by timm's record: mean, deviation, interpolation, side
    "simclr": ((0.0,) * 3, (1.0,) * 3, "bicubic", 224),
    "swav": ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225), "bilinear", 224),
    "mocov3": (*(IMAGENET[key] for key in ("mean", "std")), "bilinear", 224),
    "dino": (IMAGENET["mean"], IMAGENET["std"], "bicubic", 224),
    "dinov2": (IMAGENET["mean"], IMAGENET["std"], "bicubic", 518),
    "mae": (IMAGENET["mean"], IMAGENET["std"], "bicubic", 224),
    "vit": (HALF, HALF, "bicubic", 224),
    "convnext": (IMAGENET["mean"], IMAGENET["std"], "bicubic", 224),
    "swin": (IMAGENET["mean"], IMAGENET["std"], "bicubic", 224),
    "efficientnet-lite0": (HALF, HALF, "bicubic", 224),
}
SMALL = ["simclr", "swav", "efficientnet-lite0"]  # the others are three times as large, or more


@pytest.fixture(scope="module", params=ARCHITECTURES)
def tiny(request: pytest.FixtureRequest) -> Timm:
    torch.manual_seed(1)
    return Timm(tiny_model(request.param), TINY, patch_size=8)


def architecture(name: str) -> nn.Module:
    """The published architecture with its classifier, where the published file has one; untrained."""
    source = zoo.find(name, "paper")
    given = source.options.get("architecture", source.id.removeprefix("timm/"))
    return timm.create_model(given, num_classes=source.options.get("record", {}).get("num_classes", 1000))


def publish(name: str, model: nn.Module, cache: Path) -> Path:
    """Write a checkpoint into a cache, in the form in which the authors published theirs; return its path."""
    record = zoo.find(name, "paper")
    state = {key: value.contiguous() for key, value in model.state_dict().items()}
    if record.id.startswith("https://"):
        file = cache / record.id.rsplit("/", 1)[1]
        extra = {"projection_head.0.weight": torch.zeros(2, 2), "prototypes.weight": torch.zeros(3, 2)}
        torch.save({f"module.{key}": value for key, value in {**state, **extra}.items()}, file)
        return file
    repository = cache / f"models--{record.id.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    if name == "simclr":
        file = snapshot / "resnet50-1x.pth"
        torch.save({"state_dict": state}, file)
    else:
        file = snapshot / "model.safetensors"
        save_file(state, file)
    return file


def check_published(name: str, cache: Path) -> None:
    """The whole way: write a checkpoint of the real architecture, load it by name, look through it."""
    torch.manual_seed(3)
    theirs = architecture(name).eval()
    file = publish(name, theirs, cache)
    if size := zoo.find(name, "paper").size:
        assert file.stat().st_size / 1e6 == pytest.approx(size, rel=0.01)
    ours = zoo.load(name, "paper", device="cpu", cache_dir=cache)
    if not zoo.find(name, "paper").options.get("classifier"):
        theirs.reset_classifier(0)
    assert all(torch.equal(value, theirs.state_dict()[key]) for key, value in ours.model.state_dict().items())
    assert ours.model.state_dict().keys() == theirs.state_dict().keys()
    x = ours.preprocess(torch.randint(256, (1, 3, 64, 80), dtype=torch.uint8))
    assert (ours.preprocess.mean, ours.preprocess.std, ours.preprocess.interpolation, ours.image_size) == SEEN[name]
    tokens = ours.encode_image(x, layers=(0, -1))
    with torch.no_grad():
        torch.testing.assert_close(tokens.pooled, theirs.forward_head(theirs.forward_features(x), pre_logits=True))
    assert [p.shape[1] for p in tokens.patches] == [tokens.grid[0] * tokens.grid[1]] * 2
    assert tokens.grid[0] * ours.patch_size == ours.image_size
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(Exception, match=r"(?i)header|incomplete|zip|central directory|metadata"):
        zoo.load(name, "paper", cache_dir=cache)  # a broken file is not a missing one


@pytest.mark.parametrize("name", SMALL)
def test_published_weights_are_read_from_the_cache(name: str, tmp_path: Path) -> None:
    check_published(name, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in SMALL])
def test_large_published_weights_are_read_from_the_cache(name: str, tmp_path: Path) -> None:
    check_published(name, tmp_path)


def test_a_weight_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    model = architecture("swav")
    model.extra = nn.Linear(2, 2)
    publish("swav", model, tmp_path)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*extra\.weight"):
        zoo.load("swav", "paper", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("mae", "model.safetensors of timm/vit_base_patch16_224.mae is missing"),
        ("simclr", "resnet50-1x.pth of lightly-ai/simclrv1-imagenet1k-resnet50-1x is missing"),
        ("swav", "the file is missing"),
    ],
)
def test_weights_that_cannot_be_had_are_named(name: str, missing: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable) as error:
        zoo.load(name, "paper", cache_dir=tmp_path)
    for part in (zoo.find(name, "paper").id, f"not cached here: {missing}", "GADKIT_PRESET=tiny"):
        assert part in str(error.value)


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_a_local_file_needs_no_cache(ending: str, tmp_path: Path) -> None:
    theirs, path = architecture("simclr").eval(), tmp_path / f"mine.{ending}"
    state = {key: value.contiguous() for key, value in theirs.state_dict().items()}
    if ending == "pth":
        torch.save({"state_dict": state}, path)
    else:
        save_file(state, path)
    ours = zoo.load("simclr", "paper", file=path, cache_dir=tmp_path / "empty")
    assert all(torch.equal(value, state[key]) for key, value in ours.model.state_dict().items())
    path.unlink()
    with pytest.raises(FileNotFoundError, match=f"no file mine.{ending}"):
        zoo.load("simclr", "paper", file=path)


def test_what_a_file_holds_beside_the_network_is_left_out() -> None:
    a, b, c = torch.ones(1), torch.ones(2), torch.ones(3)
    inner = {"module.a": a, "module.head.b": b, "c": c}
    assert _cleaner("net", "module.", ("head.",))({"net": inner}, nn.Identity()) == {"a": a, "c": c}
    assert _cleaner("net")({"net": inner}, nn.Identity()) == inner
    assert _cleaner()(inner, nn.Identity()) == inner
    assert _cleaner("net", drop=("c",))({"a": a, "c": c}, nn.Identity()) == {"a": a}  # timm has unwrapped it itself


def test_only_an_offline_hub_demands_a_cached_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    address = "https://somewhere/deep/net.pth.tar"
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    for cache, folder in ((None, tmp_path / "hub" / "checkpoints"), (str(tmp_path / "c"), tmp_path / "c")):
        with pytest.raises(FileNotFoundError, match=r"net\.pth\.tar"):
            _demand(address, cache)
        folder.mkdir(parents=True)
        (folder / "net.pth.tar").touch()
        _demand(address, cache)
        (folder / "net.pth.tar").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    _demand(address, None)


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(ValueError, match="architecture: expected one of vit, convnext, swin, got 'resnet'"):
        tiny_model("resnet")


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in FOREIGN])
def test_timm_knows_the_weights_of_its_own_by_the_same_name_and_licence(name: str) -> None:
    record = zoo.find(name, "paper")
    known = get_pretrained_cfg(record.id.removeprefix("timm/"), allow_unregistered=False)
    assert known.hf_hub_id == record.id
    spelt = record.licence.split(" (")[0].lower().replace("cc by-nc", "cc-by-nc").replace("4.0", "").strip(" -")
    assert known.license.startswith(spelt)


@torch.no_grad()
def test_layers_are_timms_own(tiny: Timm, images: Tensor) -> None:
    x = tiny.preprocess(images)
    final, maps = tiny.model.forward_intermediates(x, output_fmt="NCHW")
    tokens = tiny.encode_image(x, layers=range(tiny.depth))
    torch.testing.assert_close(tokens.pooled, tiny.model(x))
    assert tokens.pooled.shape == (4, tiny.embed_dim)
    for theirs, ours in zip(maps[:-1], tokens.patches[:-1], strict=True):
        assert ours.shape[1] == 144
        if theirs.shape[-1] == 12:
            torch.testing.assert_close(ours, theirs.flatten(2).transpose(1, 2))
    assert torch.equal(tokens.patches[-1], tiny.encode_image(x).patches[0])
    assert final.isfinite().all()


@torch.no_grad()
def test_the_last_layer_is_after_the_final_norm(images: Tensor) -> None:
    for name in ("vit", "swin"):
        tiny = Timm(tiny_model(name), TINY, patch_size=8)
        tiny.model.norm.weight.fill_(0.0)
        tiny.model.norm.bias.fill_(0.25)
        first, last = tiny.encode_image(tiny.preprocess(images), layers=(0, -1)).patches
        torch.testing.assert_close(last, torch.full_like(last, 0.25))
        assert first.std() > 0.01


@torch.no_grad()
def test_stages_come_on_one_grid(images: Tensor) -> None:
    tiny = Timm(tiny_model("convnext"), TINY, patch_size=8)
    x = tiny.preprocess(images)
    maps = tiny.model.forward_intermediates(x, output_fmt="NCHW")[1]
    assert [m.shape[-1] for m in maps] == [24, 12, 6, 3]
    patches = tiny.encode_image(x, layers=(0, 3)).patches
    finer = patches[0].unflatten(1, (12, 12)).unflatten(3, (24, 2, 2))  # (4, rows, columns, e, down, right)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):  # nothing of the finer map is lost
        torch.testing.assert_close(finer[..., down, right].permute(0, 3, 1, 2), maps[0][:, :, down::2, right::2])
    corners = patches[1].unflatten(1, (12, 12))[:, [0, 0, -1, -1], [0, -1, 0, -1]]  # (4, 4, 192)
    torch.testing.assert_close(corners, maps[3][:, :, [0, 0, -1, -1], [0, -1, 0, -1]].transpose(1, 2))


@torch.no_grad()
@pytest.mark.parametrize("registers", [0, 4])
def test_prefix_tokens_are_no_patches(registers: int, images: Tensor) -> None:
    model = timm.models.VisionTransformer(
        64, 8, embed_dim=32, depth=1, num_heads=2, num_classes=0, reg_tokens=registers
    )
    ours = Timm(model, {**TINY, "input_size": (3, 64, 64)})
    x = ours.preprocess(images)
    torch.testing.assert_close(ours.encode_image(x).patches[0], model.forward_features(x)[:, 1 + registers :])
    assert (ours.depth, ours.strides, ours.patch_size, ours.grid) == (1, (8,), 8, (8, 8))


@torch.no_grad()
def test_the_last_map_is_what_the_network_goes_on_with(images: Tensor) -> None:
    for name in ("swin", "convnext"):
        ours = Timm(tiny_model(name), TINY, patch_size=32)  # the last stage's own grid
        x = ours.preprocess(images)
        final = ours.model.forward_features(x)
        final = final if name == "swin" else final.permute(0, 2, 3, 1)  # (b, 3, 3, e)
        torch.testing.assert_close(ours.encode_image(x).patches[0], final.flatten(1, 2))


def test_coarser_maps_are_interpolated_between_their_centres() -> None:
    ours = Timm(tiny_model("convnext"), TINY, patch_size=8)
    ramp = torch.arange(3.0).expand(1, 1, 3, 3)  # from left to right
    expected = ((torch.arange(12) + 0.5) / 4 - 0.5).clamp(0, 2)
    torch.testing.assert_close(ours._patches(ramp)[0, :, 0], expected.repeat(12))


def test_a_finer_map_that_does_not_fit_is_enlarged_first() -> None:
    ours = Timm(tiny_model("convnext"), TINY, patch_size=8)  # a grid of 12 x 12
    assert ours._patches(torch.full((1, 2, 23, 23), 0.5)).equal(torch.full((1, 144, 8), 0.5))
    assert ours._patches(torch.rand(1, 2, 25, 25)).shape == (1, 144, 18)


def test_a_final_convolution_is_no_layer(images: Tensor) -> None:
    model = timm.create_model("tf_efficientnet_lite0", num_classes=0)
    ours = Timm(model, {**TINY, "input_size": (3, 64, 64)}, patch_layers=(-1, 2))
    with torch.no_grad():
        tokens = ours.encode_image(ours.preprocess(images), layers=(-1,))
    assert (tokens.patches[0].shape[2], tokens.pooled.shape[1]) == (320, 1280)
    assert ours.patch_layers == (4, 2)
    with pytest.raises(ValueError, match="layers: expected numbers from -5 to 4, got 7"):
        Timm(model, {**TINY, "input_size": (3, 64, 64)}, patch_layers=(7,))


def test_what_it_says_of_itself(tiny: Timm) -> None:
    pyramid = len(tiny.strides) == 4
    assert (tiny.image_size, tiny.patch_size, tiny.grid) == (96, 8, (12, 12))
    assert tiny.strides == ((4, 8, 16, 32) if pyramid else (8,) * 6)
    assert tiny.patch_layers == ((1,) if pyramid else (5,))
    assert tiny.preprocess == Preprocess(96, (0.45,) * 3, (0.27,) * 3, "bicubic")


def test_a_patch_is_best_described_where_the_network_still_tells_it_from_its_neighbours() -> None:
    for patch, layer in ((4, 0), (8, 1), (16, 2), (32, 3), (2, 0)):
        assert Timm(tiny_model("convnext"), TINY, patch_size=patch).patch_layers == (layer,)


def test_the_grid_of_a_pyramid_is_the_last_stage_but_ones() -> None:
    model = timm.create_model("resnet18", num_classes=0)
    assert Timm(model, {"input_size": (3, 224, 224), **IMAGENET}).patch_size == 16
    for size in ((3, 224, 192), (3, 100, 100)):
        with pytest.raises(ValueError, match="a square of whole patches, 16 wide"):
            Timm(model, {"input_size": size, **IMAGENET})


def test_layers_come_in_the_order_asked_for(tiny: Timm, images: Tensor) -> None:
    x = tiny.preprocess(images[:1])
    there, back = tiny.encode_image(x, layers=(0, 2)).patches, tiny.encode_image(x, layers=(2, -tiny.depth)).patches
    assert torch.equal(there[0], back[1])
    assert torch.equal(there[1], back[0])
    assert tiny.encode_image(x, layers=()).patches == ()
    with pytest.raises(ValueError, match=rf"from -{tiny.depth} to {tiny.depth - 1}, got 9"):
        tiny.encode_image(x, layers=(9,))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_teaching_sizes_agree(name: str) -> None:
    model = tiny_model(name)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(1.25e6, rel=0.05)
    for size in (64, 96):
        assert model(torch.zeros(1, 3, size, size)).shape == (1, model.head_hidden_size)


def test_nothing_asks_for_gradients(tiny: Timm, images: Tensor) -> None:
    tokens = tiny.encode_image(tiny.preprocess(images))
    assert not tokens.pooled.requires_grad
    torch.nn.Linear(tiny.embed_dim, 1)(tokens.pooled).sum().backward()  # would fail on inference tensors
    assert tiny.device == torch.device("cpu")


def test_preprocessing_interpolates_as_the_weights_expect(photographs: Tensor) -> None:
    picture = photographs[:1, :, :300, :400]
    for name, filter in (("bicubic", Image.Resampling.BICUBIC), ("bilinear", Image.Resampling.BILINEAR)):
        config = {"input_size": (3, 224, 224), "mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": name}
        ours = Timm(timm.create_model("resnet18", num_classes=0), config).preprocess(picture)[0]
        squashed = Image.fromarray(picture[0].permute(1, 2, 0).numpy()).resize((224, 224), filter)
        theirs = torch.tensor(list(squashed.tobytes())).view(224, 224, 3).permute(2, 0, 1) / 255
        assert (ours - theirs).abs().max() < 1.5 / 255  # PIL rounds to whole levels, after each axis
    with pytest.raises(ValueError, match="interpolation: expected one of bicubic, bilinear, got 'nearest'"):
        Timm(timm.create_model("resnet18", num_classes=0), {**TINY, "interpolation": "nearest"})


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (torch.zeros(1, 3, 96, 96, dtype=torch.uint8), "floats"),
        (torch.zeros(1, 3, 32, 32), "96"),
        (torch.zeros(0, 3, 96, 96), "empty"),
        (torch.full((1, 3, 96, 96), torch.nan), "NaN"),
        (None, "NoneType"),
    ],
)
def test_images_that_were_not_preprocessed_are_named(tiny: Timm, images: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tiny.encode_image(images)
