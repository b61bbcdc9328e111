"""The adapter gives what open_clip's own model gives, and windows what one window alone would give."""

from collections.abc import Callable
from contextlib import nullcontext

import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from gadkit import zoo
from gadkit.backbones import OpenCLIP, Preprocess
from gadkit.backbones.openclip import preprocess_of
from gadkit.backbones.tiny import tokenizer
from gadkit.runtime import has_bf16
from gadkit.weights import WeightsUnavailable

TEXTS = [
    "a photo of a metal nut.",
    "nut",
    "a close-up photo of the unblemished nut without damage for anomaly detection.",
]


@pytest.fixture
def big(published: OpenCLIP) -> OpenCLIP:
    return published


@pytest.fixture(scope="module")
def tiny(tiny_clip: Callable) -> OpenCLIP:
    """Our own architecture with its convolutional stem, smaller still, randomly initialised."""
    return tiny_clip(width=64, layers=3)


@pytest.fixture(params=["big", "tiny"])
def clip(request: pytest.FixtureRequest) -> OpenCLIP:
    return request.getfixturevalue(request.param)


def one_window(clip: OpenCLIP, x0: Tensor, patches: Tensor) -> Tensor:
    """A single window through open_clip's own modules."""
    visual = clip.model.visual
    x = torch.stack([x0[0], *(x0[1 + int(p)] for p in patches)])[None]  # (1, 1 + k, width)
    x = visual.transformer(visual.ln_pre(x))
    return (visual.ln_post(x[:, 0]) @ visual.proj)[0]


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_it_knows_the_model(big: OpenCLIP, tiny: OpenCLIP) -> None:
    assert (big.image_size, big.patch_size, big.grid, big.embed_dim, big.context_length) == (240, 16, (15, 15), 640, 77)
    assert (tiny.image_size, tiny.patch_size, tiny.grid, tiny.embed_dim) == (96, 8, (12, 12), 128)
    assert tiny.preprocess == Preprocess(96, (0.45,) * 3, (0.27,) * 3)
    assert big.device == torch.device("cpu")
    assert (big.depth, big.strides, big.patch_layers) == (3, (16,) * 3, (-1,))
    assert (tiny.depth, tiny.strides) == (3, (8, 8, 8))
    assert big.preprocess.interpolation == "bicubic"


@torch.no_grad()
def test_images_are_encoded_as_open_clip_does(clip: OpenCLIP, images: Tensor) -> None:
    x, visual = clip.preprocess(images[:2]), clip.model.visual
    depth = len(visual.transformer.resblocks)
    tokens = clip.encode_image(x, layers=(1, -1))
    theirs = visual.forward_intermediates(x, indices=[1, depth - 1], output_fmt="NLC")
    assert_same(tokens.pooled, visual(x))
    for ours, other in zip(tokens.patches, theirs["image_intermediates"], strict=True):
        assert_same(ours, other)
    assert tokens.grid == clip.grid
    normed = clip.encode_image(x, norm=True).patches[0]
    assert_same(normed, visual.ln_post(tokens.patches[1]))
    assert_same(clip.encode_image(x, layers=()).pooled, tokens.pooled)


def test_layers_come_in_the_order_asked_for(tiny: OpenCLIP, images: Tensor) -> None:
    x = tiny.preprocess(images[:1])
    there, back = tiny.encode_image(x, layers=(0, 2)).patches, tiny.encode_image(x, layers=(-1, -3)).patches
    assert torch.equal(there[0], back[1])
    assert torch.equal(there[1], back[0])
    with pytest.raises(ValueError, match="from -3 to 2, got 3"):
        tiny.encode_image(x, layers=(3,))


@torch.no_grad()
def test_windows_are_what_each_would_be_alone(clip: OpenCLIP, images: Tensor) -> None:
    x0 = clip.embed_patches(clip.preprocess(images[:2]))
    columns = clip.grid[1]
    windows = torch.tensor([[0, 1, columns, columns + 1], [5, 6, columns + 5, columns + 6], [100, 101, 112, 113]])
    ours = clip.encode_windows(x0, windows)
    for i in range(2):
        for w, patches in enumerate(windows):
            assert_same(ours[i, w], one_window(clip, x0[i], patches))
    assert_same(clip.encode_windows(x0, windows, chunk=1), ours)
    everything = torch.arange(columns * clip.grid[0])[None]  # the largest window is the image
    assert_same(clip.encode_windows(x0[:1], everything)[0], clip.encode_tokens(x0[:1]).pooled)


@torch.no_grad()
def test_a_tower_of_one_block_is_first_and_last_at_once(tiny_clip: Callable, images: Tensor) -> None:
    clip = tiny_clip(0, width=64, layers=1)
    x0 = clip.embed_patches(clip.preprocess(images[:1]))
    window = torch.tensor([[3, 4, 15, 16]])
    assert_same(clip.encode_windows(x0, window)[0, 0], one_window(clip, x0[0], window[0]))


@torch.no_grad()
def test_short_texts_need_no_padding(clip: OpenCLIP) -> None:
    tokens = clip.tokenizer(TEXTS)
    ours = clip.encode_text(TEXTS)
    torch.testing.assert_close(ours, clip.model.encode_text(tokens), rtol=1e-5, atol=1e-5)
    assert_same(clip.encode_text(TEXTS[1:2])[0], ours[1])


@torch.no_grad()
def test_other_text_towers_are_cut_as_exactly(tiny: OpenCLIP) -> None:
    from open_clip.model import CustomTextCLIP

    text = {
        "context_length": tiny.context_length,
        "width": 64,
        "layers": 2,
        "heads": 2,
        "vocab_size": tiny.tokenizer.vocab_size,
    }
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 1}
    eos = tiny.tokenizer.eot_token_id
    others = ({"pool_type": "last"}, {"pool_type": "first"}, {"no_causal_mask": True}, {"proj_type": "none"})
    for extra in ({}, {"proj_bias": True}, {"pool_type": "eos", "eos_id": eos}, {"embed_cls": True}, *others):
        clip = OpenCLIP(CustomTextCLIP(32, vision, text | extra), tiny.tokenizer)
        whole = clip.model.encode_text(clip.tokenizer(TEXTS))
        assert_same(clip.encode_text(TEXTS), whole)


def test_texts_that_fill_the_context_are_counted(tiny: OpenCLIP) -> None:
    long = "gear " * 60
    assert tiny.full([long, "gear", long]) == 2
    assert tiny.full(["gear"]) == 0
    mute = OpenCLIP(tiny.model, lambda texts: tiny.tokenizer(texts))  # does not tell its end token
    assert mute.full([long]) == 0


def test_a_warning_says_what_of_texts_is_cut(tiny: OpenCLIP) -> None:
    fits = "gear " * (tiny.context_length - 2)
    tiny.encode_text([fits])  # warnings are errors here
    with pytest.warns(UserWarning, match=r"cut to \d+ tokens: 'nut' is not read$") as told:
        cut = tiny.encode_text(["gear", fits + "nut"])
    assert len(told) == 1
    assert torch.allclose(cut[1], tiny.encode_text([fits])[0], atol=1e-5)
    with pytest.warns(UserWarning, match="'nut' is not read, nor are the ends of 2 others"):
        tiny.encode_text([fits + "nut", fits + "nut", fits + "gear"])
    mute = OpenCLIP(tiny.model, lambda texts: tiny.tokenizer(texts))  # does not tell its end token
    assert torch.equal(mute.encode_text([fits + "nut"])[0], mute.encode_text([fits])[0])


@torch.no_grad()
def test_many_texts_are_encoded_as_one_by_one(tiny: OpenCLIP) -> None:
    texts = [f"gear {i}" for i in range(260)]  # more than are encoded at once
    whole = tiny.encode_text(texts)
    assert whole.shape == (260, tiny.embed_dim)
    assert_same(whole[255:258], torch.cat([tiny.encode_text([text]) for text in texts[255:258]]))


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("chunk", [0, -1, 2.5, None])
def test_a_chunk_holds_something(tiny: OpenCLIP, images: Tensor, chunk: object) -> None:
    x0 = tiny.embed_patches(tiny.preprocess(images[:1]))
    with pytest.raises(ValueError, match="chunk: expected a whole number from 1"):
        tiny.encode_tokens(x0, chunk=chunk)
    with pytest.raises(ValueError, match="chunk: expected a whole number from 1"):
        tiny.encode_windows(x0, torch.tensor([[0, 143]]), chunk=chunk)


@torch.no_grad()
def test_chunks_change_nothing(tiny: OpenCLIP, images: Tensor) -> None:
    x = tiny.preprocess(images)
    whole, pieces = tiny.encode_image(x), tiny.encode_image(x, chunk=1)
    assert_same(whole.pooled, pieces.pooled)
    assert_same(whole.patches[0], pieces.patches[0])


def test_edges_do_not_overshoot(tiny: OpenCLIP) -> None:
    edge = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    edge[..., 32:] = 255
    x = tiny.preprocess(edge)
    assert x.min().item() == pytest.approx(-0.45 / 0.27)
    assert x.max().item() == pytest.approx(0.55 / 0.27)


@torch.no_grad()
def test_changed_weights_are_noticed(tiny_clip: Callable, images: Tensor) -> None:
    clip = tiny_clip(0, width=64, layers=2)
    x = clip.preprocess(images)
    before = clip.encode_image(x).pooled
    assert clip.tower() is clip.tower()
    clip.model.visual.transformer.resblocks[0].mlp.c_fc.weight.mul_(1.5)
    assert not torch.allclose(clip.encode_image(x).pooled, before)
    assert_same(clip.encode_image(x).pooled, clip.model.visual(x))


def test_architectures_with_more_parts(images: Tensor) -> None:
    from open_clip.model import CLIP

    text = {"context_length": 24, "width": 64, "layers": 1, "heads": 2, "vocab_size": tokenizer().vocab_size}
    vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "no_ln_pre": True, "ls_init_value": 0.5}
    clip = OpenCLIP(CLIP(32, vision, text, quick_gelu=True), tokenizer())
    x = clip.preprocess(images)
    with torch.no_grad():
        assert_same(clip.encode_image(x).pooled, clip.model.visual(x))
    for wrong in ({"pool_type": "avg"}, {"attentional_pool": True}, {"block_type": "custom"}, {"layers": (1, 1, 1, 1)}):
        with pytest.raises(ValueError, match="image tower: expected"):
            OpenCLIP(CLIP(32, vision | {"patch_size": 8} | wrong, text), tokenizer())
    with pytest.raises(ValueError, match="square"):
        OpenCLIP(CLIP(32, vision | {"image_size": (32, 40)}, text), tokenizer())


def test_bfloat16_is_close(tiny: OpenCLIP, images: Tensor) -> None:
    x = tiny.preprocess(images)
    full, half = tiny.encode_image(x).pooled, tiny.encode_image(x, precision="bfloat16").pooled
    assert half.dtype == torch.float32
    assert torch.cosine_similarity(full, half).min() > 0.999
    assert not torch.equal(full, half)
    assert has_bf16(torch.device("cpu")) in (True, False)
    with pytest.raises(ValueError, match="float32, bfloat16, got 'int8'"):
        tiny.encode_image(x, precision="int8")


def test_an_emulated_bfloat16_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("torch.cuda.device", lambda where: asked.append(where) or nullcontext())
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not has_bf16(torch.device("cuda:1"))
    assert asked == [torch.device("cuda:1")]


def test_nothing_asks_for_gradients_but_features_can_be_trained_on(tiny: OpenCLIP, images: Tensor) -> None:
    tokens = tiny.encode_image(tiny.preprocess(images))
    assert not tokens.pooled.requires_grad
    head = torch.nn.Linear(tiny.embed_dim, 1)
    head(tokens.pooled).sum().backward()  # would fail on tensors made in inference mode
    assert head.weight.grad is not None
    assert all(p.grad is None for p in tiny.model.parameters())


def test_preprocessing_is_the_one_of_the_weights(big: OpenCLIP, photographs: Tensor) -> None:
    ours = big.preprocess(photographs[:1, :, :300, :400])
    picture = Image.fromarray(photographs[0, :, :300, :400].permute(1, 2, 0).numpy())
    squashed = torch.tensor(list(picture.resize((240, 240), Image.Resampling.BICUBIC).tobytes())).view(240, 240, 3)
    mean, std = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])
    theirs = ((squashed / 255 - mean) / std).permute(2, 0, 1)
    assert (ours[0] - theirs).abs().max() < 1.5 / 255 / 0.26  # PIL rounds to whole levels, after each axis
    large = photographs.repeat(1, 1, 4, 4)  # 2048 x 2048: one image at a time
    assert_same(big.preprocess(large)[2], big.preprocess(large[2:])[0])


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("images", "reason"),
    [
        (torch.zeros(1, 3, 8, 8), "uint8"),
        (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "empty"),
        (torch.zeros(3, 8, 8, dtype=torch.uint8), "shape"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "shape"),
        (torch.zeros(1, 3, 1, 1, dtype=torch.uint8), "2 x 2"),
        ("picture.png", "str"),
    ],
)
def test_bad_images_are_named(tiny: OpenCLIP, images: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tiny.preprocess(images)


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
def test_images_that_were_not_preprocessed_are_named(tiny: OpenCLIP, images: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        tiny.encode_image(images)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("texts", ["a photo", [], [1], None])
def test_bad_texts_are_named(tiny: OpenCLIP, texts: object) -> None:
    with pytest.raises(ValueError, match="texts: expected a list"):
        tiny.encode_text(texts)


WRONG = [torch.tensor([[144]]), torch.tensor([[-1]]), torch.tensor([0]), torch.zeros(1, 1), torch.zeros(0, 2).long()]


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("windows", [*WRONG, None])
def test_windows_off_the_grid_are_named(tiny: OpenCLIP, images: Tensor, windows: Tensor) -> None:
    with pytest.raises(ValueError, match="windows: expected"):
        tiny.encode_windows(tiny.embed_patches(tiny.preprocess(images)), windows)


def test_weights_that_cannot_be_had_are_named(tmp_path) -> None:
    with pytest.raises(
        WeightsUnavailable, match=r"open_clip_model\.safetensors of timm/vit_base_patch16_plus_clip_240"
    ):
        zoo.load("clip", "paper", cache_dir=tmp_path)
    with pytest.raises(ValueError, match="preset: expected"):
        zoo.load("clip", "huge")


@pytest.mark.slow
def test_published_weights_are_read_from_the_hub_cache(tmp_path) -> None:
    model = open_clip.create_model("ViT-B-16-plus-240", load_weights=False)  # all of its blocks
    commit = "0" * 40
    repository = tmp_path / "models--timm--vit_base_patch16_plus_clip_240.laion400m_e31"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    file = snapshot / "open_clip_model.safetensors"
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, file)
    loaded = zoo.load("clip", "paper", cache_dir=tmp_path)
    assert all(torch.equal(value, state[name]) for name, value in loaded.model.state_dict().items())
    assert loaded.preprocess == preprocess_of(model.visual)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(Exception, match=r"(?i)header|incomplete|metadata"):  # a broken file is not a missing one
        zoo.load("clip", "paper", cache_dir=tmp_path)
