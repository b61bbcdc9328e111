"""The experiment on embeddings measures what it says, and goes on where it was stopped."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from experiments import embeddings, gallery
from experiments.gallery import HISTOGRAM, Gallery
from gadkit import weights
from gadkit.evaluation import sets

SMALL = 2  # products of a category


@pytest.fixture(scope="module")
def held() -> Gallery:
    return gallery.build(None, SMALL)


def perfect(labels: torch.Tensor) -> torch.Tensor:
    """Vectors of one direction a label."""
    return F.one_hot(labels.unique(return_inverse=True)[1]).float()


def test_the_gallery_is_what_the_page_says() -> None:
    whole = gallery.build(None)
    assert whole.sources.bincount().tolist() == [144, 136]
    assert len(whole.things[whole.sources == 0].unique()) == 48
    assert whole.kinds[whole.sources == 0].bincount().tolist() == [24] * 6
    for source in (0, 1):
        rows = whole.sources == source
        assert whole.learn[rows].double().mean() == 0.5
        kinds = whole.kinds[rows]
        assert sorted(kinds[whole.learn[rows]].unique().tolist()) == sorted(kinds[~whole.learn[rows]].unique().tolist())
    parts = whole.sources == 0
    assert not set(whole.things[parts & whole.learn].tolist()) & set(whole.things[parts & ~whole.learn].tolist())
    names = [sets.PHOTOGRAPHS[kind - 6] for kind in whole.words]
    assert names == [*gallery.WORDS], "a text belongs to the photograph that it describes"


def test_a_perfect_representation_has_all_and_noise_has_not(held: Gallery) -> None:
    things = dict(embeddings.retrieval(perfect(held.things), held))
    assert things["likeness"] == things["likeness of tiles"] == 1
    kinds = perfect(held.kinds) + 0.01 * perfect(held.things).sum(1, keepdim=True)
    found = dict(embeddings.retrieval(kinds, held))
    assert found["category"] == pytest.approx(3 / 5, abs=0.01), "one other product with 3 photographs"
    assert all(value == 1 for value in dict(embeddings.classification(kinds, held)).values())
    noise = torch.randn(len(held.kinds), 16)
    assert dict(embeddings.retrieval(noise, held))["likeness"] < 0.3


def test_duplicates_are_found_where_copies_are_near() -> None:
    x = torch.randn(40, 32)
    good = dict(embeddings.duplicates(x, x + 0.01 * torch.randn(40, 32)))
    assert (good["copy first"], good["duplicates"]) == (1, 1)
    bad = dict(embeddings.duplicates(x, torch.randn(40, 32)))
    assert bad["copy first"] < 0.2
    assert bad["duplicates"] < 0.2


def test_texts_find_what_they_name(held: Gallery) -> None:
    asked = {text: kind for kind, text in (held.nouns | held.words).items()}

    def encode_text(texts: list[str]) -> torch.Tensor:
        return perfect(torch.cat([held.kinds, torch.tensor([asked[t] for t in texts])]))[-len(texts) :]

    network = gallery.Network("", lambda x: x.float(), encode_text, None, 0.0)
    found = dict(embeddings.texts(network, perfect(held.kinds), held))
    assert (found["text, parts"], found["text, photographs"]) == (1, 1)


def test_a_histogram_counts_colours() -> None:
    eyes = gallery.Histogram()
    images = torch.zeros(2, 3, 96, 96, dtype=torch.uint8)
    images[1, 0, :48] = 255  # the upper half is red
    tokens = eyes.encode_image(eyes.preprocess(images), (-1, -1))
    assert tokens.pooled[0].nonzero().tolist() == [[0]]
    assert tokens.pooled[1, [0, 7 * 64]].tolist() == pytest.approx([0.5**0.5] * 2, abs=1e-4)
    assert tokens.pooled.square().sum(1).tolist() == pytest.approx([1, 1], abs=1e-3)
    assert [tuple(p.shape) for p in tokens.patches] == [(2, 144, 6)] * 2
    assert tokens.patches[0][1, 0].tolist() == pytest.approx([1, 0, 0, 0, 0, 0], abs=1e-3)


@pytest.mark.parametrize("name", ["clip-scratch", "siglip", "sam", "clip-random", "blip"])
def test_a_network_counts_every_file_that_it_is_read_from(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened, read = set(), weights.read
    monkeypatch.setattr(weights, "read", lambda path, *rest: (opened.add(path), read(path, *rest))[1])
    network = gallery.load(name)
    assert opened == {*gallery.files(name)}
    assert network.megabytes == pytest.approx(sum(path.stat().st_size for path in opened) / 1e6)


@pytest.mark.parametrize("name", gallery.SIDES)
def test_an_image_side_gives_a_vector_and_patches(name: str) -> None:
    side = gallery.SIDES[name]()
    images = torch.randint(256, (3, 3, 96, 96), dtype=torch.uint8)
    tokens = side.encode_image(side.preprocess(images), (-1,))
    assert tokens.pooled.shape == (3, side.embed_dim)
    assert tokens.patches[0].shape[:2] == (3, side.grid[0] * side.grid[1])
    alone = side.encode_image(side.preprocess(images[1:2]), ())
    assert alone.pooled[0] == pytest.approx(tokens.pooled[1], abs=1e-4)
    assert not torch.allclose(tokens.pooled[0], tokens.pooled[1], atol=1e-4)


def test_only_what_has_other_weights_is_measured_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls, sums = [], {HISTOGRAM: "none", "random": "1"}
    monkeypatch.setattr(embeddings, "textile_sets", lambda *_: (None, None))
    monkeypatch.setattr(gallery, "fewer", lambda data, count: data)
    monkeypatch.setattr(gallery, "build", lambda textiles: None)
    monkeypatch.setattr(gallery, "weights_of", sums.get)

    def measure(name: str, *_: object) -> dict:
        calls.append(name)
        return {"name": name, "weights": sums[name], "values": {}, "cpu_seconds": 0.0}

    monkeypatch.setattr(embeddings, "measure", measure)
    run = ["--out", str(tmp_path / "a.json"), "--names", HISTOGRAM, "random"]
    assert [embeddings.main(run), embeddings.main(run)] == [0, 0]
    assert calls == [HISTOGRAM, "random"]
    sums["random"] = "2"
    embeddings.main(run)
    assert calls[2:] == ["random"]
    rows = json.loads((tmp_path / "a.json").read_text())["rows"]
    assert {row["name"]: row["weights"] for row in rows} == sums
    with pytest.raises(SystemExit):
        embeddings.main(["--out", str(tmp_path / "a.json"), "--names", "nobody"])


@pytest.mark.slow
def test_a_row_has_every_need(held: Gallery) -> None:
    row = embeddings.measure("clip-scratch", held, ())
    assert {"category", "likeness", "duplicates", "text, parts", "defects", "object, mask"} <= row["values"].keys()
    assert row["reads"]
    assert all(0 <= row["values"][name] <= 1 for name in ("category", "likeness", "defects", "object, box"))
