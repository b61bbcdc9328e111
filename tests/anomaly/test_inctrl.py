"""InCTRL against a slow literal reading of the paper: an image, a block, a patch at a time, on open_clip's modules."""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from suite import joined, same, textured
from torch import Tensor

from gadkit import weights
from gadkit.anomaly.detectors import InCTRL, WinCLIP
from gadkit.anomaly.detectors.inctrl import crossed, paper_layers
from gadkit.anomaly.detectors.residual_heads import untrained
from gadkit.anomaly.prompts import PRESENCE, WINCLIP, PromptEnsemble
from gadkit.backbones import OpenCLIP
from gadkit.protocols import DetectorState

FEW = PromptEnsemble(WINCLIP.normal[:2], WINCLIP.anomalous[:3], WINCLIP.templates[:2])
Heads = dict[str, Tensor]
Make = Callable[..., InCTRL]


def lively(patches: int, width: int, seed: int = 0) -> Heads:
    """Heads whose batch norms do something and whose answers differ from image to image."""
    heads, draw = untrained(patches, width, seed), torch.Generator().manual_seed(seed)
    for name, value in heads.items():
        if "bn" in name:
            value.copy_(torch.rand(value.shape, generator=draw) + (0.5 if "running" not in name else 0.1))
        else:
            value.mul_(3)
    return heads


@pytest.fixture(scope="module")
def clip(tiny_clip: Callable) -> OpenCLIP:
    """Our own architecture, smaller still, randomly initialised: 5 x 5 patches, 6 blocks."""
    return tiny_clip(image_size=40, width=64, layers=6)


@pytest.fixture(scope="module")
def heads() -> Heads:
    return lively(25, 128)


@pytest.fixture(scope="module")
def make(clip: OpenCLIP, heads: Heads) -> Make:
    return lambda **options: InCTRL(clip, "metal nut", heads, **{"prompts": FEW} | options)


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return textured(6)


class Literal:
    """The paper's section 3, step by step, for one image after the other."""

    def __init__(self, detector: InCTRL, pictures: Tensor) -> None:
        self.detector, self.pictures, self.clip = detector, pictures, detector.backbone
        self.encode = cache(self._encode)

    @torch.no_grad()
    def _encode(self, i: int) -> tuple[Tensor, list[Tensor]]:
        """The image vector, and of every block asked for the tokens of the patches."""
        visual = self.clip.model.visual
        patches = visual.conv1(self.clip.preprocess(self.pictures[i : i + 1]))[0]  # (width, rows, columns)
        rows, columns = self.clip.grid
        tokens = [visual.class_embedding, *(patches[:, r, c] for r in range(rows) for c in range(columns))]
        x, found = visual.ln_pre((torch.stack(tokens) + visual.positional_embedding)[None]), {}
        for number, block in enumerate(visual.transformer.resblocks):
            x = found[number] = block(x)
        vector = visual.ln_post(x[0, 0]) @ visual.proj
        return vector, [found[number][0, 1:] for number in self.detector.layers]

    @staticmethod
    def nearest(queries: Tensor, known: list[Tensor]) -> Tensor:
        """Patch by patch, half of 1 - cos to the nearest of all known patches."""
        near = []
        for patch in queries:
            cosines = [torch.cosine_similarity(patch, p, dim=0) for image in known for p in image]
            near.append(min(0.5 * (1 - float(c)) for c in cosines))
        return torch.tensor(near)

    @torch.no_grad()
    def text(self, vector: Tensor) -> float:
        means = []
        for side in self.detector.prompts.texts(self.detector.object_name):
            vectors = [self.clip.model.encode_text(self.clip.tokenizer([prompt]))[0] for prompt in side]
            mean = sum(v / v.norm() for v in vectors) / len(vectors)
            means.append(mean / mean.norm())
        good, bad = (
            float(torch.cosine_similarity(vector.double(), t.double(), dim=0)) / self.detector.temperature
            for t in means
        )
        return 1 / (1 + math.exp(good - bad))

    def adapt(self, vector: Tensor) -> Tensor:
        first, second = (self.detector.heads[f"adapter.fc.{i}.weight"] for i in (0, 2))
        return (second @ (first @ vector).relu()).relu()

    def head(self, name: str, x: Tensor) -> float:
        held = {k.removeprefix(name + "."): v for k, v in self.detector.heads.items() if k.startswith(name + ".")}
        for i, norm in ((1, "bn2"), (2, "bn3")):
            x = (held[f"projection{i}.weight"] @ x + held[f"projection{i}.bias"]).relu()
            x = (x - held[f"{norm}.running_mean"]) / (held[f"{norm}.running_var"] + 1e-5).sqrt()
            x = x * held[f"{norm}.weight"] + held[f"{norm}.bias"]
        return float((held["projection3.weight"] @ x + held["projection3.bias"]).sigmoid())

    def finish(self, maps: list[Tensor], vector: Tensor, prompts: list[Tensor]) -> dict[str, Tensor | float]:
        """From residual maps, image vector and the prompts' vectors to the score."""
        residual, terms = sum(maps) / len(maps), self.detector.terms
        adapter = sum(self.adapt(p) for p in prompts) / len(prompts) - self.adapt(vector)
        found = {"adapter": adapter, "reference": self.head("diff_head_ref", adapter), "text": self.text(vector)}
        holistic_map = residual + sum(found[term] for term in terms)
        holistic, patch = self.head("diff_head", holistic_map), float(residual.max())
        found |= {"residual_maps": torch.stack(maps), "residual": residual, "patch": patch}
        return found | {"holistic_map": holistic_map, "holistic": holistic, "score": (holistic + patch) / 2}

    def score(self, i: int, references: tuple[int, ...]) -> dict[str, Tensor | float]:
        vector, patches = self.encode(i)
        known = [self.encode(k) for k in references]
        maps = [self.nearest(x, [layers[at] for _, layers in known]) for at, x in enumerate(patches)]
        return self.finish(maps, vector, [v for v, _ in known])

    def mixed_up(self, batch: tuple[int, ...], references: tuple[int, ...]) -> list[dict[str, Tensor | float]]:
        """As the published code has it: tensors of a batch lie layer by layer, and are cut up as if image by image."""
        layers, shots = len(self.detector.layers), len(references)
        queries = [self.encode(i)[1][at] for at in range(layers) for i in batch]
        known = [self.encode(k)[1][at] for at in range(layers) for k in references for _ in batch]
        vectors = [self.encode(k)[0] for k in references for _ in batch]
        found = []
        for place, i in enumerate(batch):
            numbers = range(place * layers, (place + 1) * layers)
            maps = [self.nearest(queries[g], known[g * shots : (g + 1) * shots]) for g in numbers]
            found.append(self.finish(maps, self.encode(i)[0], vectors[place * shots : (place + 1) * shots]))
        return found


def assert_near(a: Tensor, b: Tensor | float, atol: float = 1e-6) -> None:
    torch.testing.assert_close(a, torch.as_tensor(b, dtype=torch.float32), atol=atol, rtol=0)


def assert_alike(ours: dict[str, Tensor], i: int, theirs: dict[str, Tensor | float]) -> None:
    """Embeddings to 1e-5, scores and maps to 1e-6."""
    assert set(ours) == (set(theirs) if "text" in ours else set(theirs) - {"text"})
    for name, values in ours.items():
        expected = torch.as_tensor(theirs[name])
        assert_near(values[i].reshape(expected.shape), expected, 1e-5 if name == "adapter" else 1e-6)


OPTIONS = [
    {},
    {"layers": (-1,)},
    {"layers": (0, 5), "temperature": 0.07, "chunk": 7},
    {"terms": ("text",)},
    {"terms": ("reference",)},
    {"terms": ()},
    {"prompts": PRESENCE, "temperature": 0.07},  # at 0.01 what float32 rounds in the towers is 25 times as much here
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_is_what_the_paper_says(make: Make, pictures: Tensor, options: dict) -> None:
    detector = make(**options).fit(pictures[[2, 3]])
    literal, ours = Literal(detector, pictures), detector.intermediates(pictures[:2])
    result = detector.score(pictures[:2])
    assert result.maps.shape == (2, 40, 56)
    for i in range(2):
        theirs = literal.score(i, (2, 3))
        assert_alike(ours, i, theirs)
        assert_near(result.scores[i], theirs["score"])
        enlarged = torch.nn.functional.interpolate(theirs["residual"].view(1, 1, 5, 5), (40, 56), mode="bilinear")
        assert_near(result.maps[i], enlarged[0, 0])
        vector, patches = literal.encode(i)
        encoded = detector.encode(pictures[i : i + 1]).features
        assert_near(encoded["vectors"][0], vector, 1e-5)
        for number, x in zip(detector.layers, patches, strict=True):
            assert_near(encoded[f"patches/{number}"][0], x / x.norm(dim=1, keepdim=True), 1e-5)
    assert ("text" in ours) is ("text" in detector.terms)


@pytest.mark.parametrize("shots", [1, 2, 3])
@pytest.mark.parametrize("count", [2, 3])
def test_the_published_pairing_is_reproduced(make: Make, pictures: Tensor, count: int, shots: int) -> None:
    references = (3, 4, 5)[:shots]
    batch = tuple(range(count))
    right = make().fit(pictures[list(references)])
    wrong = make(pairing="reference").fit(pictures[list(references)])
    ours, theirs = wrong.intermediates(pictures[:count]), Literal(wrong, pictures).mixed_up(batch, references)
    for i in batch:
        assert_alike(ours, i, theirs[i])
        assert_near(wrong.score(pictures[:count]).scores[i], theirs[i]["score"])
        alone = pictures[i : i + 1]
        assert_near(wrong.score(alone).scores, right.score(alone).scores)
    assert (wrong.score(pictures[:count]).scores - right.score(pictures[:count]).scores).abs().max() > 1e-4
    assert_near(wrong.score(wrong.encode(pictures[:count])).scores, wrong.score(pictures[:count]).scores)


def test_which_rows_the_published_code_compares() -> None:
    rows, prompts = crossed(images=2, layers=3, shots=2)
    assert rows.tolist() == [[0, 1, 2], [3, 4, 5]]  # of (layer, image): layer 0 of both and layer 1 of the first
    assert prompts.tolist() == [[[0, 0], [1, 1], [0, 0]], [[1, 1], [0, 0], [1, 1]]]
    rows, prompts = crossed(images=1, layers=3, shots=2)
    assert rows.tolist() == [[0, 1, 2]]
    assert prompts.tolist() == [[[0, 1]] * 3]


def test_the_published_pairing_asks_for_the_whole_batch(make: Make, pictures: Tensor) -> None:
    """However few images are encoded at a time, a batch is what `score` was given."""
    many, few = (make(pairing="reference", chunk=chunk).fit(pictures[3:]) for chunk in (10**6, 1))
    assert_near(few.score(pictures[:3]).scores, many.score(pictures[:3]).scores)


@pytest.fixture(scope="module")
def full() -> OpenCLIP:
    """The published architecture whole, randomly initialised."""
    import open_clip

    torch.manual_seed(1)
    name = "ViT-B-16-plus-240"
    return OpenCLIP(open_clip.create_model(name, load_weights=False), open_clip.get_tokenizer(name))


@pytest.mark.slow
def test_the_published_architecture(full: OpenCLIP, pictures: Tensor) -> None:
    detector = InCTRL(full, "metal nut", lively(225, 640), prompts=FEW).fit(pictures[2:3])
    assert detector.layers == (6, 8, 10)
    ours = detector.intermediates(pictures[:1])
    assert ours["residual_maps"].shape == (1, 3, 15, 15)
    literal = Literal(detector, pictures)
    literal.nearest = lambda x, known: min_by_patch(x, torch.cat(known))  # 152,000 cosines in a loop are too many
    assert_alike(ours, 0, literal.score(0, (2,)))
    encoded = detector.encode(pictures[:1]).features
    assert_near(encoded["vectors"][0], literal.encode(0)[0], 1e-5)


def min_by_patch(queries: Tensor, known: Tensor) -> Tensor:
    """`Literal.nearest`, a patch at a time."""
    return torch.stack([(0.5 * (1 - torch.cosine_similarity(x[None], known, dim=1))).min() for x in queries])


def test_blocks_of_another_depth() -> None:
    found = {depth: paper_layers(depth) for depth in (1, 2, 3, 4, 5, 6, 12, 24)}
    assert found == {
        1: (0,),
        2: (0, 1),
        3: (1, 2),
        4: (1, 2, 3),
        5: (2, 3, 4),
        6: (3, 4, 5),
        12: (6, 8, 10),
        24: (13, 17, 21),
    }


def test_neither_batches_nor_chunks_change_anything(make: Make, pictures: Tensor) -> None:
    detector = make().fit(pictures[4:])
    together = detector.score(pictures)
    alone = [detector.score(picture[None]) for picture in pictures]
    same(joined(alone), together, 1e-6)
    for chunk in (9, 70, 10**6):
        same(make(chunk=chunk).fit(pictures[4:]).score(pictures), together, 1e-6)
    same(make().fit(pictures[4:].flip(0)).score(pictures), together, 1e-6)  # the order of the prompts says nothing
    assert together.maps[4:].max() < 1e-6  # it knows these two
    assert together.maps[:4].amax((1, 2)).min() > 1e-3


def test_what_was_learnt_is_there_to_look_at(make: Make, pictures: Tensor) -> None:
    detector = make().fit(pictures[:2])
    assert detector.text_vectors_.shape == (2, 128)
    assert detector.reference_vectors_.shape == (2, 128)
    assert detector.reference_patches_.shape == (2, 3, 25, 64)
    assert_near(detector.text_vectors_.norm(dim=1), torch.ones(2))
    assert_near(detector.reference_patches_.norm(dim=-1), torch.ones(2, 3, 25))
    assert make(terms=("reference",)).fit(pictures[:2]).text_vectors_.shape == (0, 128)


@pytest.mark.parametrize("pairing", ["correct", "reference"])
@pytest.mark.parametrize("terms", [("reference", "text"), ("reference",), ()])
def test_its_state_comes_back_with_its_heads(
    make: Make, clip: OpenCLIP, pictures: Tensor, terms: tuple, pairing: str
) -> None:
    detector = make(terms=terms, pairing=pairing, layers=(1, -1)).fit(pictures[:3])
    state = detector.state()
    assert isinstance(state, DetectorState)
    assert {name for name in state.tensors if name.startswith("heads/")} == {f"heads/{name}" for name in detector.heads}
    other = InCTRL(clip, "nut", untrained(25, 128, seed=5)).load_state(state)
    assert (other.terms, other.pairing, other.layers, other.object_name) == (terms, pairing, (1, 5), "metal nut")
    ours, theirs = (d.score(pictures[3:]) for d in (other, detector))
    assert torch.equal(ours.maps, theirs.maps)
    assert torch.equal(ours.scores, theirs.scores)


def test_leaving_one_out_is_fitting_without_it(make: Make, pictures: Tensor) -> None:
    found = list(make().fit(pictures[:3]).leave_one_out(pictures[:3]))
    for i, result in enumerate(found):
        others = pictures[[j for j in range(3) if j != i]]
        same(result, make().fit(others).score(pictures[i : i + 1]), 1e-6)
    parts = list(make().fit(pictures[:4]).leave_one_out(pictures[:4], [2, 2]))
    same(parts[0], make().fit(pictures[2:4]).score(pictures[:2]), 1e-6)


def test_the_middle_is_what_torchvision_cuts_out(make: Make, clip: OpenCLIP, pictures: Tensor) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, ToTensor
    from torchvision.transforms.functional import to_pil_image

    detector = make(resize="crop")
    cut = Compose([Resize(40, interpolation=InterpolationMode.BICUBIC), CenterCrop((40, 40)), ToTensor()])
    for images in (pictures, pictures.transpose(2, 3), pictures[..., :51], pictures[..., :40]):
        expected = torch.stack([cut(to_pil_image(image)) for image in images])
        assert torch.equal(detector._resized(images), (255 * expected).round().to(torch.uint8))
    detector.fit(pictures[3:])
    result = detector.score(pictures[:2])
    assert result.maps.shape == (2, 40, 56)
    assert (result.maps[..., :8] == 0).all()
    assert (result.maps[..., 48:] == 0).all()
    inside = make().fit(pictures[3:, :, :, 8:48]).score(pictures[:2, :, :, 8:48])
    assert (result.maps[..., 8:48] - inside.maps).abs().mean() < 0.01  # Pillow rounds to bytes
    square = make(resize="crop").fit(pictures[3:, :, :, :40]).score(pictures[:2, :, :, :40])
    assert (square.maps > 0).all()


SHAPES = {  # of a published checkpoint's trained part
    "adapter.fc.0.weight": (160, 640),
    "adapter.fc.2.weight": (640, 160),
    **{
        f"{head}.{name}": shape
        for head, inputs in (("diff_head", 225), ("diff_head_ref", 640))
        for name, shape in {
            "projection1.weight": (128, inputs),
            "projection1.bias": (128,),
            "projection2.weight": (64, 128),
            "projection2.bias": (64,),
            "projection3.weight": (1, 64),
            "projection3.bias": (1,),
            **{
                f"bn{i}.{what}": (width,)
                for i, width in ((1, inputs), (2, 128), (3, 64))
                for what in ("weight", "bias", "running_mean", "running_var")
            },
        }.items()
    },
}


@pytest.mark.parametrize("nested", [False, True])
def test_a_published_checkpoint_is_read(published: OpenCLIP, tmp_path: Path, pictures: Tensor, nested: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    held = {name: torch.rand(shape, generator=draw) / 10 for name, shape in SHAPES.items()}
    held |= {f"diff_head.bn{i}.num_batches_tracked": torch.tensor(1000) for i in (1, 2, 3)}
    own = {f"visual.{k}": v for k, v in published.model.visual.state_dict().items() if "resblocks" not in k}
    checkpoint = held | own | {"ln_final.weight": torch.ones(640), "attn_mask": torch.zeros(77, 77)}
    path = tmp_path / "checkpoint_10.pyth"
    torch.save({"epoch": 9, "model_state": checkpoint, "cfg": "TRAIN:\n"} if nested else checkpoint, path)
    heads = weights.checkpoint(path)
    detector = InCTRL(published, "candle", heads, prompts=FEW).fit(pictures[:2])
    assert set(detector.heads) == {name for name in SHAPES if ".bn1." not in name}
    assert sum(value.numel() for name, value in held.items() if "running" not in name and "tracked" not in name) == (
        334916  # as published; 1,730 of them are the batch norms that nothing reaches
    )
    for name, value in detector.heads.items():
        assert torch.equal(value, held[name]), name
    assert torch.isfinite(detector.score(pictures[:2]).scores).all()
    assert list(detector.remarks()) == []
    other = {name: value + 1 if name.endswith("visual.proj") else value for name, value in heads.items()}
    assert "image tower of other weights" in InCTRL(published, "candle", other).remarks()[0]


@pytest.mark.usefixtures("untyped")
def test_heads_that_do_not_fit_are_named(clip: OpenCLIP, heads: Heads) -> None:
    name = "diff_head.projection1.weight"
    spoilt = [
        (None, "heads: expected tensors by name"),
        ("inctrl.safetensors", "heads: expected tensors by name"),
        ({**heads, name: [1.0]}, "heads: expected tensors by name"),
        ({}, r"InCTRL on 5 x 5 patches and vectors of 128 numbers, got some without \['adapter.fc.0.weight'"),
        ({k: v for k, v in heads.items() if k != name}, rf"without \['{name}'\]"),
        ({**heads, "adapter.fc.1.weight": torch.ones(2)}, r"with \['adapter.fc.1.weight'\]"),
        (lively(36, 128), rf"got {name} of shape \(128, 36\)"),
        (lively(25, 64), r"got adapter.fc.0.weight of shape \(16, 64\)"),
        ({**heads, name: heads[name] * math.nan}, f"heads: {name}: expected finite numbers"),
    ]
    for bad, message in spoilt:
        with pytest.raises(ValueError, match=message):
            InCTRL(clip, "nut", bad)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    "options",
    [
        *({"layers": layers} for layers in ((), (6,), (-7,), (1, 1), (5, -1), (1.0,), (True,), 3, "123")),
        *({"terms": terms} for terms in (("words",), ("text", "text"), "text", None)),
        *({"temperature": t} for t in (0.0, math.nan, "cold")),
        *({"pairing": "wrong"}, {"resize": "pil"}, {"precision": "float16"}, {"chunk": 0}, {"prompts": None}),
    ],
    ids=str,
)
def test_bad_arguments_are_named(make: Make, options: dict) -> None:
    with pytest.raises(ValueError, match="expected"):
        make(**options)


@pytest.mark.usefixtures("untyped")
def test_other_misuse_is_named(make: Make, clip: OpenCLIP, heads: Heads, pictures: Tensor) -> None:
    with pytest.raises(ValueError, match="object name"):
        InCTRL(clip, " ", heads)
    with pytest.raises(ValueError, match="expected an OpenCLIP"):
        InCTRL(clip.model, "nut", heads)
    with pytest.raises(ValueError, match=r"normal images: InCTRL .* needs some"):
        make().fit()
    with pytest.raises(RuntimeError, match="not fitted yet"):
        make().intermediates(pictures)
    with pytest.raises(ValueError, match="encoded: expected the features vectors, patches/3"):
        make().fit(pictures[:1]).intermediates(WinCLIP(clip, "nut", prompts=FEW).encode(pictures[:1]))


def test_bfloat16_stays_close(make: Make, pictures: Tensor) -> None:
    full, half = (make(precision=p).fit(pictures[3:]).score(pictures[:3]) for p in ("float32", "bfloat16"))
    assert 0 < (full.maps - half.maps).abs().max() < 0.01
    assert (full.scores - half.scores).abs().max() < 0.02


def test_what_it_says(make: Make, clip: OpenCLIP, heads: Heads, pictures: Tensor) -> None:
    words = make().fit(pictures[:1]).explain()
    assert "one image of a good part, and with descriptions of a good and of a damaged metal nut" in words
    assert "descriptions" not in make(terms=()).fit(pictures[:2]).explain()
    long = "nut with a name that is much longer than a small model with little context can read in one go " * 3
    assert "probably cut off" in InCTRL(clip, long, heads).remarks()[0]
    assert InCTRL(clip, long, heads, terms=("reference",)).remarks() == []
