"""`gadkit detect`, run as a user runs it: on files, with the shipped model."""

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from photographs import Run, photograph, written

from gadkit import zoo
from gadkit.anomaly.detectors import DETECTORS, KNN, PatchKNN, WinCLIP, build, default
from gadkit.cli import main
from gadkit.data.folders import load_images


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "scores.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_table_sorted_by_score(run: Run, parts: Path) -> None:
    code, out, err = run("detect", parts, "--object", "metal nut")
    head, *lines = out.splitlines()
    assert (code, head.split(), len(lines)) == (0, ["score", "image"], 4)
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert {line.split()[1] for line in lines} == {str(p) for p in parts.rglob("*.png")}
    assert "4 images scored, without a threshold" in err


def test_one_json_object_an_image_and_nothing_else(run: Run, parts: Path) -> None:
    code, out, _ = run("detect", parts / "a", parts / "b" / "0.png", parts, "--object", "nut", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [set(row) for row in found] == [{"path", "score"}] * 4, "an image that is named twice is scored once"
    expected = WinCLIP(zoo.load("clip"), "nut").fit().score(load_images([row["path"] for row in found]))
    np.testing.assert_allclose([row["score"] for row in found], expected.scores, atol=1e-4)


def test_neither_a_name_nor_good_parts_are_needed(run: Run, parts: Path, tmp_path: Path) -> None:
    code, out, _ = run("detect", parts, "--json", "--out", tmp_path / "out")
    found = [json.loads(line) for line in out.splitlines()]
    expected = build("anomalyclip", zoo.load("clip")).fit().score(load_images([row["path"] for row in found]))
    assert code == 0
    np.testing.assert_allclose([row["score"] for row in found], expected.scores, atol=1e-4)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "AnomalyCLIP, zero-shot" in page


def test_the_threshold_is_the_highest_held_out_score(run: Run, parts: Path, good: Path) -> None:
    code, out, err = run("detect", parts, "--normal", good, "--json")
    found = {Path(row["path"]).relative_to(parts): row for row in map(json.loads, out.splitlines())}
    name = default(normal=True)
    eyes = zoo.load(DETECTORS[name].backbone)
    normal = load_images(good, eyes.image_size)
    alone = [
        build(name, eyes).fit(normal[torch.arange(4) != i]).score(normal[i : i + 1]).scores.item() for i in range(4)
    ]
    assert code == 0
    for row in found.values():
        assert row["threshold"] == pytest.approx(max(alone), abs=1e-4)
        assert row["verdict"] == ("anomalous" if row["score"] > row["threshold"] else "normal")
    assert found[Path("b/0.png")]["verdict"] == "anomalous"
    assert max(found, key=lambda path: found[path]["score"]) == Path("b/0.png")
    assert "the highest score of 4 good parts, each scored as if it were new; expect good parts above it: 20.0%" in err
    assert "(0.6% to 60.2%, with 95% confidence)" in err
    assert "with 4 good parts the rate of false alarms is about 20%, but may be 60%: give more" in err

    for option, value in (("--threshold-quantile", "0.5"), ("--alarms", "0.4")):
        _, out, _ = run("detect", parts, "--normal", good, "--json", option, value)
        assert json.loads(out.splitlines()[0])["threshold"] == pytest.approx(sorted(alone)[2], abs=1e-4)
    code, _, err = run("detect", parts, "--normal", good, "--alarms", "0.1")
    assert (code, "alarms: expected at least 1 / 5 = 0.2" in err) == (2, True)


@pytest.mark.parametrize(("name", "kind"), [("patch-knn", PatchKNN), ("knn", KNN)])
def test_another_detector(run: Run, parts: Path, good: Path, tmp_path: Path, name: str, kind: type) -> None:
    assert DETECTORS[name].kind == kind.__name__
    code, out, err = run("detect", parts, "--detector", name, "--normal", good, "--json", "--out", tmp_path / "out")
    found = [json.loads(line) for line in out.splitlines()]
    eyes = zoo.load(DETECTORS[name].backbone)
    normal = load_images(good, eyes.image_size)
    expected = build(name, eyes).fit(normal).score(load_images([row["path"] for row in found]))
    alone = [
        build(name, eyes).fit(normal[torch.arange(4) != i]).score(normal[i : i + 1]).scores.item() for i in range(4)
    ]
    assert code == 0
    np.testing.assert_allclose([row["score"] for row in found], expected.scores, atol=1e-4)
    assert [row["threshold"] for row in found] == pytest.approx([max(alone)] * 4, abs=1e-4)
    assert "the highest score of 4 good parts" in err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert f"Nearest {'images' if kind is KNN else 'patches'} with 4 good parts" in page
    assert "<h1>Parts</h1>" in page
    assert "descriptions" not in page


def test_two_good_parts_for_whole_images(run: Run, parts: Path, good: Path, tmp_path: Path) -> None:
    """Each is as far from the other as the other from it, so their maps are one value, and no scale for colours."""
    (good / "2.png").unlink()
    (good / "3.png").unlink()
    code, _, err = run("detect", parts, "--detector", "knn", "--normal", good, "--out", tmp_path / "out")
    assert (code, "the highest score of 2 good parts" in err) == (0, True)
    assert "to 0.600, fixed" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_good_parts_for_a_detector_that_takes_none(
    run: Run, parts: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DETECTORS, "winclip", replace(DETECTORS["winclip"], few_shot=""))
    code, out, err = run("detect", parts, "--detector", "winclip", "--object", "nut", "--normal", good)
    assert (code, out) == (2, "")
    assert "--normal: expected nothing, for winclip compares with no good parts" in err


def test_verdicts_by_a_threshold_of_ones_own(run: Run, parts: Path) -> None:
    code, out, err = run("detect", parts, "--object", "nut", "--threshold", "0")
    assert code == 0, "what is found is a result, not a failure"
    assert [line.split()[1] for line in out.splitlines()] == ["verdict", *["anomalous"] * 4]
    assert "4 of 4 images above the threshold 0.0000" in err


def test_copies_among_the_good_parts_are_named(run: Run, parts: Path, good: Path) -> None:
    assert "copies" not in run("detect", parts, "--object", "nut", "--normal", good)[2]
    (good / "copy.png").write_bytes((good / "0.png").read_bytes())
    code, _, err = run("detect", parts, "--object", "nut", "--normal", good)
    assert code == 0
    assert "1 of 5 good parts are copies of others" in err


def test_one_good_part_gives_no_threshold(run: Run, parts: Path, good: Path) -> None:
    code, out, err = run("detect", parts, "--object", "nut", "--normal", good / "0.png", "--json")
    assert code == 0
    assert all(set(json.loads(line)) == {"path", "score"} for line in out.splitlines())
    assert "no threshold: a single good part has no others" in err


def test_good_parts_are_not_compared_with_themselves(run: Run, good: Path) -> None:
    code, out, err = run("detect", good.parent, "--object", "nut", "--normal", good)
    assert (code, out) == (2, "")
    assert "nothing left to score" in err
    photograph(good.parent / "new.png")
    code, out, err = run("detect", good.parent, "--object", "nut", "--normal", good, "--json")
    assert [Path(json.loads(line)["path"]).name for line in out.splitlines()] == ["new.png"]
    assert "4 images left out" in err
    (good.parent / "link").symlink_to(good)
    code, _, err = run("detect", good, "--object", "nut", "--normal", good.parent / "link")
    assert code == 2
    assert "nothing left to score" in err


def test_a_name_that_leaves_no_room_for_the_question_is_named(run: Run, parts: Path) -> None:
    remark = "prompts are probably cut off before they say whether the part is damaged"
    name = "Edelstahl-Sechskantschraube M8x40 DIN 933 mit Unterlegscheibe"
    code, _, err = run("detect", parts, "--object", name)
    assert code == 0
    assert f"the name fills this model's 48 tokens: 242 of 242 {remark}" in err
    assert remark not in run("detect", parts, "--object", "metal nut")[2]


def test_maps_at_the_images_own_size_under_names_that_differ(run: Run, parts: Path, tmp_path: Path) -> None:
    photograph(parts / "a" / "0.jpg", 33, 71)
    code, _, _ = run("detect", parts, "--object", "nut", "--maps", tmp_path / "maps")
    found = {path.relative_to(tmp_path / "maps").as_posix(): written(path) for path in (tmp_path / "maps").rglob("*.*")}
    assert code == 0
    assert {name: heat.shape for name, heat in found.items()} == {
        **dict.fromkeys(["a/0.png.npy", "a/1.png.npy", "a/2.png.npy", "b/0.png.npy"], (40, 56)),
        "a/0.jpg.npy": (33, 71),
    }
    assert {heat.dtype for heat in found.values()} == {np.dtype("float32")}
    expected = WinCLIP(zoo.load("clip"), "nut").fit().score(load_images([parts / "b" / "0.png"])).maps[0]
    np.testing.assert_allclose(found["b/0.png.npy"], expected, atol=1e-4)


def test_anybodys_files(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    fine = [
        photograph(folder / "grey.png", mode="L"),
        photograph(folder / "clear.png", mode="RGBA"),
        photograph(folder / "palette.png", mode="P"),
        photograph(folder / "photo.jpg"),
        photograph(folder / "two words.webp"),
        photograph(folder / "plain.bmp"),
        photograph(folder / "Schräge Fläche 螺母.tiff"),
        photograph(folder / "<b>&amp;'\".png"),
        photograph(folder / "thin.png", 2, 700),
        photograph(folder / "line\nend.png"),
    ]
    photograph(folder / "dot.png", 1, 1)
    (folder / "empty.png").touch()
    (folder / "cut.jpg").write_bytes((folder / "photo.jpg").read_bytes()[:200])
    (folder / "notes.txt").write_text("no image")
    code, out, err = run("detect", folder, "--object", "nut", "--out", tmp_path / "out", "--maps", tmp_path / "maps")
    assert code == 1
    assert len(out.splitlines()) == 1 + len(fine)
    assert {row["path"] for row in rows(tmp_path / "out")} == {str(path) for path in fine}
    assert len([path for path in (tmp_path / "maps").iterdir() if path.suffix == ".npy"]) == len(fine)
    for name in ("dot.png: expected at least 2 x 2 pixels", "empty.png: an empty file", "cut.jpg: "):
        assert f"skipped {folder / name}" in err
    assert "3 files could not be read" in err
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;&amp;amp;&#39;&#34;.png" in page
    assert "<b>&" not in page
    assert page.count("empty.png") == 1


def test_a_data_set_is_scored_by_its_own_labels(run: Run, tmp_path: Path) -> None:
    for i in range(3):
        photograph(tmp_path / "nut" / "train" / "good" / f"{i}.png", seed=i)
        photograph(tmp_path / "nut" / "test" / "good" / f"{i}.png", seed=10 + i)
        photograph(tmp_path / "nut" / "test" / "hole" / f"{i}.png", spot=20, seed=20 + i)
    code, out, err = run("detect", tmp_path / "nut", "--object", "nut", "--normal", tmp_path / "nut", "--json")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(found) == 6, "the images to train on are the good parts, not those to score"
    assert "image AUROC 1.000, by the folder's own labels" in err
    code, _, err = run("detect", tmp_path / "nut", "--object", "nut", "--normal", tmp_path / "nut" / "test" / "hole")
    assert code == 2
    assert "its data set labels them as defective (hole)" in err


BAD = [
    (["nowhere", "--object", "nut"], "'nowhere': no such folder"),
    (["bare", "--object", "nut"], "got none"),
    (["rotten", "--object", "nut"], "none of the 1 files could be read"),
    (["parts", "--object", " "], 'expected a text such as "metal nut"'),
    (["parts", "--detector", "winclip"], '--object: expected a text such as "metal nut", got nothing'),
    (["parts", "--preset", "paper"], '--object: expected a text such as "metal nut", got nothing'),
    (["parts", "--object", "nut", "--detector", "magic"], f"expected one of {', '.join(DETECTORS)}, got 'magic'"),
    (["parts", "--detector", "patch-knn"], "--normal: expected images of good parts, for patch-knn compares with them"),
    (["parts", "--detector", "patch-knn", "--normal", "good", "--object", " "], "expected a text such as"),
    (["--object", "nut"], "IMAGES"),
    (["parts", "--object", "nut", "--preset", "huge"], "expected one of tiny, paper, got 'huge'"),
    (["parts", "--object", "nut", "--preset", "paper"], "open_clip_model.safetensors"),
    (["parts", "--object", "nut", "--device", "abacus"], "got 'abacus'"),
    (["parts", "--object", "nut", "--normal", "nowhere"], "'nowhere': no such folder"),
    (["parts", "--object", "nut", "--normal", "bare"], "got none"),
    (["parts", "--object", "nut", "--normal", "rotten"], "--normal: none of the 1 files could be read"),
    (["parts", "--object", "nut", "--threshold-quantile", "0.9"], "expected --normal with it"),
    (
        ["parts", "--object", "nut", "--normal", "good", "--threshold-quantile", "2"],
        "a share in (0, 1], got float 2.0",
    ),
    (["parts", "--object", "nut", "--threshold", "nan"], "finite"),
    (["parts", "--object", "nut", "--out", "bare/notes.txt"], "--out: expected a folder that can be written to"),
    (["parts", "--object", "nut", "--maps", "bare/notes.txt/maps"], "--maps: expected a folder that can be written to"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[message for _, message in BAD])
def test_errors_that_help(
    run: Run, parts: Path, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bare").mkdir()
    Path("bare/notes.txt").touch()
    photograph(Path("rotten/1.png")).write_bytes(b"\x89PNG")
    code, out, err = run("detect", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert len([line for line in err.splitlines() if "error" in line]) == 1


def test_an_interrupt_leaves_nothing_half_written(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Impatient:  # somebody presses Ctrl-C while the second image is being told
        lines = 0

        def write(self, text: str) -> None:
            self.lines += text != "\n"
            if self.lines == 2:
                signal.raise_signal(signal.SIGINT)

        def flush(self) -> None:
            pass

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.html").write_text("an earlier report")
    (tmp_path / "out" / "scores.csv").write_text("path,score,threshold,verdict\n")
    monkeypatch.setattr(sys, "stdout", Impatient())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    options = ["--object", "nut", "--json", "--out", str(tmp_path / "out"), "--maps", str(tmp_path / "maps")]
    try:
        assert main(["detect", str(parts), *options]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    assert "interrupted" in capsys.readouterr().err
    names = ["report.html", "scores.csv", "scores.unfinished.csv"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert (tmp_path / "out" / "report.html").read_text() == "an earlier report"
    assert len((tmp_path / "out" / "scores.unfinished.csv").read_text().splitlines()) == 3, "both scores so far"
    assert [written(path).shape for path in (tmp_path / "maps").rglob("*.*")] == [(40, 56)]


@pytest.mark.parametrize("name", ["report.html", "scores.csv", "scores.unfinished.csv"])
def test_what_somebody_else_has_written_is_not_replaced(run: Run, parts: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    code, out, err = run("detect", parts, "--object", "nut", "--out", tmp_path)
    assert (code, out) == (2, "")
    assert f"--out: expected a folder whose {name} is that of an earlier run, or none, got yours" in err
    assert (tmp_path / name).read_text() == "mine"


def test_outputs_that_fail_are_named_and_the_others_are_there(run: Run, parts: Path, tmp_path: Path) -> None:
    photograph(parts / ("n" * 250 + ".png"))
    (tmp_path / "out" / "report.html").mkdir(parents=True)
    (tmp_path / "out" / "scores.csv").write_text("path,score,threshold,verdict\n")
    code, out, err = run("detect", parts, "--object", "nut", "--out", tmp_path / "out", "--maps", tmp_path / "maps")
    assert (code, len(out.splitlines())) == (1, 6)
    assert f"{'n' * 250}.png.npy: the name is longer than the file system allows" in err
    assert f"not written: {tmp_path / 'out' / 'report.html'}: expected a name for a file" in err
    assert "2 outputs could not be written" in err
    assert len(rows(tmp_path / "out")) == 5
    assert len([*(tmp_path / "maps").rglob("*.npy")]) == 4


def test_help_does_not_wait_for_the_libraries() -> None:
    code = "import sys, gadkit.cli; code = gadkit.cli.main(['detect', '--help']); print(code, 'torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "0 False"
    assert "--object NAME" in told


def test_a_reader_who_has_seen_enough(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)  # as `gadkit detect ... | head -0` does
    with open(writer, "w") as out:
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["detect", str(parts), "--object", "nut", "--json"]) == 0


@pytest.mark.parametrize("form", [pytest.param([], marks=pytest.mark.slow), ["--json"]])
def test_files_are_written_whoever_reads_the_table(parts: Path, good: Path, tmp_path: Path, form: list[str]) -> None:
    command = [sys.executable, "-m", "gadkit", "detect", str(parts), "--out", str(tmp_path / "out")]
    command += ["--normal", str(good), "--detector", "knn", "--backbone", "random"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, *form], stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "out/scores.csv").read_text().splitlines()) == 5
    assert (tmp_path / "out/report.html").is_file()
