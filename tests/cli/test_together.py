"""Two real processes give the table, the files and the report that one gives."""

import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

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


@pytest.fixture
def broken(parts: Path) -> Path:
    """A file that no process can read."""
    (parts / "a" / "broken.png").write_bytes(b"\x89PNG")
    return parts


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
        assert (first[f"{form}/1"], second[f"{form}/1"]) == (told, "")
        assert (first[f"{form}/2"].replace("/two/", "/one/"), second[f"{form}/2"]) == (error, "")
    assert code == 1, "a file could not be read"
    names = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(names) == 2 + 3 * 4
    assert names == sorted(path.relative_to(tmp_path / "two") for path in (tmp_path / "two").rglob("*.*"))
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes(), name
