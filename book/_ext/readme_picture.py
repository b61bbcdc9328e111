"""The README's picture: `python book/_ext/readme_picture.py` writes book/_static/readme.png.

One part of every held-out category, by a fixed rule (the third image of the category's first kinds of defect in turn),
so that nothing is chosen by how well it came out.
"""

from pathlib import Path

import torch

from gadkit import factory, viz, zoo
from gadkit.anomaly.detectors import WinCLIP
from gadkit.anomaly.thresholds import held_out


def main() -> None:
    """Detect with four references each, in the fixture regime, and draw."""
    clip, images, maps, titles = zoo.load("clip"), [], [], []
    for turn, name in enumerate(factory.split("held-out")):
        data = factory.test_set(name, regime="fixture", size=192)
        defect = factory.CATEGORIES[name].defects[turn % 6]
        pick = data.defects.index(defect) + 2
        detector = WinCLIP(clip, factory.CATEGORIES[name].nouns[0]).fit(data.references)
        good = held_out(detector, data.references).maps  # each category's own parts set its colours
        scale = viz.anomaly_scale(good, top=detector.map_range[1])
        images.append(data.images[pick])
        maps.append(scale.relative(detector.score(data.images[pick : pick + 1]).maps)[0])
        titles.append(name)
    whole = viz.Scale(0.0, 1.0, 0.5)
    figure = viz.show_detections(torch.stack(images), torch.stack(maps), scale=whole, titles=titles, columns=5)
    figure.savefig(Path(__file__).parents[1] / "_static" / "readme.png", dpi=130, facecolor="white")


if __name__ == "__main__":
    main()
