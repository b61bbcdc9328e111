"""`gadkit detect` with a detector that compares the photographs with each other."""

import json
from pathlib import Path

import pytest
from photographs import Run, photograph

from gadkit import zoo
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.data.folders import load_images


def test_photographs_judge_each_other(run: Run, tmp_path: Path) -> None:
    for i in range(5):
        photograph(tmp_path / "parts" / f"{i}.png", 40, 40, spot=14 if i == 3 else 0, seed=i)
    (tmp_path / "parts" / "torn.png").write_bytes(b"torn")
    code, out, err = run("detect", tmp_path / "parts", "--detector", "musc", "--json", "--out", tmp_path / "out")
    found = [json.loads(line) for line in out.splitlines()]
    assert code == 1, "a file could not be read"
    assert err.count("skipped") == 1, "although all were read twice"
    assert "a defect that most of them share looks normal" in err
    assert "5 images scored, without a threshold" in err
    assert Path(max(found, key=lambda row: row["score"])["path"]).name == "3.png"
    images = load_images([row["path"] for row in found])
    expected = build("musc", zoo.load(DETECTORS["musc"].backbone)).fit(images).score(images).scores
    assert [row["score"] for row in found] == pytest.approx(expected.tolist(), abs=1e-4)
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "MuSc, batched: 5 images compared with each other" in page


def test_it_takes_no_good_parts_and_not_one_photograph(run: Run, parts: Path, good: Path) -> None:
    code, _, err = run("detect", parts, "--detector", "musc", "--normal", good)
    assert (code, "--normal: expected nothing, for musc compares with no good parts" in err) == (2, True)
    code, _, err = run("detect", parts / "b", "--detector", "musc")
    assert (code, "needs at least 2, got 1" in err) == (2, True)
    code, _, err = run("fit", "--detector", "musc", "--normal", good, "--out", good / "x.gad")
    assert code == 2
