"""Prompts are the paper's, and anybody else's can take their place."""

import pytest

from gadkit.anomaly.prompts import WINCLIP, PromptEnsemble


def test_the_papers_ensemble() -> None:
    assert (len(WINCLIP.normal), len(WINCLIP.anomalous), len(WINCLIP.templates)) == (7, 4, 22)
    for texts in (WINCLIP.normal, WINCLIP.anomalous, WINCLIP.templates):
        assert len(set(texts)) == len(texts)
    # each template comes with either article: the slip known from other implementations breaks this
    articles = {t.replace(" the ", " a ") for t in WINCLIP.templates}
    assert len(articles) == 11
    assert sum(" the " in t for t in WINCLIP.templates) == 11
    assert all(t.endswith(".") for t in WINCLIP.templates)


def test_every_state_meets_every_template() -> None:
    normal, anomalous = WINCLIP.texts(" metal nut ")
    assert (len(set(normal)), len(set(anomalous))) == (7 * 22, 4 * 22)
    assert "a photo of a flawless metal nut for visual inspection." in normal
    assert "a cropped photo of a metal nut with defect." in anomalous
    assert "a close-up photo of the metal nut." in normal
    assert not any("{" in text for text in normal + anomalous)


def test_a_callers_own() -> None:
    own = PromptEnsemble(("good {}",), ("bad {}", "{}"), ("photo of {}",))
    assert own.texts("x{}") == (["photo of good x{}"], ["photo of bad x{}", "photo of x{}"])
    assert own == PromptEnsemble(("good {}",), ("bad {}", "{}"), ("photo of {}",))
    assert hash(own)


@pytest.mark.parametrize("field", ["normal", "anomalous", "templates"])
@pytest.mark.parametrize("texts", [(), ("a thing",), ("{} and {}",), ("{0}",)])
def test_bad_ensembles_are_named(field: str, texts: tuple[str, ...]) -> None:
    good = {"normal": ("{}",), "anomalous": ("bad {}",), "templates": ("{}",)}
    with pytest.raises(ValueError, match=f"{field}: expected"):
        PromptEnsemble(**good | {field: texts})


@pytest.mark.parametrize("name", ["", "  "])
def test_an_object_needs_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="object name: expected"):
        WINCLIP.texts(name)
