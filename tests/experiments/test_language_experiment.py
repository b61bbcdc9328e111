"""The experiment about language measures what the detectors do, and goes on where it was cut off."""

from pathlib import Path

import pytest
import torch

from experiments import language
from gadkit import factory, zoo
from gadkit.anomaly.benchmark import measures
from gadkit.anomaly.detectors import WinCLIP, anomalyclip, uniadet
from gadkit.anomaly.prompts import WINCLIP
from gadkit.evaluation.results import merge


def test_words_are_what_their_labels_say() -> None:
    assert [language.misspelt(noun) for noun in ("nut", "leather", "metal nut", "o")] == [
        *("unt", "letaher", "metla nut", "o"),
    ]
    asked = language.sentences("nut")
    assert asked["ensemble, banana"] == (WINCLIP, "banana")
    prompts, noun = asked["one pair, negated"]
    assert prompts.texts(noun) == (["a photo of a not damaged nut."], ["a photo of a not flawless nut."])
    swapped, pair = (asked[label][0].texts("nut") for label in ("one pair, swapped", "one pair"))
    assert swapped == pair[::-1]


def test_a_cell_is_what_the_detectors_say() -> None:
    clip = zoo.load("clip-random")
    data = factory.test_set("mesh", 0, 0, "fixture", 3, 1, 2, 48)
    heads = {
        "learnt prompts": [anomalyclip.untrained(clip, 2, 1, 1, seed) for seed in (0, 1)],
        "two vectors a layer": [uniadet.untrained(clip, seed=seed) for seed in (0, 1)],
    }
    found = dict(language.cell(clip, data, heads))
    detector = WinCLIP(clip, data.object_name).fit(data.references)
    both = measures(detector.score(data.images), data)
    assert found["ensemble + 4 good parts"]["image_auroc"] == [round(both["image_auroc"], 4)]
    maps = torch.stack([*detector.few_shot_maps(data.images).values()]).mean(0)
    alone = language.references_alone(detector, data.images, (48, 48))
    torch.testing.assert_close(alone.scores, maps.amax((1, 2)))
    assert len(found["learnt prompts"]["pixel_auroc"]) == len(found["two vectors a layer"]["image_auroc"]) == 2
    swapped, pair = (found[label]["image_auroc"][0] for label in ("one pair, swapped", "one pair"))
    assert swapped == pytest.approx(1 - pair, abs=1e-3)


def test_cells_that_are_there_are_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple] = []
    monkeypatch.setattr(language, "EYES", ("clip-random",))
    monkeypatch.setattr(language, "taught", lambda *_: {"learnt prompts": []})
    monkeypatch.setattr(language, "cell", lambda clip, data, heads: asked.append(data.category) or {"x": 1}.items())
    done = {"split": "development", "eyes": "clip-random", "category": "mesh", "product": 0}
    merge(tmp_path / "found.json", [done | {"values": {}}], language.key, language.ABOUT)
    for _ in range(2):
        language.main(["--out", str(tmp_path / "found.json"), "--heads", str(tmp_path / "heads"), "--products", "0"])
    assert asked == [name for name in factory.split("development") if name != "mesh"]
