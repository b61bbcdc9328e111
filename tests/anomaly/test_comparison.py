"""Rows side by side: lines with costs, kinds apart, and a ranking that says what is clear, by hand."""

from statistics import mean

import pytest

from gadkit.anomaly import comparison
from gadkit.anomaly.benchmark import table
from gadkit.anomaly.comparison import beside, entry, lines, ranking, saw, short, standings


def row(detector: str, category: str, value: float, variant: int = 0, seed: int = 0, **more: object) -> dict:
    known = {"detector": detector, "backbone": "eyes", "heads": None, "shots": 4, "data": "loose", "kind": "object"}
    known |= {"category": category, "variant": variant, "seed": seed, "ms": 10.0, "mb": 1.5, "trained_on": "ImageNet"}
    names = ("image_auroc", "image_ap", "image_f1", "pixel_auroc", "pixel_ap", "aupro")
    return known | dict.fromkeys(names, value) | more


def grid(values: dict[str, dict[str, list[float]]]) -> list[dict]:
    """Rows of detectors by category; a list has a value for each product."""
    return [
        row(detector, category, value, variant)
        for detector, by in values.items()
        for category, some in by.items()
        for variant, value in enumerate(some)
    ]


def test_a_line_is_a_mean_with_its_spread_and_its_costs(cells) -> None:
    rows = [
        *(row("a", "mesh", 0.5, seed=s, kind="texture", ms=m, mb=m / 10) for s, m in ((0, 10.0), (1, 30.0))),
        *(row("a", "nut", 0.9 + 0.1 * s, seed=s, ms=20.0, mb=4.0, pixel_auroc=None) for s in (0, 1)),
        row("b", "nut", 0.25, heads="own.pt 12", trained_on="ImageNet-1k; heads: the factory's seen defects"),
    ]
    first, second = lines(rows)
    assert first["shots"] == "4"
    assert (first["detector"], first["heads"], second["heads"]) == ("a", "none", "own.pt 12")
    assert first["image_auroc"] == (pytest.approx(mean([0.5, 0.9, 0.5, 1.0])), pytest.approx(0.05 / 2**0.5))
    assert first["pixel_auroc"] == (0.5, 0.0), "what has no masks does not count"
    assert (first["textures"], first["objects"][0]) == ((0.5, 0.0), pytest.approx(0.95))
    assert (first["ms"], first["MB"]) == ("20.0", "4.0"), "the median, and the largest"
    assert second["textures"] is None
    assert (first["saw these defects"], second["saw these defects"]) == ("no", "yes")
    assert "data" not in first
    assert len(cells(table([first, second]))) == 3
    two = lines([*rows, row("a", "nut", 0.5, data="/data/mvtec/")])
    assert [line["data"] for line in two] == ["mvtec", "loose", "loose"]


def test_what_a_row_is_called() -> None:
    assert entry(row("knn", "nut", 0.5)) == "knn, eyes"
    assert entry(row("knn", "nut", 0.5, heads="shipped"), shots=True) == "knn, eyes, 4 shots"
    assert entry(row("knn", "nut", 0.5, heads="own.pt 12ab")) == "knn, eyes, own.pt 12ab"
    assert [short(name) for name in ("/a/b/", "C:\\x\\y", "loose, global")] == ["b", "y", "loose, global"]
    learnt = {"the factory": "yes", "ImageNet-1k; heads: unknown": "unknown", "nothing": "no", "LAION-400M": "no"}
    assert {text: saw({"trained_on": text}) for text in learnt} == learnt


def test_a_small_distance_everywhere_is_clear_and_a_larger_one_in_one_place_is_not() -> None:
    categories = "abcdefgh"
    best = {c: [0.90 + 0.01 * i, 0.92] for i, c in enumerate(categories)}
    always = {c: [value - 0.01 for value in some] for c, some in best.items()}
    once = {c: [value - 0.40 * (c == "a") for value in some] for c, some in best.items()}
    first, second, third = ranking(grid({"once": once, "best": best, "always": always}))
    assert [one.entry for one in (first, second, third)] == ["best, eyes", "always, eyes", "once, eyes"]
    assert (first.behind, first.clear, first.units) == (0.0, False, 16)
    assert second.behind == pytest.approx(0.01)
    assert (second.low, second.high) == (pytest.approx(0.01), pytest.approx(0.01))
    assert second.clear
    assert third.behind == pytest.approx(0.05)
    assert (third.low, third.clear) == (pytest.approx(0.0), False), "a category that the draws leave out"
    assert 0.05 < third.high <= 0.2


def test_seeds_are_no_products_and_categories_weigh_alike() -> None:
    rows = grid({"a": {"x": [1.0] * 4, "y": [0.5]}, "b": {"x": [0.9] * 4, "y": [0.5]}})
    rows += [{**r, "seed": seed} for r in rows[:] for seed in (1, 2)]
    first, second = ranking(rows)
    assert (first.mean, first.units) == (pytest.approx(0.75), 5)
    assert second.behind == pytest.approx(0.05), "half of 0.1: two categories, whatever their products"


def test_only_the_same_draws_are_compared() -> None:
    rows = [row("a", c, 0.9 - 0.3 * seed, seed=seed) for c in "xy" for seed in (0, 1)]
    rows += [row("b", c, 0.5, seed=1) for c in "xy"]
    first, second = ranking(rows)
    assert (first.entry, first.mean, second.mean) == ("a, eyes", pytest.approx(0.75), pytest.approx(0.5))
    assert second.behind == pytest.approx(0.1), "the harder draw, and not the mean of both"


def test_the_interval_is_that_of_products_drawn_within_categories() -> None:
    values = [0.02 * i for i in range(10)]
    rows = grid({"a": {"x": [0.9] * 10}, "b": {"x": [0.9 - v for v in values]}})
    (_, one) = ranking(rows)
    sigma = (sum((v - mean(values)) ** 2 for v in values) / 10 / 10) ** 0.5  # of a mean of ten draws
    assert one.low == pytest.approx(mean(values) - 1.96 * sigma, abs=0.1 * sigma + 0.004)
    assert one.high == pytest.approx(mean(values) + 1.96 * sigma, abs=0.1 * sigma + 0.004)
    assert ranking(rows) == ranking(rows), "the draws have a seed"
    assert ranking(rows, seed=1)[1].low != one.low


def test_what_is_not_there_is_said() -> None:
    rows = grid({"a": {"x": [0.9, 0.8], "y": [0.7]}, "b": {"x": [0.5]}, "c": {"z": [0.1]}})
    with pytest.raises(ValueError, match="products that c, eyes shares with the best entry, got none"):
        ranking(rows)
    first, second = standings(rows[:-1])
    assert (first["behind"], first["clearly behind"], first["products"]) == ("best", "", "3")
    assert (second["behind"], second["products"]) == ("0.400 [0.400, 0.400]", "1 of 3")
    assert second["clearly behind"] == "not clear", "one product has no interval"
    for some, message in (
        ([], "at least one row with aupro, got none"),
        ([row("a", "x", 0.5, aupro=None)], "at least one row with aupro, got none"),
        ([row("a", "x", 0.5), row("a", "x", 0.5, data="other")], "rows of one data set, got loose, other"),
    ):
        with pytest.raises(ValueError, match=message):
            ranking(some, "aupro")
    assert f"{comparison.DRAWS:,}" in comparison.RULE


def test_other_test_images_are_not_mixed_in() -> None:
    rows = [row("a", "x", 0.5, references=4), row("b", "x", 0.5, references=16), row("b", "x", 0.5, data="other")]
    for call in (lines, lambda rows: ranking(rows[:2])):
        with pytest.raises(ValueError, match="rows: expected one references for loose, got 4 and 16"):
            call(rows)
    assert len(lines(rows[1:])) == 2


def test_published_numbers_have_columns_of_their_own() -> None:
    paper = {"method": "WinCLIP+", "shots": 4, "measure": "image AUROC", "verified": "the abstract"}
    records = [
        {**paper, "dataset": "MVTec AD", "value": 90.0},
        {**paper, "dataset": "VisA", "value": 80.5},
        {**paper, "dataset": "VisA", "value": 50.0, "measure": "AUPRO"},
        {**paper, "dataset": "VisA", "value": 70.0, "method": "WinCLIP", "shots": 0},
        {**paper, "dataset": "VisA", "value": 99.0, "method": "somebody else's"},
        {**paper, "dataset": "VisA", "value": 99.0, "shots": 8},
    ]
    rows = [row("winclip", c, v, shots=k) for c, v, k in (("x", 0.5, 4), ("y", 0.7, 4), ("x", 0.3, 0))]
    rows += [row("winclip", "x", 0.1, data="/d/mvtec"), row("knn", "x", 0.2)]
    names = ("method", "shots", "ours, loose", "ours, mvtec", "paper, MVTec AD", "paper, VisA", "read in")
    none, four = beside(rows, records)
    assert [*none.items()] == [
        *zip(names, ("WinCLIP", 0, (0.3, 0.0), "", "", "0.700", "the abstract"), strict=True),
    ]
    ours = (pytest.approx(0.6), 0.0), (0.1, 0.0)
    assert [*four.values()] == ["WinCLIP+", 4, *ours, "0.900", "0.805", "the abstract"]
    assert [line["paper, VisA"] for line in beside(rows, records, "aupro")] == ["0.500"]
    with pytest.raises(ValueError, match="rows: expected one backbone for winclip, got eyes, other"):
        beside([*rows, row("winclip", "x", 0.5, backbone="other")], records)


def test_batched_rows_say_so() -> None:
    (line,) = lines([row("a", "x", 0.5, shots=-1)])
    assert line["shots"] == "batch"
    assert entry(row("a", "x", 0.5, shots=-1), shots=True) == "a, eyes, batch shots"
