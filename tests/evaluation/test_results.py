"""The results file: rows merged by method and protocol, whole or not at all."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gadkit.backbones import OpenCLIP
from gadkit.cli import main as gadkit
from gadkit.cli.evaluate import main
from gadkit.evaluation import evaluate, results
from gadkit.evaluation.results import markdown, measure, merge, read, summary, table


def row(method: str, protocol: str, value: float, preset: str = "tiny") -> dict:
    return {"method": method, "protocol": protocol, "preset": preset, "values": {"a/knn": [value]}, "seconds": 1.0}


def test_a_row_takes_the_place_of_its_predecessor(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "results.json"
    assert read(path) == []
    merge(path, [row("random", "anomaly", 0.1), row("simclr", "anomaly", 0.2)])
    merge(path, [row("random", "representation", 0.3), row("random", "anomaly", 0.4, "paper")])
    merge(path, [row("random", "anomaly", 0.5)])
    found = {results.key(r): r["values"]["a/knn"] for r in read(path)}
    assert found == {
        ("random", "anomaly", "tiny"): [0.5],
        ("simclr", "anomaly", "tiny"): [0.2],
        ("random", "representation", "tiny"): [0.3],
        ("random", "anomaly", "paper"): [0.4],
    }
    assert [p.name for p in path.parent.iterdir()] == ["results.json"]


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    merge(path, [row("random", "anomaly", 0.1)])
    before = path.read_bytes()
    with pytest.raises(TypeError):
        merge(path, [row("random", "anomaly", {1, 2})])  # a set is no JSON
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_processes_that_write_one_file_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    script = (
        "import sys; from pathlib import Path; from gadkit.evaluation.results import merge\n"
        "for i in range(30): merge(Path(sys.argv[1]), [dict(method=f'{sys.argv[2]}{i}', protocol='p', preset='t')])"
    )
    both = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in "ab"]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(read(path)) == 60


def test_a_row_says_what_was_measured_on_what(small: OpenCLIP) -> None:
    found = measure("small", "representation", lambda b, s: evaluate(b, s, ("faces",)), small, (0, 2))
    assert json.loads(json.dumps(found)) == found
    assert set(found["values"]) == {"faces/knn", "faces/linear"}
    assert all(len(v) == 2 for v in found["values"].values())
    assert found["seeds"] == [0, 2]
    assert found["seconds"] > 0
    assert (found["device"], found["preset"]) == ("cpu", "tiny")
    assert "torch" in found["versions"]


def test_the_command_measures_merges_and_prints(tmp_path: Path, capsys: pytest.CaptureFixture, cells: Callable) -> None:
    def shapes(backbone: OpenCLIP, seeds: list[int]) -> Iterator[tuple[str, float]]:
        yield from (("patches/side", backbone.grid[0] + seed) for seed in seeds)

    out = tmp_path / "results.json"
    assert main("shapes", shapes, ["clip", "clip-random", "--out", str(out), "--seeds", "0", "1"]) == 0
    assert [(r["method"], r["values"]) for r in read(out)] == [
        ("clip", {"patches/side": [14, 15]}),
        ("clip-random", {"patches/side": [14, 15]}),
    ]
    lines = cells(capsys.readouterr().out)
    assert lines[0] == ["", "clip", "clip-random"]
    assert lines[1] == ["patches/side", "14.500 ± 0.707", "14.500 ± 0.707"]
    assert lines[-1][0] == "seconds"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["nobody"], "NAME: expected one of random, clip-random, efficientnet-lite0,"),
        (["clip-random", "simlcr"], "got 'simlcr'"),
        (["clip-random", "--preset", "huge"], "preset: expected one of tiny, paper, got 'huge'"),
        (["clip-random", "byol", "--preset", "paper"], "no library here loads published weights of byol"),
    ],
)
def test_all_names_are_known_before_any_is_measured(
    names: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    measured = []

    def notes(backbone: OpenCLIP, seeds: list[int]) -> Iterator[tuple[str, float]]:
        measured.append(backbone)
        yield "a/b", 1.0

    with pytest.raises(SystemExit, match="2"):
        main("shapes", notes, [*names, "--out", str(tmp_path / "results.json")])
    assert message in capsys.readouterr().err
    assert not measured
    assert not (tmp_path / "results.json").exists()


@pytest.mark.parametrize("content", ["no JSON", "[]", '{"what": "no rows"}'])
def test_a_file_of_another_kind_is_found_before_anything_is_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture, content: str
) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(SystemExit, match="2"):
        main("shapes", lambda backbone, seeds: pytest.fail("measured"), ["random", "--out", f"{tmp_path}/results.json"])
    assert "expected a results file, JSON with rows" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_text() == content


def test_a_wrong_setting_is_found_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for variable, message in (("GADKIT_PRESET", "expected one of tiny, paper"), ("GADKIT_DEVICE", "got 'abacus'")):
        monkeypatch.setenv(variable, "abacus")
        with pytest.raises(SystemExit, match="2"):
            main("shapes", lambda backbone, seeds: pytest.fail("measured"), ["random"])
        monkeypatch.delenv(variable)
        assert message in capsys.readouterr().err


def test_what_was_measured_is_said_whatever_comes_after(capsys: pytest.CaptureFixture, cells: Callable) -> None:
    def once(backbone: OpenCLIP, seeds: list[int]) -> Iterator[tuple[str, float]]:
        if "# measured" in seen:
            raise ValueError("out of luck")
        seen.append("# measured")
        yield "a/b", 1.0

    seen: list[str] = []
    with pytest.raises(SystemExit, match="2"):
        main("shapes", once, ["clip-random", "random"])
    found = capsys.readouterr()
    assert ["a/b", "1.000 ± 0.000"] in [line[:2] for line in cells(found.out)]
    assert "out of luck" in found.err


def test_an_interrupt_loses_nothing_that_was_measured(tmp_path: Path, cells: Callable) -> None:
    """A real one: Control-C while the second network is measured."""
    out = tmp_path / "results.json"
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom gadkit.evaluation import results\nseen = []\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # it may have been started with signals ignored
        "def evaluate(backbone, seeds):\n"
        "    seen.append(1)\n"
        "    if len(seen) == 2: os.kill(os.getpid(), signal.SIGINT)\n"
        "    yield 'a/b', 1.0\n"
        "results.run(['random', 'dino', 'mae'], 'shapes', evaluate, out=Path(sys.argv[1]))"
    )
    done = subprocess.run([sys.executable, "-c", script, str(out)], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")
    assert cells(done.stdout)[0] == ["", "random"]
    assert [r["method"] for r in read(out)] == ["random"]
    assert [*tmp_path.iterdir()] == [out]


def test_a_user_without_a_name_can_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container often runs under a number that no passwd entry names, and then `getpass.getuser` fails."""
    import getpass
    import pwd

    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    with pytest.raises(KeyError):
        pwd.getpwuid(os.getuid())
    with pytest.raises((KeyError, OSError)):
        getpass.getuser()
    merge(tmp_path / "results.json", [row("random", "anomaly", 0.1)])
    assert len(read(tmp_path / "results.json")) == 1


def test_evaluate_is_a_command(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, cells: Callable
) -> None:
    from gadkit import evaluation

    whole = evaluation.evaluate
    monkeypatch.setattr(evaluation, "evaluate", lambda backbone, seeds: whole(backbone, seeds, ("faces",)))
    out = tmp_path / "results.json"
    assert gadkit(["evaluate", "random", "--seeds", "0", "--out", str(out)]) == 0
    (found,) = read(out)
    assert (found["method"], found["protocol"], found["preset"]) == ("random", "representation", "tiny")
    assert set(found["values"]) == {"faces/knn", "faces/linear"}
    assert cells(capsys.readouterr().out)[0] == ["", "random"]
    assert gadkit(["evaluate", "nobody"]) == 2
    assert "gadkit: error: NAME: expected one of random, " in capsys.readouterr().err
    assert gadkit(["evaluate", "byol", "--preset", "paper"]) == 2
    assert gadkit(["evaluate", "random", "--device", "abacus"]) == 2
    assert "device: expected cpu, cuda or mps" in capsys.readouterr().err
    assert gadkit(["evaluate", "--help"]) == 0
    assert "rgb-and-flow" in capsys.readouterr().out


def test_a_table_leaves_open_what_was_not_measured(cells: Callable) -> None:
    other = row("b", "x", 0.5)
    other["values"] = {"b/knn": [0.5, 0.7]}
    assert cells(table([row("a", "x", 0.25), other])) == [
        ["", "a", "b"],
        ["a/knn", "0.250 ± 0.000", ""],
        ["b/knn", "", "0.600 ± 0.141"],
        ["seconds", *[str(r["seconds"]) for r in (row("a", "x", 0.25), other)]],
    ]
    assert summary([2.0]) == (2.0, 0.0)


def test_values_have_five_places_and_one_row_a_seed(small: OpenCLIP) -> None:
    given = [("a", 0.123456789), ("b", 2), ("a", 1 / 3)]
    row = measure("x", "p", lambda backbone, seeds: given, small, (4, 7))
    assert row["values"] == {"a": [0.12346, 0.33333], "b": [2.0]}
    assert row["seeds"] == [4, 7]
    assert summary([0.5]) == (0.5, 0.0)
    assert summary([1.0, 3.0]) == (2.0, pytest.approx(2**0.5))


def test_a_table_has_its_cells_as_they_are() -> None:
    lines = markdown(["", "AUROC"], [["a", "0.10"], ["b", "–"]]).splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[::2]] == [["", "AUROC"], ["a", "0.10"]]
    for row in (["a"], ["a", "0.1", "0.2"]):
        with pytest.raises(ValueError, match="2 columns"):
            markdown(["", "AUROC"], [row])
