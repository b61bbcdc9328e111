"""`gadkit kernel install`: Jupyter starts the kernel, which computes where its name says."""

import json
import sys
from pathlib import Path

import pytest
import torch
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from photographs import Run

from gadkit import runtime


def spec(prefix: Path, name: str = "gadkit-cpu") -> dict:
    return json.loads((prefix / "share/jupyter/kernels" / name / "kernel.json").read_text())


def printed(prefix: Path, name: str, code: str) -> str:
    """What a kernel of that prefix prints when it runs some code."""
    specs = KernelSpecManager(kernel_dirs=[str(prefix / "share/jupyter/kernels")])
    manager = KernelManager(kernel_name=name, kernel_spec_manager=specs)
    manager.start_kernel()
    client = manager.client()
    shown: list[str] = []
    try:
        client.start_channels()
        client.wait_for_ready(timeout=120)
        client.execute_interactive(
            code, timeout=120, output_hook=lambda message: shown.append(message["content"].get("text", ""))
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()
    return "".join(shown)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_kernel_starts_and_computes_where_it_says(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = run("kernel", "install", "--device", "cpu", "--prefix", tmp_path)
    assert (code, out) == (0, "")
    assert f"gadkit (cpu) is in {tmp_path}" in err
    monkeypatch.setenv("GADKIT_DEVICE", "cuda:77")  # the kernel's own word counts
    monkeypatch.setenv("PYTHONPATH", str(Path(runtime.__file__).parents[1]))
    shown = printed(tmp_path, "gadkit-cpu", "import gadkit.runtime; print(1 + 1, gadkit.runtime.device())")
    assert shown == "2 cpu\n"


def test_a_kernel_holds_what_was_asked_for(run: Run, tmp_path: Path) -> None:
    assert run("kernel", "install", "--device", "cpu", "--prefix", tmp_path)[0] == 0
    assert spec(tmp_path)["env"] == {"GADKIT_DEVICE": "cpu"}
    assert spec(tmp_path)["argv"][0] == sys.executable
    again = run("kernel", "install", "--device", "cpu", "--prefix", tmp_path, "--offline")
    assert again[0] == 0, "one of ours is replaced"
    assert spec(tmp_path)["env"] == {"GADKIT_DEVICE": "cpu", "HF_HUB_OFFLINE": "1"}
    assert run("kernel", "install", "--device", "cpu", "--prefix", tmp_path, "--name", "other.1")[0] == 0
    assert spec(tmp_path, "other.1")["display_name"] == "gadkit (cpu)"


def test_for_the_user_is_where_jupyter_looks_first(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path))
    assert run("kernel", "install", "--device", "cpu", "--user")[0] == 0
    assert (tmp_path / "kernels" / "gadkit-cpu" / "kernel.json").is_file()


@pytest.mark.parametrize("content", ['{"argv": [], "metadata": {}}', "no JSON", "[]", None])
def test_another_programs_kernel_stays(run: Run, tmp_path: Path, content: str | None) -> None:
    place = tmp_path / "share/jupyter/kernels/mine"
    place.mkdir(parents=True)
    (place / "precious").touch()
    if content is not None:
        (place / "kernel.json").write_text(content)
    code, _, err = run("kernel", "install", "--device", "cpu", "--prefix", tmp_path, "--name", "mine")
    assert code == 2
    assert "--name: expected one that is free, got 'mine'" in err
    assert (place / "precious").exists()


def test_the_ordinary_kernel_is_not_hidden(run: Run, tmp_path: Path) -> None:
    code, _, err = run("kernel", "install", "--device", "cpu", "--prefix", tmp_path, "--name", "python3")
    assert code == 2
    assert "got 'python3', a kernel of another program" in err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["", "a/b", "..\\x", "A", "a b"])
def test_a_name_that_is_no_name_is_refused(run: Run, tmp_path: Path, name: str) -> None:
    code, _, err = run("kernel", "install", "--device", "cpu", "--prefix", tmp_path, "--name", name)
    assert code == 2
    assert f"got {name!r}" in err


def test_a_device_that_is_not_there_is_named(run: Run, tmp_path: Path) -> None:
    code, _, err = run("kernel", "install", "--device", "cuda:99", "--prefix", tmp_path)
    assert code == 2
    assert "got 'cuda:99'" in err
    assert not any(tmp_path.iterdir())


def test_without_ipykernel_it_says_what_to_install(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel.kernelspec", None)
    code, _, err = run("kernel", "install", "--device", "cpu", "--prefix", tmp_path)
    assert code == 2
    assert "python -m pip install ipykernel" in err


def test_a_gpu_goes_by_its_number_and_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"Chip {index}")
    assert runtime.describe(torch.device("cuda")) == ("cuda:1", "cuda:1, Chip 1")
    assert runtime.describe(torch.device("cuda", 0)) == ("cuda:0", "cuda:0, Chip 0")
    assert runtime.describe(torch.device("cpu")) == ("cpu", "cpu")
