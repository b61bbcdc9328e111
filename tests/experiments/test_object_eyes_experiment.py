"""The experiment on the eyes of models that see objects: equal budgets, rows are kept, and a cut run goes on."""

import json
from pathlib import Path

import pytest

from experiments import object_eyes
from gadkit import weights, zoo
from gadkit.objects import eyes

MEASURES = {
    "sam": {"mIoU, one click", "mIoU, box"},
    "owl-vit": {"AP50, taught words", "AP50, boxes, withheld words", "AP50, development"},
    "oneformer": {"PQ", "PQ of parts", "mIoU"},
    "seem": {"mIoU, one click"},
}
SMALL = ["--steps", "2", "--scenes", "2", "--measured", "2"]


def test_both_eyes_have_one_budget_and_rows_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, measured = tmp_path / "object_eyes.json", object_eyes.MODELS["seem"]
    order = ["--out", str(out), "--runs", str(tmp_path), "--models", "oneformer", "seem", *SMALL]

    def interrupted(file: Path, count: int) -> dict[str, float]:
        raise KeyboardInterrupt

    monkeypatch.setitem(object_eyes.MODELS, "seem", (measured[0], interrupted, measured[2]))
    with pytest.raises(KeyboardInterrupt):
        object_eyes.main(order)
    monkeypatch.setitem(object_eyes.MODELS, "seem", measured)
    first = json.loads(out.read_text())["rows"]
    assert [row["model"] for row in first] == ["oneformer"] * 2
    assert object_eyes.main(order) == object_eyes.main(order) == 0
    held = json.loads(out.read_text())
    assert (held["device"], held["rows"][:2]) == ("cpu", first)
    assert [(row["model"], row["eyes"]) for row in held["rows"]] == [
        (name, who) for name in ("oneformer", "seem") for who in ("real eyes", "random eyes")
    ]
    for row in held["rows"]:
        same = {"seed": 0, "split": "development", "steps": 2, "batch": object_eyes.BATCH[row["model"]], "scenes": 2}
        assert same.items() <= row.items()
        assert MEASURES[row["model"]] <= row["values"].keys()
    for name in ("oneformer", "seem"):  # what learns has the same names and shapes, and the eyes come back
        files = [tmp_path / f"{name}-{sight}-2" / f"{name}.safetensors" for sight in eyes.NAMES]
        real, lot = ({key: value.shape for key, value in weights.read(file).items()} for file in files)
        assert real == lot
        assert [weights.header(file)["eyes"] for file in files] == [*eyes.NAMES]
        loaded = zoo.load(name, file=files[1])
        sight = loaded.eyes.network if name == "seem" else loaded.network.model.pixel_level_module.encoder._backbone
        own = eyes.build(eyes.NAMES[1]).network.state_dict()
        assert all((sight.state_dict()[key] == value).all() for key, value in own.items())


@pytest.mark.slow
def test_towers_that_learn_are_also_tried_from_scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_eyes, "SQUARES", 2)
    out = tmp_path / "object_eyes.json"
    order = ["--out", str(out), "--runs", str(tmp_path), "--models", "sam", "owl-vit", *SMALL]
    assert object_eyes.main(order) == 0
    rows = json.loads(out.read_text())["rows"]
    pairs = [(name, who) for name in ("sam", "owl-vit") for who in ("real eyes", "random eyes")]
    assert [(row["model"], row["eyes"]) for row in rows[:4]] == pairs
    assert [(row["model"], row["eyes"]) for row in rows[4:]] == [("sam", "from scratch"), ("owl-vit", "from scratch")]
    assert all(MEASURES[row["model"]] <= row["values"].keys() for row in rows)
