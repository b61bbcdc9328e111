"""AnomalyCLIP against a slow literal reading of the paper: head by head, padded prompts, SciPy's Gaussian."""

import copy
import itertools
import math
from collections.abc import Callable

import numpy as np
import open_clip
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.ndimage import gaussian_filter
from suite import joined, same, textured
from torch import Tensor, nn

from gadkit import weights
from gadkit.anomaly.detectors.anomalyclip import AnomalyCLIP, own_names, untrained
from gadkit.anomaly.maps import SIGMA, smooth_upsample, upsample
from gadkit.backbones import OpenCLIP
from gadkit.backbones.prompted import encode_prompts
from gadkit.backbones.tiny import tokenizer

Heads = dict[str, Tensor]


def strong(heads: Heads) -> Heads:
    """Learnt tokens as large as words, so that they matter."""
    return {name: 10 * value for name, value in heads.items()}


@pytest.fixture(scope="module")
def clip(tiny_clip: Callable) -> OpenCLIP:
    return tiny_clip(image_size=64, width=64, layers=5, text_layers=4)


@pytest.fixture(scope="module")
def heads(clip: OpenCLIP) -> Heads:
    return strong(untrained(clip, context=5, rows=2, tokens=3))


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(5)


def near(ours: Tensor, theirs: Tensor, atol: float) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=atol)


class Literal:
    """The paper and its authors' code, step by step, on open_clip's modules; arguments as those of `AnomalyCLIP`."""

    def __init__(self, clip: OpenCLIP, heads: Heads, like: AnomalyCLIP) -> None:
        self.clip, self.like = clip, like
        self.model = copy.deepcopy(clip.model).double()  # so that only our rounding counts
        self.heads = {name: value.double() for name, value in heads.items()}

    def prompt(self, context: Tensor, words: str) -> Tensor:
        text, tokens = self.model, self.clip.tokenizer([words])[0].tolist()
        end = self.clip.tokenizer.eot_token_id
        ids = tokens[1 : tokens.index(end) + 1]
        rows = [text.token_embedding.weight[tokens[0]], *context, *(text.token_embedding.weight[i] for i in ids)]
        last = len(rows) - 1
        rows += [text.token_embedding.weight[0]] * (self.clip.context_length - len(rows))  # padded, unlike ours
        x = (torch.stack(rows) + text.positional_embedding)[None]
        for number, block in enumerate(text.transformer.resblocks):
            if number > 0 and number - 1 < len(self.heads["deep"]):
                learnt = self.heads["deep"][number - 1]
                learnt = learnt.half().double() if self.like.half else learnt
                for k in range(len(learnt)):
                    x[0, 1 + k] = learnt[k]
            hidden = block.ln_1(x)
            x = x + block.attn(hidden, hidden, hidden, attn_mask=text.attn_mask)[0]
            x = x + block.mlp(block.ln_2(x))
        vector = text.ln_final(x[0, last]) @ text.text_projection
        return vector / vector.norm()

    def text(self) -> list[Tensor]:
        names = ("normal", "anomalous")
        return [self.prompt(self.heads[n], words) for n, words in zip(names, self.like.words, strict=True)]

    def tokens(self, image: Tensor) -> Tensor:
        visual = self.model.visual
        patches = self.clip.model.visual.conv1(self.clip.preprocess(image[None]))[0].double()
        rows, columns = self.clip.grid
        tokens = [visual.class_embedding, *(patches[:, r, c] for r in range(rows) for c in range(columns))]
        return visual.ln_pre(torch.stack(tokens) + visual.positional_embedding)

    def attend(self, block: nn.Module, hidden: Tensor, values_only: bool) -> Tensor:
        q, k, v = (hidden @ block.attn.in_proj_weight.T + block.attn.in_proj_bias).chunk(3, dim=-1)
        if values_only:
            q, k = v, v
        size = block.attn.head_dim
        heads = [slice(i, i + size) for i in range(0, q.shape[-1], size)]
        found = [(q[:, h] @ k[:, h].T / math.sqrt(size)).softmax(-1) @ v[:, h] for h in heads]
        return block.attn.out_proj(torch.cat(found, -1))

    def streams(self, image: Tensor) -> tuple[Tensor, dict[int, Tensor]]:
        """The image vector, and every layer's value stream (the ordinary one before it begins)."""
        visual, x, stream, found = self.model.visual, self.tokens(image), None, {}
        blocks = visual.transformer.resblocks
        for number, block in enumerate(blocks):
            hidden = block.ln_1(x)
            if number >= len(blocks) - self.like.blocks:
                stream = (x if stream is None else stream) + self.attend(block, hidden, values_only=True)
            x = x + self.attend(block, hidden, values_only=False)
            x = x + block.mlp(block.ln_2(x))
            found[number] = (x if stream is None else stream)[1:]
        vector = (visual.ln_post(x[0]) if self.like.class_norm else x[0]) @ visual.proj
        return vector / vector.norm(), found

    @torch.no_grad()
    def score(self, image: Tensor, text: Tensor) -> dict[str, Tensor]:
        visual, (vector, streams) = self.model.visual, self.streams(image)
        taken = [streams[i % len(streams)] for i in self.like.layers]
        maps, patches = [], []
        height, width = image.shape[1:]
        for stream in taken:
            each = visual.ln_post(stream) @ visual.proj
            each = each / each.norm(dim=-1, keepdim=True)
            patches.append(each)
            both = (each @ text.T / self.like.temperature).softmax(-1).T.unflatten(1, self.clip.grid)  # (2, r, c)
            both = F.interpolate(both[None], (height, width), mode="bilinear", align_corners=False)[0]
            maps.append((both[1] + 1 - both[0]) / 2)
        mean = torch.stack(maps).mean(0).numpy()
        sigma = (self.like.sigma * height, self.like.sigma * width)
        return {
            "vectors": vector.float(),
            "patches": torch.stack(patches).float(),
            "value_stream": torch.stack(taken).float(),
            "map": torch.from_numpy(gaussian_filter(mean, sigma) if self.like.sigma else mean).float(),
            "score": (vector @ text.T / self.like.temperature).softmax(-1)[1].float(),
        }


def assert_as_the_paper(clip: OpenCLIP, heads: Heads, pictures: Tensor, **arguments: object) -> None:
    detector = AnomalyCLIP(clip, heads, **arguments).fit()
    literal, result = Literal(clip, heads, detector), detector.score(pictures)
    found = detector.intermediates(pictures)
    for text in (found["text"], detector.text_vectors_):
        near(text, torch.stack(literal.text()).detach().float(), 1e-6)
    for i, picture in enumerate(pictures):
        expected = literal.score(picture, detector.text_vectors_.double())
        for name in ("vectors", "patches"):
            near(found[name][i], expected[name], 1e-5)
        size = expected["value_stream"].abs().max()
        near(found["value_stream"][i] / size, expected["value_stream"] / size, 1e-5)
        close = 1e-6 * 0.07 / min(0.07, detector.temperature)  # it magnifies the rounding of a cosine
        near(result.maps[i], expected["map"], close)
        near(result.scores[i], expected["score"], close)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"temperature": 0.01},
        {"words": ("part.", "part with a scratch.")},
        {"blocks": 1},
        {"blocks": 5, "layers": (0, 2, -1)},
        {"blocks": 2, "layers": (1,)},
        {"class_norm": True},
        {"half": True},
        {"sigma": 0.0},
        {"sigma": 0.2},
    ],
    ids=str,
)
def test_it_is_what_the_paper_says(clip: OpenCLIP, heads: Heads, pictures: Tensor, arguments: dict) -> None:
    assert_as_the_paper(clip, heads, pictures[:2], **arguments)


def test_options_change_what_they_say(clip: OpenCLIP, heads: Heads, pictures: Tensor) -> None:
    default = AnomalyCLIP(clip, heads).fit().score(pictures)
    assert AnomalyCLIP(clip, heads).blocks == 4  # 19 of 24 are 4 of 5
    maps_only = ({"blocks": 3}, {"layers": (-2,)}, {"sigma": 0.0})
    both = ({"half": True}, {"words": ("part.", "broken.")}, {"temperature": 0.05})
    for options in (*maps_only, *both):
        found = AnomalyCLIP(clip, heads, **options).fit().score(pictures)
        assert not torch.equal(found.maps, default.maps), options
        assert torch.equal(found.scores, default.scores) is (options in maps_only), options
    normed = AnomalyCLIP(clip, heads, class_norm=True).fit().score(pictures)
    assert torch.equal(normed.maps, default.maps)
    assert not torch.equal(normed.scores, default.scores)


def test_neither_batches_nor_chunks_change_anything(clip: OpenCLIP, heads: Heads, pictures: Tensor) -> None:
    """The authors' test script gives every image of a batch the first one's score."""
    together = AnomalyCLIP(clip, heads).fit().score(pictures)
    assert len(set(together.scores.tolist())) == 5
    alone = [AnomalyCLIP(clip, heads).fit().score(picture[None]) for picture in pictures]
    same(joined(alone), together, 1e-6)
    for chunk in (1, 130, 10**6):
        same(AnomalyCLIP(clip, heads, chunk=chunk).fit().score(pictures), together, 1e-6)


def test_heads_travel_with_the_state(clip: OpenCLIP, heads: Heads, pictures: Tensor) -> None:
    detector = AnomalyCLIP(clip, heads, layers=(-1, -2), half=True, words=("a.", "b.")).fit()
    other = AnomalyCLIP(clip, untrained(clip, context=2, rows=1, tokens=1)).fit().load_state(detector.state())
    assert {name: other.heads[name].tolist() for name in heads} == {n: v.tolist() for n, v in heads.items()}
    assert torch.equal(other.score(pictures).maps, detector.score(pictures).maps)


def test_normal_images_are_refused(clip: OpenCLIP, heads: Heads, pictures: Tensor) -> None:
    with pytest.raises(ValueError, match="normal images: AnomalyCLIP scores an image by itself, so it takes none"):
        AnomalyCLIP(clip, heads).fit(pictures)


def published(width: int, context: int = 12, rows: int = 8, tokens: int = 4, length: int = 77) -> Heads:
    """Tensors of the names and shapes of the authors' checkpoints, checkpoints/9_12_4_multiscale/epoch_15.pth."""
    draw = torch.Generator().manual_seed(5)
    found = {f"ctx_{s}": 0.02 * torch.randn(1, 1, context, width, generator=draw) for s in ("pos", "neg")}
    for s in ("pos", "neg"):
        found |= {f"token_prefix_{s}": torch.zeros(1, 1, 1, width)}
        found |= {f"token_suffix_{s}": torch.zeros(1, 1, length - 1 - context, width)}
        found |= {f"tokenized_prompts_{s}": torch.zeros(1, 1, length, dtype=torch.int32)}
    for i in range(rows):
        found[f"compound_prompts_text.{i}"] = 0.02 * torch.randn(tokens, width, generator=draw)
        found[f"compound_prompt_projections.{i}.weight"] = torch.zeros(896, width)
        found[f"compound_prompt_projections.{i}.bias"] = torch.zeros(896)
    return found


def test_published_checkpoints_are_read(clip: OpenCLIP, pictures: Tensor, tmp_path) -> None:
    held = published(128, context=4, rows=3, tokens=2, length=48)
    ours = {"normal": held["ctx_pos"][0, 0], "anomalous": held["ctx_neg"][0, 0]}
    ours["deep"] = torch.stack([held[f"compound_prompts_text.{i}"] for i in range(3)])
    torch.save({"prompt_learner": held}, tmp_path / "epoch_15.pth")
    save_file(held, tmp_path / "heads.safetensors")
    expected = AnomalyCLIP(clip, ours).fit().score(pictures)
    for name in ("epoch_15.pth", "heads.safetensors"):
        assert torch.equal(
            AnomalyCLIP(clip, weights.checkpoint(tmp_path / name)).fit().score(pictures).maps, expected.maps
        )


def test_of_many_deep_rows_the_tenth_follows_the_ninth() -> None:
    held = published(8, rows=12)
    assert torch.equal(own_names(held)["deep"][10], held["compound_prompts_text.10"])


GOOD = {"normal": torch.zeros(5, 128), "anomalous": torch.zeros(5, 128)}
BAD_HEADS = {
    "expected normal and anomalous": [
        {},
        {"normal": torch.zeros(5, 128)},
        GOOD | {"spare": torch.zeros(1)},
        GOOD | {"anomalous": torch.zeros(4, 128)},
        GOOD | {"normal": torch.zeros(1, 5, 128), "anomalous": torch.zeros(1, 5, 128)},
        GOOD | {"deep": torch.zeros(3, 128)},
        {k: v for k, v in published(128).items() if k != "ctx_neg"},
        published(128) | {"compound_prompts_text.3": torch.zeros(3, 128)},
        published(128) | {"fc.weight": torch.zeros(3, 128)},
    ],
    "expected tensors by name": [None, [torch.zeros(1)], {"normal": 3}],
    r"contexts: expected shape \(2, tokens, 128\)": [{"normal": torch.zeros(5, 64), "anomalous": torch.zeros(5, 64)}],
    "contexts: expected prompts of at most 48 tokens": [
        {"normal": torch.zeros(46, 128), "anomalous": torch.zeros(46, 128)}
    ],
    "deep: expected (shape .* at most 3 rows for 4 blocks|Float.* beside contexts)": [
        GOOD | {"deep": torch.zeros(4, 2, 128)},
        GOOD | {"deep": torch.zeros(2, 2, 64)},
        GOOD | {"deep": torch.zeros(2, 40, 128)},
    ],
    "text vectors: expected finite": [GOOD | {"normal": torch.full((5, 128), torch.nan)}],
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("reason", "number"), [(reason, i) for reason, given in BAD_HEADS.items() for i in range(len(given))]
)
def test_bad_heads_are_named(clip: OpenCLIP, reason: str, number: int) -> None:
    with pytest.raises(ValueError, match=reason):
        AnomalyCLIP(clip, BAD_HEADS[reason][number])


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    "arguments",
    [
        {"words": ("one",)},
        {"words": "ab"},
        {"temperature": 0.0},
        {"blocks": 0},
        {"blocks": 6},
        {"layers": ()},
        {"layers": (5,)},
        {"layers": -1},
        {"sigma": -0.1},
        {"sigma": float("nan")},
        {"precision": "float16"},
        {"chunk": 0},
    ],
    ids=str,
)
def test_bad_arguments_are_named(clip: OpenCLIP, heads: Heads, arguments: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        AnomalyCLIP(clip, heads, **arguments)


@pytest.mark.usefixtures("untyped")
def test_other_backbones_are_named(clip: OpenCLIP, heads: Heads) -> None:
    with pytest.raises(ValueError, match="expected an OpenCLIP"):
        AnomalyCLIP(clip.model, heads)


def test_without_learnt_tokens_it_is_the_text_tower(clip: OpenCLIP) -> None:
    texts = ["object.", "a damaged object."]
    near(encode_prompts(clip, texts, torch.zeros(2, 0, 128)), clip.encode_text(texts), 1e-5)


def test_bfloat16_stays_close(clip: OpenCLIP, heads: Heads, pictures: Tensor) -> None:
    full, low = (AnomalyCLIP(clip, heads, precision=p).fit().score(pictures) for p in ("float32", "bfloat16"))
    assert 0 < (full.maps - low.maps).abs().max() < 0.02


def bilinear(held: np.ndarray, side: int) -> np.ndarray:
    """(r, c, w) to (side, side, w) between the centres of cells, one cell after the other."""
    out = np.zeros((side, side, held.shape[2]), np.float32)
    for y, x in itertools.product(range(side), repeat=2):
        at = [min(max((v + 0.5) * n / side - 0.5, 0), n - 1) for v, n in zip((y, x), held.shape, strict=False)]
        (r, fr), (c, fc) = ((int(a), a - int(a)) for a in at)
        rr, cc = min(r + 1, held.shape[0] - 1), min(c + 1, held.shape[1] - 1)
        top, low = held[r, c] * (1 - fc) + held[r, cc] * fc, held[rr, c] * (1 - fc) + held[rr, cc] * fc
        out[y, x] = top * (1 - fr) + low * fr
    return out


@pytest.mark.parametrize("size", [96, 40])
def test_images_of_another_size(clip: OpenCLIP, heads: Heads, pictures: Tensor, size: int) -> None:
    other = clip.at(size)
    assert (other.image_size, other.grid, clip.image_size, clip.grid) == (size, (size // 8,) * 2, 64, (8, 8))
    assert other.model.visual.proj is clip.model.visual.proj
    held, new = (c.model.visual.positional_embedding.detach() for c in (clip, other))
    expected = bilinear(held[1:].reshape(8, 8, 64).numpy(), size // 8)
    near(new, torch.cat([held[:1], torch.from_numpy(expected).flatten(0, 1)]), 1e-6)
    assert_as_the_paper(other, heads, pictures[:1])
    assert clip.at(64) is clip


@pytest.mark.usefixtures("untyped")
def test_sizes_that_do_not_fit_are_named(clip: OpenCLIP) -> None:
    for size in (8, 65, 64.0):
        with pytest.raises(ValueError, match="image_size: expected"):
            clip.at(size)
    with pytest.raises(ValueError, match="gadkit's preprocessing, got 96 and function"):
        OpenCLIP(clip.model, clip.tokenizer, preprocess=lambda x: x).at(96)


@pytest.mark.parametrize("size", [(40, 56), (3, 5), (64, 64)])
@pytest.mark.parametrize("sigma", [0.0, SIGMA, 0.05, 0.9])
def test_smoothing_is_scipy_s(size: tuple[int, int], sigma: float, generator: torch.Generator) -> None:
    maps = torch.rand(2, 4, 6, generator=generator)
    enlarged = upsample(maps, size).numpy()
    expected = gaussian_filter(enlarged, (0, sigma * size[0], sigma * size[1])) if sigma else enlarged
    near(smooth_upsample(maps, size, sigma), torch.from_numpy(expected), 1e-6)


def test_weights_in_the_layout_of_openai(pictures: Tensor, heads: Heads, tmp_path) -> None:
    """The names of CLIP's first release, with QuickGELU, through open_clip's own loading."""
    torch.manual_seed(2)
    vision = {"image_size": 42, "patch_size": 14, "width": 64, "layers": 3, "head_width": 32}
    text = {"context_length": 48, "width": 128, "layers": 4, "heads": 4, "vocab_size": tokenizer().vocab_size}
    source = open_clip.model.CLIP(128, vision, text, quick_gelu=True)
    names = {*source.state_dict()} - {"logit_scale"}
    assert {"visual.conv1.weight", "visual.transformer.resblocks.0.attn.in_proj_weight", "text_projection"} <= names
    save_file({k: v.clone() for k, v in source.state_dict().items()}, tmp_path / "openai.safetensors")
    model = open_clip.model.CLIP(128, vision, text, quick_gelu=True)
    open_clip.load_checkpoint(model, str(tmp_path / "openai.safetensors"))
    clip = OpenCLIP(model, tokenizer()).at(56)
    assert type(model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    assert_as_the_paper(clip, heads, pictures[:1])


@pytest.mark.slow
def test_the_paper_s_own_size() -> None:
    """ViT-L/14@336 with random weights, images of 518 pixels, prompts of the published shape."""
    torch.manual_seed(3)
    model = open_clip.create_model("ViT-L-14-336-quickgelu", load_weights=False)
    clip = OpenCLIP(model, open_clip.get_tokenizer("ViT-L-14-336-quickgelu")).at(518)
    heads = own_names(published(768))
    assert {name: tuple(value.shape) for name, value in heads.items()} == {
        "normal": (12, 768),
        "anomalous": (12, 768),
        "deep": (8, 4, 768),
    }
    draw = torch.Generator().manual_seed(4)
    picture = torch.rand(1, 3, 37, 37, generator=draw)
    picture = (255 * F.interpolate(picture, (518, 518), mode="bicubic").clamp(0, 1)).round().to(torch.uint8)
    assert AnomalyCLIP(clip, heads).blocks == 19
    assert clip.grid == (37, 37)
    assert_as_the_paper(clip, heads, picture)
