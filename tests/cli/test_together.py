"""Two real processes give the table, the files and the report that one gives."""

import io
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch

OPTIONS = ("--detector", "patch-knn", "--backbone", "random")


def call(folder: Path, out: str, *more: str) -> tuple[int, str, str]:
    """Run the command on the folder's parts, two photographs at a time."""
    from gadkit.cli import main, sources, together

    sources.BATCH = together.BATCH = 2
    given = ["detect", str(folder / "parts"), *OPTIONS, "--normal", str(folder / "good"), "--out", str(folder / out)]
    given += ["--maps", str(folder / out / "maps"), "--pictures", str(folder / out / "pictures"), *more]
    told, error = io.StringIO(), io.StringIO()
    with redirect_stdout(told), redirect_stderr(error):
        code = main(given)
    return code, told.getvalue(), error.getvalue()


def main(folder: str) -> None:
    """What each of the two processes does."""
    from gadkit import distributed

    found = {"table": call(Path(folder), "two"), "json": call(Path(folder), "two", "--json")}
    assert distributed.world() == 2
    as_bytes = {
        f"{name}/{i}": torch.tensor(list(str(part).encode()), dtype=torch.uint8)
        for name, parts in found.items()
        for i, part in enumerate(parts)
    }
    torch.save(as_bytes, Path(folder) / f"{distributed.rank()}.pt")
    torch.distributed.destroy_process_group()


NUMBER = re.compile(r"-?\d+\.\d+(?:e-\d+)?")


@pytest.fixture
def broken(parts: Path) -> Path:
    """A file that no process can read."""
    (parts / "a" / "broken.png").write_bytes(b"\x89PNG")
    return parts


def same_text(one: str, two: str) -> None:
    """The same but for the last digits of numbers, in which processes may differ."""
    words, numbers = zip(*((NUMBER.sub("#", text), NUMBER.findall(text)) for text in (one, two)), strict=True)
    assert words[0] == words[1]
    assert [*map(float, numbers[0])] == pytest.approx([*map(float, numbers[1])], abs=1e-5)


def test_two_processes_are_one(
    broken: Path,
    good: Path,
    two_processes: list[dict[str, torch.Tensor]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gadkit.cli import sources, together

    monkeypatch.setattr(sources, "BATCH", 2)
    monkeypatch.setattr(together, "BATCH", 2)
    first, second = ({k: bytes(v.tolist()).decode() for k, v in one.items()} for one in two_processes)
    for form, more in (("table", ()), ("json", ("--json",))):
        code, told, error = call(tmp_path, "one", *more)
        assert (first[f"{form}/0"], second[f"{form}/0"]) == (str(code), "0")
        same_text(first[f"{form}/1"], told)
        assert second[f"{form}/1"] == ""
        assert (first[f"{form}/2"].replace("/two/", "/one/"), second[f"{form}/2"]) == (error, "")
    assert code == 1, "a file could not be read"
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(names) == 2 + 3 * 4
    assert names == sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*.*"))
    for name in names:
        one, two = (tmp_path / folder / name for folder in ("one", "two"))
        if name.suffix in (".csv", ".html"):
            same_text(one.read_text(), two.read_text())
        elif name.suffix == ".npy":
            np.testing.assert_allclose(np.load(one), np.load(two), atol=1e-5)
        else:
            assert one.read_bytes() == two.read_bytes(), name
