"""WinCLIP against a slow literal reading of the paper: one window at a time, with open_clip's own modules."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from suite import joined, same, textured
from torch import Tensor

from gadkit.anomaly.detectors import WinCLIP
from gadkit.anomaly.prompts import WINCLIP, PromptEnsemble
from gadkit.backbones import OpenCLIP
from gadkit.protocols import AnomalyResult

FEW = PromptEnsemble(WINCLIP.normal[:2], WINCLIP.anomalous[:3], WINCLIP.templates[:2])
Vectors = dict[str | int, list[list[float]] | Tensor]


@pytest.fixture(scope="module")
def clip(tiny_clip: Callable) -> OpenCLIP:
    """Our own architecture, smaller still, randomly initialised."""
    return tiny_clip(image_size=64, width=64, layers=2)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(5)


class Literal:
    """The paper, step by step.  Features are kept, so that many arguments can be tried on few images."""

    def __init__(self, clip: OpenCLIP, pictures: Tensor) -> None:
        self.clip, self.pictures = clip, pictures
        self.window = cache(self._window)
        self.tokens = cache(self._tokens)
        self.text = cache(self._text)

    def _tokens(self, i: int, resize: str) -> Tensor:
        visual = self.clip.model.visual
        patches = visual.conv1(self.pixels(i, resize))[0]  # (width, rows, columns)
        rows, columns = self.clip.grid
        tokens = [visual.class_embedding, *(patches[:, r, c] for r in range(rows) for c in range(columns))]
        return torch.stack(tokens) + visual.positional_embedding

    def pixels(self, i: int, resize: str) -> Tensor:
        if resize == "torch":
            return self.clip.preprocess(self.pictures[i : i + 1])
        from open_clip.transform import image_transform
        from torchvision.transforms.functional import to_pil_image

        ours = self.clip.preprocess
        how = {"mean": ours.mean, "std": ours.std, "resize_mode": "squash", "interpolation": "bicubic"}
        return image_transform(self.clip.image_size, is_train=False, **how)(to_pil_image(self.pictures[i]))[None]

    def run(self, tokens: Tensor, last: int = -1) -> Tensor:
        visual = self.clip.model.visual
        x, blocks = visual.ln_pre(tokens[None]), visual.transformer.resblocks
        for block in blocks[: last % len(blocks) + 1]:
            x = block(x)
        return x[0]

    def embed(self, tokens: Tensor) -> Tensor:
        visual = self.clip.model.visual
        return visual.ln_post(self.run(tokens)[0]) @ visual.proj

    def _window(self, i: int, scale: int, row: int, column: int, resize: str = "torch") -> Tensor:
        columns = self.clip.grid[1]
        inside = [1 + (row + y) * columns + column + x for y in range(scale) for x in range(scale)]
        return self.embed(self.tokens(i, resize)[[0, *inside]])

    def corners(self, scale: int) -> list[tuple[int, int]]:
        rows, columns = self.clip.grid
        return [(r, c) for r in range(rows - scale + 1) for c in range(columns - scale + 1)]

    def _text(self, prompt: str) -> Tensor:
        return self.clip.model.encode_text(self.clip.tokenizer([prompt]))[0]

    def text_vectors(self, detector: WinCLIP) -> list[Tensor]:
        pooled = []
        for prompts in detector.prompts.texts(detector.object_name):
            vectors = [self.text(prompt) for prompt in prompts]
            if detector.text_pooling == "normalised":
                vectors = [v / v.norm() for v in vectors]
            pooled.append(sum(vectors) / len(vectors))
        return pooled

    def spread(self, scores: dict[tuple[int, int], float], scale: int) -> Tensor:
        rows, columns = self.clip.grid
        out = torch.zeros(rows, columns)
        for y in range(rows):
            for x in range(columns):
                over = [s for (r, c), s in scores.items() if r <= y < r + scale and c <= x < c + scale]
                out[y, x] = len(over) / sum(1 / s for s in over)
        return out

    def patches(self, i: int, detector: WinCLIP) -> Tensor:
        patches = self.run(self.tokens(i, detector.resize), detector.patch_layer)[1:]
        return self.clip.model.visual.ln_post(patches) if detector.patch_norm else patches

    def nearest(self, query: Tensor, references: list[Tensor]) -> float:
        return float((1 - torch.cosine_similarity(query, torch.stack(references), dim=1).max()) / 2)

    @torch.no_grad()
    def score(self, detector: WinCLIP, i: int, references: tuple[int, ...]) -> tuple[Tensor, float, Vectors, Vectors]:
        """Map, score, zero-shot maps and few-shot maps of picture i."""
        normal, anomalous = self.text_vectors(detector)
        resize = detector.resize

        def probability(vector: Tensor) -> float:
            cosines = [torch.cosine_similarity(vector, t, dim=0) / detector.temperature for t in (normal, anomalous)]
            return float(cosines[1].exp() / (cosines[0].exp() + cosines[1].exp()))

        score = probability(self.embed(self.tokens(i, resize)))
        zero = {"image": torch.full(self.clip.grid, score)} if detector.image_term else {}
        for s in detector.scales:
            zero[s] = self.spread({at: probability(self.window(i, s, *at, resize)) for at in self.corners(s)}, s)
        grid = len(zero) / sum(1 / m for m in zero.values())
        few = {}
        if references:
            known = [p for k in references for p in self.patches(k, detector)]
            own = self.patches(i, detector)
            few["patch"] = torch.tensor([self.nearest(p, known) for p in own]).view(self.clip.grid)
            for s in detector.scales:
                known = [self.window(k, s, *at, resize) for k in references for at in self.corners(s)]
                own = {at: self.window(i, s, *at, resize) for at in self.corners(s)}
                few[s] = self.spread({at: self.nearest(window, known) for at, window in own.items()}, s)
            mean = sum(few.values()) / len(few)
            score = (score + float(mean.max())) / 2
            fuse = {"mean": (grid + mean) / 2, "sum": grid + mean, "harmonic": 2 / (1 / grid + 1 / mean)}
            grid = fuse[detector.fusion]
        size = tuple(self.pictures.shape[2:])
        full = torch.nn.functional.interpolate(grid[None, None], size, mode="bilinear", align_corners=False)[0, 0]
        return full, score, zero, few


@pytest.fixture(scope="module")
def literal(clip: OpenCLIP, pictures: Tensor) -> Literal:
    return Literal(clip, pictures)


def assert_near(ours: Tensor, theirs: Tensor | float) -> None:
    torch.testing.assert_close(ours, torch.as_tensor(theirs), rtol=0, atol=1e-5)


ARGUMENTS = [
    {},
    {"temperature": 0.01},
    {"scales": (3,)},
    {"scales": (2, 3, 5)},
    {"scales": ()},
    {"prompts": FEW, "text_pooling": "normalised"},
    {"patch_norm": True},
    {"fusion": "sum"},
    {"fusion": "harmonic"},
    {"patch_layer": 0},
    {"patch_layer": -2, "patch_norm": True},
    {"patch_layer": 1},
    {"image_term": False},
    {"resize": "pil"},
]


@pytest.mark.parametrize("references", [(), (2, 3)], ids=["zero-shot", "few-shot"])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_it_is_what_the_paper_says(literal: Literal, pictures: Tensor, references: tuple, arguments: dict) -> None:
    detector = WinCLIP(literal.clip, "metal nut", **arguments)
    detector.fit(pictures[list(references)] if references else None)
    result = detector.score(pictures[:2])
    assert result.maps.shape == (2, 40, 56)
    assert result.maps.dtype == result.scores.dtype == torch.float32
    for i in range(2):
        maps, score, zero, few = literal.score(detector, i, references)
        assert_near(result.maps[i], maps)
        assert_near(result.scores[i], score)
        ours = detector.zero_shot_maps(pictures[:2])
        assert list(ours) == [*["image"] * detector.image_term, *detector.scales] == list(zero)
        for name, expected in zero.items():
            assert_near(ours[name][i], expected)
        for name, expected in few.items():
            assert_near(detector.few_shot_maps(pictures[:2])[name][i], expected)


def test_windows_of_the_published_architecture(published: OpenCLIP, pictures: Tensor) -> None:
    clip = published
    detector = WinCLIP(clip, "metal nut", prompts=FEW, scales=(2, 3)).fit()
    literal = Literal(clip, pictures)
    features = detector.encode(pictures[:1]).features
    embeddings = {2: features["windows/2"], 3: features["windows/3"]}
    assert {s: e.shape for s, e in embeddings.items()} == {2: (1, 196, 640), 3: (1, 169, 640)}
    with torch.no_grad():
        for scale, number in ((2, 0), (2, 100), (2, 195), (3, 13), (3, 168)):
            theirs = literal.window(0, scale, *literal.corners(scale)[number])
            assert_near(embeddings[scale][0, number], theirs / theirs.norm())
        for ours, theirs in zip(detector.text_vectors_, literal.text_vectors(detector), strict=True):
            assert_near(ours, theirs / theirs.norm())
        vector = literal.embed(literal.tokens(0, "torch"))
    probability = (vector / vector.norm() @ detector.text_vectors_.T / 0.07).softmax(0)[1]
    windowless = WinCLIP(clip, "metal nut", prompts=FEW, scales=()).fit().zero_shot_maps(pictures[:1])
    assert_near(windowless["image"][0], probability.expand(15, 15))


@pytest.mark.parametrize("references", [None, slice(3, 5)], ids=["zero-shot", "few-shot"])
def test_neither_batches_nor_chunks_change_anything(clip: OpenCLIP, pictures: Tensor, references: slice | None) -> None:
    normal = None if references is None else pictures[references]
    detector = WinCLIP(clip, "nut", prompts=FEW).fit(normal)
    together = detector.score(pictures)
    alone = [detector.score(picture[None]) for picture in pictures]
    same(joined(alone), together)
    for chunk in (1, 70, 10**6):
        same(WinCLIP(clip, "nut", prompts=FEW, chunk=chunk).fit(normal).score(pictures), together)


def test_what_was_learnt_is_there_to_look_at(clip: OpenCLIP, pictures: Tensor) -> None:
    detector = WinCLIP(clip, "nut", prompts=FEW).fit(pictures[:2])
    assert detector.text_vectors_.shape == (2, 128)
    assert detector.reference_patches_.shape == (2 * 64, 64)
    assert {s: r.shape for s, r in detector.reference_windows_.items()} == {2: (2 * 49, 128), 3: (2 * 36, 128)}
    for vectors in (detector.text_vectors_, detector.reference_patches_, *detector.reference_windows_.values()):
        assert_near(vectors.norm(dim=-1), torch.ones(len(vectors)))
    encoded = detector.encode(pictures[:1]).features
    assert_near(encoded["windows/3"][0], detector.reference_windows_[3][:36])
    assert max(m[:2].max() for m in detector.few_shot_maps(pictures).values()) < 1e-6  # they know these two
    assert min(m[2:].max() for m in detector.few_shot_maps(pictures).values()) > 1e-3
    assert detector.fit().reference_patches_ is None  # zero-shot again
    same(detector.score(pictures), WinCLIP(clip, "nut", prompts=FEW).fit().score(pictures))


def test_where_colours_begin(clip: OpenCLIP, pictures: Tensor) -> None:
    """Undecided is 0.5 of a probability; with references half of a score is a distance, far smaller."""
    detector = WinCLIP(clip, "nut", prompts=FEW)
    assert detector.fit().map_range == (0.4, 1.0)
    assert detector.fit(pictures[:1]).map_range == (0.2, 0.55)


def test_maps_have_the_size_of_the_images(clip: OpenCLIP) -> None:
    detector = WinCLIP(clip, "nut", prompts=FEW).fit(torch.randint(0, 256, (2, 3, 33, 20), dtype=torch.uint8))
    for size in ((2, 2), (17, 90), (64, 64)):
        result = detector.score(torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8))
        assert result.maps.shape == (1, *size)
        assert torch.isfinite(result.maps).all()
        assert 0 <= result.maps.min() <= result.maps.max() <= 1


def test_nothing_is_differentiated(clip: OpenCLIP, pictures: Tensor) -> None:
    detector = WinCLIP(clip, "nut", prompts=FEW).fit(pictures[:1])
    result = detector.score(pictures)
    assert not any(t.requires_grad for t in (result.maps, result.scores, detector.text_vectors_))


def test_bfloat16_stays_close(clip: OpenCLIP, pictures: Tensor) -> None:
    full, half = (
        WinCLIP(clip, "nut", prompts=FEW, precision=p).fit(pictures[3:]).score(pictures[:2])
        for p in ("float32", "bfloat16")
    )
    assert 0 < (full.maps - half.maps).abs().max() < 0.01
    assert (full.scores - half.scores).abs().max() < 0.01


def test_windows_that_embed_alike_are_refused(tiny_clip: Callable, pictures: Tensor) -> None:
    deaf = tiny_clip(0, image_size=64, width=64, layers=2)
    with torch.no_grad():
        for block in deaf.model.visual.transformer.resblocks:  # no class token attends to its window's patches
            block.attn.out_proj.weight.zero_()
    detector = WinCLIP(deaf, "nut", prompts=FEW).fit()
    with pytest.raises(RuntimeError, match=r"49 windows of scale 2 .* embed alike.*batch-first"):
        detector.score(pictures)
    with pytest.raises(RuntimeError, match="embed alike"):
        detector.fit(pictures)


def test_an_image_of_one_colour_is_no_mistake(tiny_clip: Callable, clip: OpenCLIP) -> None:
    plain = torch.full((2, 3, 40, 40), 128, dtype=torch.uint8)
    result = WinCLIP(clip, "nut", prompts=FEW).fit(plain[:1]).score(plain)
    assert torch.isfinite(result.maps).all()
    blind = tiny_clip(0, image_size=64, width=64, layers=2)
    with torch.no_grad():
        blind.model.visual.positional_embedding.zero_()
    blind.model.visual.conv1 = torch.nn.Conv2d(3, 64, 8, 8)  # no padding, so that all patches are exactly alike
    vectors = WinCLIP(blind, "nut", prompts=FEW).encode(plain).features["windows/2"]
    assert_near(vectors, vectors[:, :1].expand_as(vectors))  # and rightly so


BAD = [
    (torch.zeros(1, 3, 8, 8), "uint8"),
    (torch.full((1, 3, 8, 8), torch.nan), "uint8"),
    (torch.zeros(0, 3, 8, 8, dtype=torch.uint8), "at least one image"),
    (torch.zeros(3, 8, 8, dtype=torch.uint8), "shape"),
    (torch.zeros(1, 1, 8, 8, dtype=torch.uint8), "shape"),
    (torch.zeros(1, 3, 1, 1, dtype=torch.uint8), "2 x 2"),
    ("folder", "str"),
]


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(("images", "reason"), BAD, ids=[reason for _, reason in BAD])
def test_bad_images_are_named(clip: OpenCLIP, pictures: Tensor, images: object, reason: str) -> None:
    detector = WinCLIP(clip, "nut", prompts=FEW).fit(pictures[:1])
    for call in (detector.score, detector.encode, detector.zero_shot_maps, detector.few_shot_maps):
        with pytest.raises(ValueError, match=rf"^images: .*{reason}"):
            call(images)
    with pytest.raises(ValueError, match=rf"^normal images: .*{reason}"):
        detector.fit(images)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    "arguments",
    [
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"temperature": "warm"},
        {"scales": (0,)},
        {"scales": (9,)},
        {"scales": (2, 2)},
        {"scales": (2.5,)},
        {"scales": 2},
        {"text_pooling": "max"},
        {"fusion": "product"},
        {"precision": "float16"},
        {"chunk": 0},
        {"prompts": None},
        {"patch_layer": 2},
        {"patch_layer": -3},
        {"patch_layer": 1.0},
        {"resize": "opencv"},
        {"scales": (), "image_term": False},
    ],
    ids=str,
)
def test_bad_arguments_are_named(clip: OpenCLIP, arguments: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        WinCLIP(clip, "nut", **arguments)


@pytest.mark.usefixtures("untyped")
def test_other_misuse_is_named(clip: OpenCLIP, pictures: Tensor) -> None:
    with pytest.raises(ValueError, match="object name"):
        WinCLIP(clip, " ")
    with pytest.raises(ValueError, match="expected an OpenCLIP"):
        WinCLIP(clip.model, "nut")
    detector = WinCLIP(clip, "nut", prompts=FEW)
    for call in (detector.score, detector.zero_shot_maps, detector.few_shot_maps):
        with pytest.raises(RuntimeError, match="not fitted yet: call fit"):
            call(pictures)
    with pytest.raises(RuntimeError, match="with normal images"):
        detector.fit().few_shot_maps(pictures)


def test_options_change_what_they_say(clip: OpenCLIP, pictures: Tensor) -> None:
    def found(**options) -> AnomalyResult:
        return WinCLIP(clip, "nut", prompts=FEW, **options).fit(pictures[2:]).score(pictures[:2])

    default = found()
    assert torch.equal(found(patch_layer=1).maps, default.maps)
    for options in ({"patch_layer": 0}, {"image_term": False}, {"resize": "pil"}):
        assert (found(**options).maps - default.maps).abs().max() > 1e-4, options
    assert torch.equal(found(image_term=False).scores, default.scores)


def test_pillow_is_asked_only_where_the_size_differs(clip: OpenCLIP) -> None:
    square = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    ours, theirs = (WinCLIP(clip, "nut", prompts=FEW, resize=r).fit().score(square) for r in ("pil", "torch"))
    assert torch.equal(ours.maps, theirs.maps)
