"""Every method by its name: it is built, trained, kept and found again."""

import inspect
from pathlib import Path

import pytest
import torch

from gadkit import methods, weights
from gadkit.protocols import Method

every_method = pytest.mark.parametrize("name", methods.TRAININGS)


@every_method
def test_it_has_what_the_loop_asks_for(name: str) -> None:
    method = methods.build(name)
    assert isinstance(method, Method)
    assert set(method.needs) <= {"images", "labels", "height", "materials", "frames", "flow", "sound"}
    assert method.pool in ("cls", "mean")
    assert method.lr == method.recipe.lr > 0
    assert method.collapse(128) >= 0
    plan = methods.plan_of(name, method, 4096)
    assert plan.steps * plan.batch * methods.TRAININGS[name].frames == 4096


@every_method
def test_a_checkpoint_is_small_and_comes_back(name: str, tmp_path: Path) -> None:
    method, path = methods.build(name), tmp_path / f"{name}.safetensors"
    methods.save(method, name, path, {"photographs": 1, "seconds": 2.0})
    assert path.stat().st_size < 3e6
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert weights.facts(path)["photographs"] == 1
    back = methods.load(name, path)
    assert not back.training
    for key, tensor in back.encoder.state_dict().items():
        expected = method.encoder.state_dict()[key]
        assert torch.equal(tensor, expected.half().float() if expected.is_floating_point() else expected)


def test_a_short_training_from_command_to_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gadkit.cli import main
    from gadkit.factory.pool import unlabelled

    few = unlabelled(128)
    monkeypatch.setattr(methods, "training_data", lambda needs, seed, folder: {"images": few.images})
    monkeypatch.chdir(tmp_path)
    assert main(["train", "mae", "--photographs", "256"]) == 0
    facts = weights.facts(tmp_path / "mae" / "mae.safetensors")
    assert (facts["photographs"], facts["steps"], facts["seed"]) == (256, 2, 0)
    assert facts["versions"]["torch"] == torch.__version__
    assert methods.load("mae", tmp_path / "mae" / "mae.safetensors").encoder.depth == 6
    assert main(["train", "mae", "--steps", "3"]) == 2
    assert main(["train", "mae", "--photographs", "0"]) == 2
    assert main(["train", "sorcery"]) == 2


@pytest.mark.parametrize("needs", [("images",), ("images", "labels")])
def test_the_data_are_the_standard_pool(needs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    from gadkit.factory import pool

    whole = pool.unlabelled
    monkeypatch.setattr(pool, "unlabelled", lambda seed: whole(64, seed))
    data = methods.training_data(needs)
    assert set(needs) <= set(data)
    assert torch.equal(data["images"], whole(64).images)


def test_trainings_share_what_was_rendered_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gadkit.factory import pool

    whole, rendered = pool.unlabelled, []
    monkeypatch.setattr(pool, "unlabelled", lambda seed: rendered.append(seed) or whole(64, seed))
    first, second = (methods.training_data(("images",), 0, tmp_path) for _ in range(2))
    assert rendered == [0]
    assert all(torch.equal(first[key], second[key]) for key in ("images", "labels"))
    assert torch.equal(first["images"], whole(64).images)
    methods.training_data(("images", "labels"), 1, tmp_path)
    assert rendered == [0, 1], "another seed has photographs of its own"
    monkeypatch.setattr(methods, "__version__", "0.0.9")
    methods.training_data(("images",), 0, tmp_path)
    assert rendered == [0, 1, 0], "another version's may be others"


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"method: expected one of simclr, .*, got 'alchemy'"):
        methods.build("alchemy")
    with pytest.raises(ValueError, match=r"needs: expected images, .*, got smells"):
        methods.training_data(("smells",))
    methods.save(methods.build("mae"), "mae", tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"those of simclr in x\.safetensors, got those of mae"):
        methods.load("simclr", tmp_path / "x.safetensors")
    with pytest.raises(FileNotFoundError, match=r"no file y\.safetensors"):
        methods.load("mae", tmp_path / "y.safetensors")


@pytest.mark.parametrize("name", methods.TRAININGS)
def test_a_method_keeps_its_protocol_without_getattr(name: str) -> None:
    """Python 3.12 and later ask an object's class and `__dict__`, where a module's parts are not."""
    method = methods.build(name)
    asked = [key for key in (*Method.__annotations__, *vars(Method)) if not key.startswith("_")]
    assert "encoder" in asked
    assert [key for key in asked if inspect.getattr_static(method, key, None) is None] == []
