"""WinCLIP's tables, product by product: each number as the detector gives it, and a run that goes on."""

import json
from pathlib import Path

import pytest
import torch

from experiments import winclip
from gadkit import factory, zoo
from gadkit.anomaly.detectors import WinCLIP
from gadkit.anomaly.metrics import auroc


def test_examples_alone_are_what_the_words_leave_of_a_vote() -> None:
    data = factory.test_set("mesh", normal=3, per_defect=1, size=48)
    found = winclip.by_shots(zoo.load("clip-random"), data)
    assert [*found["image"]] == [*found["pixel"]] == ["0", "1", "2", "4", "alone"]
    some = winclip.half(data)
    detector = WinCLIP(zoo.load("clip-random"), data.object_name).fit(data.references)
    encoded = detector.encode(some.images)
    both = detector.score(encoded).scores
    assert found["image"]["4"] == pytest.approx(auroc(both, some.labels), abs=1e-5)
    alone = 2 * both - detector.fit().score(encoded).scores  # a mean of two with equal votes
    assert found["image"]["alone"] == pytest.approx(auroc(alone, some.labels), abs=1e-5)


def test_scores_from_words_are_those_of_the_whole_detector(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, data = zoo.load("clip-random"), factory.test_set("mesh", normal=3, per_defect=1, size=48)
    data = winclip.half(data)
    scores = WinCLIP(clip, data.object_name).fit().score(data.images).scores
    found = winclip.by_words(clip, data)
    torch.testing.assert_close(torch.tensor(found["scores"]), scores, atol=1e-5, rtol=0)
    assert found["defects"] == [*data.defects]
    prompts = {name: winclip.PROMPTS[name] for name in ("11 states x 22 templates", "small against large")}
    monkeypatch.setattr(winclip, "PROMPTS", prompts)
    asked, some = winclip.by_prompts(clip, data), winclip.half(data)
    assert [*asked] == [*prompts, 'called "banana"']
    assert asked["11 states x 22 templates"] == pytest.approx(auroc(scores[::2], some.labels), abs=1e-5)


def test_a_winclip_run_measures_what_the_file_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, calls = tmp_path / "winclip.json", []

    def words(clip: object, data: object) -> dict[str, list[float]]:
        calls.append(clip)
        return {"scores": [0.5]}

    questions = (("words", words, ("clip-random",), ("mesh", "fuse"), (0, 1), 2),)
    monkeypatch.setattr(winclip, "QUESTIONS", questions)
    asked = ["--out", str(out), "--size", "48"]
    winclip.main(asked, ["mesh"])
    rows = json.loads(out.read_text())["rows"]
    assert [winclip.key(row) for row in rows] == [("words", "clip-random", "mesh", v, 48) for v in (0, 1)]
    winclip.main(asked)
    assert json.loads(out.read_text())["rows"][:2] == rows
    assert len(calls) == 4
