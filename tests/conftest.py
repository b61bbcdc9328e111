"""What every test stands on: no network, fixed seeds, and pictures to look at.

Nothing of gadkit is imported while this file loads: the type-checking import hook must come first.
"""

import inspect
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before any hub library is imported: a test never waits for a network
os.environ["GADKIT_DEVICE"] = os.environ.get("GADKIT_TEST_DEVICE", "cpu")
os.environ.pop("GADKIT_PRESET", None)

import numpy as np
import pytest
import torch
from hypothesis import settings

settings.register_profile("gadkit", derandomize=True, deadline=None, max_examples=50, print_blob=True)
settings.load_profile("gadkit")


def pytest_configure() -> None:
    """Share the cores among the workers: torch in every worker would otherwise start a thread a core."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // workers)))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same global seeds, in whatever order the tests run."""
    torch.manual_seed(0)
    np.random.seed(0)  # libraries that still draw from the global generator


@pytest.fixture
def untyped() -> Iterator[None]:
    """Switch the type checks of the tests off, so that bad input meets the package as a user's would."""
    from jaxtyping import config

    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture
def defaults() -> Callable[[Callable], dict[str, object]]:
    """A function that gives the defaults of a function or class by their arguments' names; those of None are left out.

    A default is a promise: numbers in the book, and in users' files, were computed with it.
    """

    def promised(call: Callable) -> dict[str, object]:
        if is_dataclass(call):  # whose factories are no values
            given = {field.name: field.default for field in fields(call)}
        else:
            given = {name: argument.default for name, argument in inspect.signature(call).parameters.items()}
        return {name: v for name, v in given.items() if v not in (None, MISSING, inspect.Parameter.empty)}

    return promised


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator on the CPU."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def images() -> torch.Tensor:
    """Four smooth, all different, not square pictures: uint8, (4, 3, 48, 64)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 64), indexing="ij")
    waves = [torch.sin(6.28 * (a * x + b * y) + c) for a, b, c in [(1, 0, 0), (0, 2, 1), (2, 1, 2), (3, 3, 0)]]
    batch = torch.stack([torch.stack([w, w.flip(0), w.flip(1)]) for w in waves])  # (4, 3, 48, 64)
    return ((batch + 1) * 127.5).round().to(torch.uint8)


@pytest.fixture(scope="session")
def photographs() -> torch.Tensor:
    """Real surfaces, from scikit-image's wheel: brick, grass and gravel, uint8, (3, 3, 512, 512)."""
    from skimage import data

    grey = torch.stack([torch.from_numpy(getattr(data, name)()) for name in ("brick", "grass", "gravel")])
    return grey[:, None].expand(-1, 3, -1, -1).contiguous()  # (3, 3, 512, 512)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"this user cannot mount a file system: {mounted.stderr.decode().strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@pytest.fixture
def two_processes(request: pytest.FixtureRequest, tmp_path: Path) -> list[dict[str, torch.Tensor]]:
    """What the test file's `main(folder)` saved as `RANK.pt`, run by two real processes that know of each other."""
    script = f"import sys; sys.path.insert(0, {str(request.path.parent)!r}); "
    script += f"import {request.path.stem} as it; it.main({str(tmp_path)!r})"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "1",
    }
    started = [
        subprocess.Popen([sys.executable, "-c", script], env=shared | {"RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(2)
    ]
    try:
        assert [process.wait(timeout=300) for process in started] == [0, 0]
    finally:
        for process in started:
            process.kill()  # one that waits for another that failed; nothing happens to one that has ended
    return [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.fixture
def cells() -> Callable[[str], list[list[str]]]:
    """The cells of a Markdown table without the line below its head; the width of its columns does not matter."""
    return lambda text: [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for index, line in enumerate(text.splitlines())
        if index != 1
    ]


@pytest.fixture(scope="session")
def tiny_clip() -> Callable[..., "gadkit.backbones.openclip.OpenCLIP"]:
    """A function of a seed, a device and fields of `TinyConfig` that makes our own CLIP's architecture, untrained."""
    from gadkit.backbones.openclip import OpenCLIP
    from gadkit.backbones.tiny import TinyConfig, build_tiny_clip, tokenizer

    def make(seed: int = 1, device: str | torch.device = "cpu", **sizes: int) -> OpenCLIP:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = build_tiny_clip(TinyConfig(**sizes))
        return OpenCLIP(model.to(device), tokenizer())

    return make


@pytest.fixture(scope="session")
def published() -> "gadkit.backbones.openclip.OpenCLIP":
    """The published CLIP's architecture, randomly initialised; of its twelve blocks three, which are all alike."""
    import open_clip

    from gadkit.backbones.openclip import OpenCLIP

    name = "ViT-B-16-plus-240"
    parts = {part: open_clip.get_model_config(name)[part] | {"layers": 3} for part in ("vision_cfg", "text_cfg")}
    torch.manual_seed(1)
    return OpenCLIP(open_clip.create_model(name, load_weights=False, **parts), open_clip.get_tokenizer(name))


@pytest.fixture
def words_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sentence encoder encodes the same texts once in a run of the tests: a thousand class names take seconds."""
    from gadkit.backbones.sentences import Sentences

    encode = Sentences.encode_text
    monkeypatch.setattr(Sentences, "encode_text", lambda self, texts: _encoded(encode, self, tuple(texts)))


_WORDS: dict[tuple[str, ...], torch.Tensor] = {}


def _encoded(encode: Callable, encoder: object, texts: tuple[str, ...]) -> torch.Tensor:
    if texts not in _WORDS:
        _WORDS[texts] = encode(encoder, texts)
    return _WORDS[texts]
