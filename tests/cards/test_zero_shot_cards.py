"""The shipped heads of AnomalyCLIP and of two vectors a layer still give the numbers on their cards."""

import re

import pytest

from gadkit import factory, zoo
from gadkit.anomaly.benchmark import factory_cases, run, summarise
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.weights import ASSETS


@pytest.mark.parametrize("name", ["anomalyclip", "uniadet"])
def test_the_sample_gives_the_figures_on_the_card(name: str) -> None:
    """One product of every second development category."""
    eyes, cases = zoo.load(DETECTORS[name].backbone), factory_cases(factory.split("development")[::2], "loose", 1, (0,))
    found = list(run(lambda noun: build(name, eyes, noun), cases, (0,), quiet=True))
    card = " ".join((ASSETS / f"{name}.md").read_text().split())
    written = re.search(r"that the tests repeat .*?: image AUROC ([\d.]+\d), pixel AUROC ([\d.]+\d)\.", card)
    for number, measure in zip(written.groups(), ("image_auroc", "pixel_auroc"), strict=True):
        assert summarise(found, measure)[0] == pytest.approx(float(number), abs=0.02), measure
