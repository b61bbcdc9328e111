"""Files of weights are read as they were written, and reported as damaged or missing where they are."""

import gzip
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gadkit import weights, zoo
from gadkit.backbones.tiny import tokenizer
from gadkit.weights import AGAIN, ASSETS, Weights

SHIPPED = sorted(path.name for path in ASSETS.iterdir() if path.suffix in (".safetensors", ".gz"))


@pytest.fixture
def assets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of some of what is shipped, in its place."""
    for name in (weights.SUMS, "simclr.safetensors", "vit.safetensors", "clip-scratch.safetensors", "tiny-bpe.txt.gz"):
        shutil.copy(ASSETS / name, tmp_path)
    monkeypatch.setattr(weights, "ASSETS", tmp_path)
    return tmp_path


def test_every_shipped_file_has_its_checksum() -> None:
    lines = (ASSETS / weights.SUMS).read_text().splitlines()
    assert sorted(line.split("  ")[1] for line in lines) == SHIPPED
    for name in SHIPPED:
        assert weights.verified(ASSETS / name) == ASSETS / name


def test_all_that_is_shipped_stays_small() -> None:
    assert sum((ASSETS / name).stat().st_size for name in SHIPPED) < 120e6


def test_the_error_for_missing_weights_names_the_file_the_size_and_two_ways_on() -> None:
    source = zoo.find("dino", "paper")
    error = weights.unavailable(source, "model.safetensors of timm/vit_base_patch16_224.dino")
    for part in ("343 MB", "timm/vit_base_patch16_224.dino", "model.safetensors", "network", "GADKIT_PRESET=tiny"):
        assert part in str(error)
    assert "of unknown size" in str(weights.unavailable(zoo.find("swav", "paper"), "the file"))
    assert Weights("timm", "x", "MIT", 1.0, "c", "d", "timm").options == {}


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    path, state = tmp_path / "some.safetensors", {"a.x": torch.tensor([0.1, 2.0]), "b": torch.arange(3)}
    weights.write(state, path, {"about": "it"})
    found = weights.read(path)
    assert torch.equal(found["a.x"], torch.tensor([0.1, 2.0]).half().float())
    assert torch.equal(found["b"], torch.arange(3))
    assert found["a.x"].dtype == torch.float32
    assert weights.header(path) == {"about": "it"}
    assert [*weights.read(path, "a.")] == ["x"]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    weights.write({"c": torch.ones(1)}, path, {})
    assert [*weights.read(path)] == ["c"]
    assert weights.header(path) == {}


@pytest.mark.parametrize("name", ["simclr", "vit", "clip-scratch"])
def test_a_bit_that_flipped_is_found(assets: Path, name: str) -> None:
    file = assets / f"{name}.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1  # in the middle of a number: the file is as readable as before
    file.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file.name} is damaged: .*; {re.escape(AGAIN)}"):
        zoo.load(name)
    if name != "clip-scratch":
        with pytest.raises(ValueError, match="is damaged"):
            zoo.load(name, gives="method")
        with pytest.raises(ValueError, match="is damaged"):
            zoo.facts(name)


@pytest.mark.parametrize("name", ["simclr", "vit", "clip-scratch"])
def test_a_file_that_is_cut_short_or_missing_is_named(assets: Path, name: str) -> None:
    file = assets / f"{name}.safetensors"
    for length in (1000, 4, 0):
        file.write_bytes(file.read_bytes()[:length])
        with pytest.raises(ValueError, match=f"{file.name} is damaged"):
            zoo.load(name)
    file.unlink()
    with pytest.raises(FileNotFoundError, match=rf"no file {file.name} in .*; install gadkit again"):
        zoo.load(name)


@pytest.mark.parametrize("length", [1000, 4, 0])
def test_a_file_without_checksum_that_is_cut_short_is_named(tmp_path: Path, length: int) -> None:
    path = tmp_path / "mine.safetensors"
    shutil.copy(ASSETS / "vit.safetensors", path)
    path.write_bytes(path.read_bytes()[:length])
    for read in (weights.read, weights.header, weights.facts):
        with pytest.raises(ValueError, match=r"expected a safetensors file, got a damaged one, .*mine\.safetensors \("):
            read(path)
    path.unlink()
    for read in (weights.read, weights.header, weights.facts):
        with pytest.raises(FileNotFoundError, match=rf"no file mine\.safetensors in {tmp_path}$"):
            read(path)


def test_words_that_are_damaged_are_found(assets: Path) -> None:
    (assets / "tiny-bpe.txt.gz").write_bytes(gzip.compress(b"other merges"))
    with pytest.raises(ValueError, match=r"tiny-bpe\.txt\.gz is damaged"):
        tokenizer()


def test_another_header_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    good = {"method": "mae", "options": "{}", "facts": '{"steps": 3}'}
    save_file({"a": torch.ones(1)}, path, good)
    assert weights.facts(path) == {"method": "mae", "options": {}, "steps": 3}
    for header in (None, {"method": "mae"}, good | {"facts": "[1]"}, good | {"options": "{"}):
        save_file({"a": torch.ones(1)}, path, header)
        with pytest.raises(ValueError, match=r"a header with method, options and facts in x\.safetensors, got"):
            weights.facts(path)


def test_a_network_is_filled_whole_or_not(tmp_path: Path) -> None:
    network, state = nn.Linear(2, 3), {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    weights.fill(network, state, "it")
    assert torch.equal(network(torch.ones(1, 2)), torch.full((1, 3), 2.0))
    weights.fill(network, {"bias": torch.ones(3)}, "it", ("wei",))
    assert torch.equal(network(torch.ones(1, 2)), torch.full((1, 3), 3.0))
    with pytest.raises(ValueError, match=r"those of it, got some without \['bias'\] and with \[\]"):
        weights.fill(network, {"weight": torch.ones(3, 2)}, "it")
    with pytest.raises(ValueError, match=r"those of it, got some without \[\] and with \['more'\]"):
        weights.fill(network, state | {"more": torch.ones(1)}, "it")
    with pytest.raises(ValueError, match=r"those of it, got bias of shape \(4,\)"):
        weights.fill(network, state | {"bias": torch.ones(4)}, "it")


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"\xff\xfe", b"0123  simclr.safetensors\n"])
def test_a_damaged_list_of_checksums_is_named(content: bytes, assets: Path) -> None:
    (assets / weights.SUMS).write_bytes(content)
    with pytest.raises(ValueError, match=rf"SHA256SUMS is damaged: it is no list of checksums; {re.escape(AGAIN)}"):
        weights.verified(assets / "simclr.safetensors")


def test_a_checkpoint_is_read_from_either_format_and_only_tensors_are(tmp_path: Path) -> None:
    state = {"a.weight": torch.ones(2, 3), "b": torch.arange(3)}
    torch.save(
        {"state_dict": {"a": {"weight": state["a.weight"].half()}, "b": state["b"]}, "epoch": 7}, tmp_path / "x.pt"
    )
    found = weights.checkpoint(tmp_path / "x.pt")
    assert found.keys() == {"state_dict.a.weight", "state_dict.b"}
    assert found["state_dict.a.weight"].dtype == torch.float32
    weights.write(state, tmp_path / "x.safetensors", {})
    assert weights.checkpoint(tmp_path / "x.safetensors").keys() == state.keys()
    torch.save({"x": Path("/")}, tmp_path / "y.pt")
    (tmp_path / "z.pt").write_bytes(b"no weights")
    for name in ("y.pt", "z.pt"):
        with pytest.raises(ValueError, match="expected a safetensors file, or one of torch's with tensors only"):
            weights.checkpoint(tmp_path / name)
