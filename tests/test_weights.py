"""One table of weights: every row is complete, every preset is answered, and what cannot be had is said to be so."""

import pytest
import torch
from safetensors.torch import save_file

from gadkit import weights
from gadkit.weights import ASSETS, UNPUBLISHED, WEIGHTS, WeightsUnavailable


@pytest.mark.parametrize("key", WEIGHTS, ids="-".join)
def test_a_row_says_where_from_and_on_what_terms(key: tuple[str, str]) -> None:
    row = WEIGHTS[key]
    assert key[1] in weights.PRESETS
    assert row.library in ("gadkit", "open_clip", "timm", "transformers")
    assert row.id.strip()
    assert row.licence.strip()
    assert row.size is None or 0 < row.size < 5000
    if key[1] == "tiny":
        file = ASSETS / f"{row.id}.safetensors"
        assert file.stat().st_size / 1e6 == pytest.approx(row.size, abs=0.1)
        assert (ASSETS / row.card).is_file()
    else:
        assert row.card.startswith("https://")


def test_the_preset_is_the_argument_else_the_environment_else_tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    assert weights.preset() == "tiny"
    monkeypatch.setenv("GADKIT_PRESET", "paper")
    assert weights.preset() == "paper"
    assert weights.lookup("clip") is WEIGHTS["clip", "paper"]
    assert weights.lookup("clip", "tiny") is WEIGHTS["clip", "tiny"]
    monkeypatch.setenv("GADKIT_PRESET", "huge")
    with pytest.raises(ValueError, match="preset: expected one of tiny, paper, got 'huge'"):
        weights.preset()


def test_unknown_models_are_named() -> None:
    with pytest.raises(ValueError, match=r"weights: expected one of \['autoencoder', .*\], got 'clop'"):
        weights.lookup("clop")


@pytest.mark.parametrize("model", UNPUBLISHED)
def test_what_was_never_published_is_said_to_be_so(model: str) -> None:
    assert (model, "paper") not in WEIGHTS
    with pytest.raises(WeightsUnavailable, match=f"published weights of {model}: .*GADKIT_PRESET=tiny"):
        weights.lookup(model, "paper")


def test_the_error_for_missing_weights_names_the_file_the_size_and_two_ways_on() -> None:
    error = weights.unavailable(WEIGHTS["dino", "paper"], "model.safetensors of timm/vit_base_patch16_224.dino")
    for part in ("343 MB", "timm/vit_base_patch16_224.dino", "model.safetensors", "network", "GADKIT_PRESET=tiny"):
        assert part in str(error)
    assert "of unknown size" in str(weights.unavailable(WEIGHTS["swav", "paper"], "the file"))


def test_a_state_is_read_as_it_was_written(tmp_path) -> None:
    save_file({"a": torch.arange(3.0)}, tmp_path / "some.safetensors")
    assert torch.equal(weights.load_state(tmp_path / "some.safetensors")["a"], torch.arange(3.0))
    with pytest.raises(FileNotFoundError, match=r"no file none\.safetensors in"):
        weights.load_state(tmp_path / "none.safetensors")
