"""Files that the command leaves behind: whole, where they belong, and harmless to the programs that read them."""

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from photographs import Run, photograph, written

from gadkit.cli.outputs import ImageScore, attempt, safe, write_csv, write_map, write_table

ODD = ["=1+1.png", "+1.png", "-1.png", "@SUM.png", "\tx.png", "\rx.png", "＝1.png", "two\nlines;=1.png", 'a,"b".png']


def cells(path: Path) -> list[list[str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_no_spreadsheet_runs_a_file_name(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(ODD):
        photograph(Path(name), spot=3 * i, seed=i)
    Path("=torn.png").write_bytes(b"\x89PNG")
    code, _, _ = run("curate", ".", "--keep", 9, "--duplicates", 1, "--null", "--out", "out")
    assert code == 1
    header, *rows = cells(Path("out/curation.csv"))
    assert header == ["path", "status", "duplicate_of", "cluster_1"]
    assert {row[0] for row in rows} == {safe(name) for name in [*ODD, "=torn.png"]}
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert all(Path(row[0]).is_file() for row in rows), "a name stays a name"
    listed = Path("out/kept.txt").read_bytes().split(b"\0")
    assert listed.pop() == b""
    assert {os.fsdecode(name) for name in listed} == {safe(name) for name in ODD}


def test_text_in_cells_and_numbers(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ["a", "b"], [["=cmd|x", -0.5], [Path("-p"), None], ["plain", 3]])
    assert (tmp_path / "t.csv").read_bytes() == b'a,b\r\n"\'=cmd|x",-0.5\r\n"./-p",""\r\n"plain",3\r\n'
    write_csv(tmp_path / "s.csv", [ImageScore("@a", 0.25), ImageScore("b", 0.5, 0.3)])
    assert cells(tmp_path / "s.csv")[1:] == [["b", "0.5", "0.3", "anomalous"], ["./@a", "0.25", "", ""]]


def test_a_name_with_a_line_break_asks_for_a_list_that_can_hold_it(run: Run, tmp_path: Path) -> None:
    photograph(tmp_path / "in" / "two\nlines.png")
    code, _, err = run("curate", tmp_path / "in", "--out", tmp_path / "out")
    assert code == 2
    assert "expected names without line breaks" in err
    assert "take --null" in err
    assert not (tmp_path / "out").exists()


def test_maps_never_leave_their_folder(tmp_path: Path) -> None:
    heat, maps = np.zeros((2, 3)), tmp_path / "maps"
    write_map(maps, tmp_path / "in/a/..b.png", tmp_path / "in", heat)
    assert written(maps / "a" / "..b.png.npy").shape == (2, 3)
    with pytest.raises(ValueError, match="expected the name of a map below"):
        write_map(maps, tmp_path / "other/1.png", tmp_path / "in", heat)
    (maps / "link").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="expected the name of a map below"):
        write_map(maps, tmp_path / "in/link/deep/1.png", tmp_path / "in", heat)
    assert sorted(path.name for path in tmp_path.rglob("*.npy")) == ["..b.png.npy"]
    assert not (tmp_path / "deep").exists()


@pytest.mark.parametrize("held", [b"mine", np.arange(3), np.zeros((2, 2)), None])
def test_a_map_never_takes_the_place_of_another_file(held: bytes | np.ndarray | None, tmp_path: Path) -> None:
    place, heat = tmp_path / "1.png.npy", np.ones((2, 3))
    if held is None:
        place.symlink_to(tmp_path / "nowhere")
    elif isinstance(held, bytes):
        place.write_bytes(held)
    else:
        np.save(place, held)
    before = None if held is None else place.read_bytes()
    with pytest.raises(ValueError, match=r"1\.png\.npy: expected a map of an earlier run in this place"):
        write_map(tmp_path, tmp_path / "1.png", tmp_path, heat)
    assert (place.read_bytes() if place.exists() else None) == before
    place.unlink()
    for value in (1, 2):
        write_map(tmp_path, tmp_path / "1.png", tmp_path, value * heat)
        assert (np.load(place) == value).all()


def test_a_map_whose_name_is_too_long_is_named_and_the_others_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed: list[str] = []
    for name in ("n" * 250 + ".png", "ok.png"):
        with attempt(failed):
            write_map(tmp_path, tmp_path / name, tmp_path, np.zeros((2, 2)))
    assert os.listdir(tmp_path) == ["ok.png.npy"]
    assert failed == [f"{tmp_path / ('n' * 250)}.png.npy: the name is longer than the file system allows"]
    assert capsys.readouterr().err == f"gadkit: not written: {failed[0]}\n"
    with pytest.raises(KeyboardInterrupt), attempt(failed):
        raise KeyboardInterrupt


def test_a_sheet_that_does_not_fit_does_not_take_the_table_with_it(run: Run, small_disk: Path, tmp_path: Path) -> None:
    for i in range(6):
        photograph(tmp_path / "in" / f"{i}.png", 128, 128, spot=9 * i, seed=i)
    (small_disk / "filler").write_bytes(bytes(190 * 1024))  # 66 KiB are left, too few for the sheet
    out = small_disk / "out"
    code, printed, err = run("curate", tmp_path / "in", "--keep", 6, "--duplicates", 1, "--out", out)
    assert code == 1
    assert printed.startswith("cluster  images")
    assert f"gadkit: not written: {out / 'contact.png'}: the disk is full\n" in err
    assert "1 output could not be written" in err
    assert sorted(os.listdir(out)) == ["curation.csv", "kept.txt"]
    assert len((out / "kept.txt").read_text().splitlines()) == 6


def test_a_picture_that_goes_while_one_works_costs_the_sheet_alone(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gadkit.cli.collection import Collection

    for i in range(3):
        photograph(tmp_path / "in" / f"{i}.png", spot=9 * i, seed=i)
    whole = Collection.curate

    def then_gone(self: Collection) -> object:
        found = whole(self)
        (tmp_path / "in" / "1.png").unlink()
        return found

    monkeypatch.setattr(Collection, "curate", then_gone)
    code, _, err = run("curate", tmp_path / "in", "--keep", 3, "--duplicates", 1, "--out", tmp_path / "out")
    assert code == 1
    assert "gadkit: not written: " in err
    assert sorted(os.listdir(tmp_path / "out")) == ["curation.csv", "kept.txt"]


@pytest.mark.skipif(not shutil.which("unshare"), reason="this system has no user namespaces")
def test_a_user_without_an_entry_and_without_a_home(tmp_path: Path) -> None:
    stranger = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
    if subprocess.run([*stranger, "true"], capture_output=True).returncode:
        pytest.skip("this user may not take on another's number")
    photograph(tmp_path / "1.png")
    bare = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path), "MPLCONFIGDIR": str(tmp_path)}
    code = "import getpass\ntry: print(getpass.getuser())\nexcept (KeyError, OSError): print('nobody')"
    python = [*stranger, sys.executable]
    assert subprocess.run([*python, "-c", code], env=bare, capture_output=True, text=True).stdout == "nobody\n"
    command = [*python, "-m", "gadkit", "curate", "1.png", "--out", "out"]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/kept.txt").read_text() == "1.png\n"
