"""ConSE against its equations written out, and against what anybody can see in a photograph."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gadkit import zoo
from gadkit.multimodal.conse import ConSE, class_names, combine, middle


def literal(p: Tensor, s: Tensor, t: int) -> Tensor:
    """Equation 4 for one image, as the paper has it: f(x) = 1/Z sum_t p(y_t | x) s(y_t)."""
    ranked = sorted(range(len(p)), key=lambda y: -float(p[y]))[:t]
    z = sum(float(p[y]) for y in ranked)
    f = sum(float(p[y]) * s[y] for y in ranked) / z
    return f / f.norm()


def answer(f: Tensor, texts: Tensor) -> int:
    """Equation 5: the text whose vector has the largest cosine with the image's."""
    cosines = [float(f @ text / (f.norm() * text.norm())) for text in texts]
    return cosines.index(max(cosines))


@given(seed=st.integers(0, 10**6), classes=st.integers(1, 12), data=st.data())
def test_it_is_the_equation(seed: int, classes: int, data: st.DataObject) -> None:
    draw = torch.Generator().manual_seed(seed)
    p = torch.randn(3, classes, generator=draw).softmax(1)
    s = torch.randn(classes, 5, generator=draw)
    t = data.draw(st.integers(1, classes))
    found = combine(p, s, t)
    for row, f in zip(p, found, strict=True):
        assert f == pytest.approx(literal(row, s, t), abs=1e-5)
    assert found == pytest.approx(combine(7 * p, s, t), abs=1e-5), "only the ratio of probabilities counts"


def test_by_hand() -> None:
    s = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    p = torch.tensor([[0.6, 0.3, 0.1]])
    assert combine(p, s, 1).tolist() == [[1.0, 0.0]]
    assert combine(p, s, 2)[0] == pytest.approx(torch.tensor([0.8944, 0.4472]), abs=1e-4)  # (2, 1) / sqrt 5
    assert combine(p, s, 3)[0] == pytest.approx(torch.tensor([0.9487, 0.3162]), abs=1e-4)  # (3, 1) / sqrt 10


def test_half_precision_and_double_meet() -> None:
    p, s = torch.tensor([[0.6, 0.4]]), torch.eye(2)
    assert combine(p.half(), s.double(), 1).dtype == torch.float64
    assert combine(p.double(), s, 2)[0] == pytest.approx(torch.tensor([0.8321, 0.5547]), abs=1e-4)
    with pytest.raises(ValueError, match="vectors: expected finite numbers, got 1"):
        combine(p, torch.tensor([[torch.nan], [1.0]]), 1)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("p", "best", "message"),
    [
        ([[0.5, 0.5]], 0, "best: expected a whole number from 1 to 2, got int 0"),
        ([[0.5, 0.5]], 3, "best: expected a whole number from 1 to 2, got int 3"),
        ([[1.5, -0.5]], 1, "negative or not finite"),
        ([[0.5, float("nan")]], 1, "negative or not finite"),
        ([[0.5, 0.5], [0.0, 0.0]], 1, "got an image with none"),
        ([[0.5, 0.5, 0.0]], 1, "vectors: expected"),
    ],
)
def test_bad_input_is_named(p: list, best: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        combine(torch.tensor(p), torch.eye(2), best)


def test_the_middle_is_a_square_of_the_short_side(images: Tensor) -> None:
    cut = middle(images)  # of 48 x 64
    assert cut.shape == (4, 3, 42, 42)
    assert torch.equal(cut, images[:, :, 3:45, 11:53])
    assert middle(images[..., :2]).shape == (4, 3, 2, 2)


def test_the_classes_are_imagenets() -> None:
    names = class_names()
    assert (len(names), names[0], names[285], names[999]) == (1000, "tench", "Egyptian cat", "toilet tissue")


class Letters:
    """A text encoder of two numbers: how often a text has a, and how often b."""

    embed_dim, device = 2, torch.device("cpu")

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(t.count("a")), float(t.count("b"))] for t in texts])

    def full(self, texts: Sequence[str]) -> int:
        return 0


def test_eyes_need_their_classifier() -> None:
    with pytest.raises(ValueError, match="eyes: expected 1000 classes, got 0"):
        ConSE(zoo.load("vit"), Letters())
    with pytest.raises(ValueError, match="eyes: expected 2 classes, got 1000"):
        ConSE(zoo.load("efficientnet-random"), Letters(), ["a", "b"])


@pytest.fixture(scope="module")
def conse() -> ConSE:
    return ConSE(zoo.load("efficientnet-lite0"), zoo.load("minilm"))


def test_real_photographs_are_found_by_words(conse: ConSE) -> None:
    from skimage import data

    found = []
    for name in ("chelsea", "coffee", "rocket"):
        image = torch.from_numpy(getattr(data, name)()).permute(2, 0, 1)[None]
        found.append(conse.encode_image(image)[0])
    places = torch.stack(found)  # (3, d)
    asked = conse.encode_text(["a pet animal", "a drink for breakfast", "a launch into space"])
    assert [answer(query, places) for query in asked] == [0, 1, 2]
    assert (asked @ places.T).argmax(1).tolist() == [0, 1, 2]
    assert places.norm(dim=1) == pytest.approx(torch.ones(3), abs=1e-5)


def test_an_image_is_where_its_classes_are(conse: ConSE, photographs: Tensor) -> None:
    """The whole, step by step: classifier, classes' sentences, equation 4."""
    image = photographs[:1]
    cut = image[:, :, 32:480, 32:480]
    with torch.no_grad():
        logits = conse.eyes.model(conse.eyes.preprocess(cut))[0]  # timm's own forward
    p = logits.exp() / logits.exp().sum()
    s = conse.reader.encode_text([f"a photo of a {name}" for name in class_names()])
    assert conse.encode_image(image)[0] == pytest.approx(literal(p, s, 10), abs=1e-4)


@pytest.mark.usefixtures("untyped")
def test_no_images_and_no_texts_are_errors(conse: ConSE) -> None:
    with pytest.raises(ValueError, match="images: expected dtype uint8"):
        conse.encode_image(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="texts: expected a list"):
        conse.encode_text("a cat")
