"""Short trainings for pages: what each measures, on little, and a run that goes on."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch

from experiments import short_runs
from gadkit.evaluation.features import encode
from gadkit.evaluation.probes import knn_accuracy, linear_probe
from gadkit.evaluation.sets import parts
from gadkit.factory.pool import unlabelled
from gadkit.losses import info_nce
from gadkit.nn import ViT
from gadkit.selfsup import MoCoV3
from gadkit.zoo import load


@pytest.fixture
def little(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of few photographs."""
    monkeypatch.setattr(short_runs, "POOL", 130)


def test_a_network_is_asked_about_categories_few_labels_and_defects(little: None) -> None:
    found, sets = short_runs.network("random", (2, 1), 60), (parts(products=2), parts(0, 1))
    x, y = (encode(load("random"), s.images).pooled for s in sets)
    assert found["knn"] == knn_accuracy(x, sets[0].labels, y, sets[1].labels)
    first = torch.arange(0, len(x), 4)  # two products a category, two photographs each
    assert found["few"][0] == linear_probe(x[first], sets[0].labels[first], y, sets[1].labels)
    assert len(found["few"]) == 3, "of four photographs one, two and four"
    assert found["few"][-1] == pytest.approx(found["linear"], abs=0.02), "the same photographs in another order"
    assert len(found["sound"]) == 2
    assert all(0 <= value <= 1 for value in found["sound"])


def test_variance_within_categories_is_all_or_nothing_at_the_ends() -> None:
    labels = torch.arange(3).repeat_interleave(4)
    assert short_runs.within(torch.eye(3)[labels], labels) == pytest.approx(0, abs=1e-6)
    alike = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)).repeat(3, 1)
    assert short_runs.within(alike, labels) == pytest.approx(1, abs=1e-6)


def test_a_queue_that_is_empty_is_no_queue_and_then_holds_four_batches(little: None) -> None:
    torch.manual_seed(0)
    method = short_runs.Queue(ViT(image_size=32, depth=1))
    views = method.views({"images": unlabelled(8).images})
    with torch.no_grad():
        assert method.loss(views).item() == pytest.approx(MoCoV3.loss(method, views).item(), abs=1e-5)
        first = method.old
        for _ in range(4):
            method.loss(views)
    assert first.shape == (8, method.old.shape[1])
    assert len(method.old) == 32
    same = torch.eye(8)
    assert info_nce(same, same) < info_nce(same, same.roll(1, 0))  # what both of them minimise


def test_short_trainings_say_what_their_pages_quote(little: None) -> None:
    assert {*short_runs.colours(0.0, 1, (2, 1))} == {"loss", "probe"}
    assert {*short_runs.queue(MoCoV3, 1, (2, 1))} == {"loss", "probe"}
    assert {*short_runs.painted(1, (2, 1))} == {"loss", "probe"}
    still = short_runs.patches(True, 2)
    assert len(still["losses"]) == len(still["last block"]) == 2
    assert still["patch embedding"] == [0, 0], "no gradient where nothing learns"
    assert min(still["last block"]) > 0
    found = short_runs.collapses({"last_norm": True}, 2, predictor=False)
    assert [len(found[name]) for name in ("losses", "ranks", "spreads")] == [2, 2, 2]
    assert 0 < found["spreads"][-1] < 1.2


def test_a_run_answers_what_the_file_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, asked = tmp_path / "short_runs.json", []

    def answer(what: str) -> dict[str, float]:
        asked.append(what)
        return {"x": 1 / 3}

    def questions() -> list:
        return [(page, what, partial(answer, what)) for page, what in (("a", "one"), ("b", "two"))]

    monkeypatch.setattr(short_runs, "questions", questions)
    short_runs.main(["--out", str(out), "--pages", "a"])
    short_runs.main(["--out", str(out)])
    rows = json.loads(out.read_text())["rows"]
    assert asked == ["one", "two"]
    assert [(*short_runs.key(row), row["values"]) for row in rows] == [
        ("a", "one", {"x": 0.33333}),
        ("b", "two", {"x": 0.33333}),
    ]
    with pytest.raises(SystemExit):
        short_runs.main(["--out", str(out), "--pages", "c"])


def test_the_results_file_answers_every_question() -> None:
    path = Path(__file__).parents[2] / "book" / "results" / "short_runs.json"
    rows = json.loads(path.read_text())["rows"]
    assert {short_runs.key(row) for row in rows} == {(page, what) for page, what, _ in short_runs.questions()}
