"""Two real processes make the index, the answer and the remarks that one makes."""

import io
import json
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
import torch
from photographs import photograph

PHOTOGRAPHS, SHARD = 21, 8  # so that there are several, the last one not full


def call(folder: Path, name: str) -> tuple[int, str, str]:
    """Index the photographs and ask, two photographs at a time."""
    from gadkit.cli import main, sources, together
    from gadkit.search import index

    sources.BATCH = together.BATCH = 2
    index.SHARD = SHARD
    photos = folder / "photos"
    ask = ["search", str(photos), "--like", str(photos / "3.png"), "--model", "random", "--json"]
    told, error = io.StringIO(), io.StringIO()
    with redirect_stdout(told), redirect_stderr(error):
        code = main([*ask, "--index", str(folder / name)])
    return code, told.getvalue(), error.getvalue()


def main(folder: str) -> None:
    """What each of the two processes does."""
    from gadkit import distributed

    found = call(Path(folder), "two")
    assert distributed.world() == 2
    text = torch.tensor(list(json.dumps(found).encode()), dtype=torch.uint8)
    torch.save({"found": text}, Path(folder) / f"{distributed.rank()}.pt")
    torch.distributed.destroy_process_group()


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str, str]:
    """What a single process says; the photographs for all, of two sizes and one of them broken."""
    from gadkit.cli import sources, together
    from gadkit.search import index

    for module, name in ((sources, "BATCH"), (together, "BATCH"), (index, "SHARD")):
        monkeypatch.setattr(module, name, getattr(module, name))  # `call` changes them
    for i in range(PHOTOGRAPHS):
        photograph(tmp_path / "photos" / f"{i}.png", *((40, 56) if i % 5 else (30, 30)), spot=i, seed=i)
    (tmp_path / "photos" / "10.png").write_bytes(b"\x89PNG")
    return call(tmp_path, "one")


def test_two_processes_make_the_same_index(
    one: tuple[int, str, str], two_processes: list[dict[str, torch.Tensor]], tmp_path: Path
) -> None:
    from gadkit.search import index

    first, second = (json.loads(bytes(process["found"].tolist())) for process in two_processes)
    assert (one[0], first[0], second) == (1, 1, [0, "", ""]), "a file could not be read; the second says nothing"
    answers = [[json.loads(line) for line in told.splitlines()] for told in (one[1], first[1])]
    assert [hit["path"] for hit in answers[1]] == [hit["path"] for hit in answers[0]]
    assert first[2].replace("/two", "/one") == one[2]
    held, whole = (index.opened(tmp_path / name) for name in ("two", "one"))
    assert (held.names, held.stamps, held.origin) == (whole.names, whole.stamps, whole.origin)
    assert [len(shard) for shard in held.shards] == [len(shard) for shard in whole.shards] == [8, 7, 5]
    torch.testing.assert_close(torch.cat(held.shards), torch.cat(whole.shards), rtol=0, atol=1e-5)
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )
