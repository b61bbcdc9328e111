"""Free labels: cut where the photograph is cut, weighed so that guessing gains nothing."""

import math

import pytest
import torch

from gadkit.factory.geometry import MATERIALS, edges, normals
from gadkit.pretext.base import unexplained_variance
from gadkit.pretext.semantic import CHANNELS, COLLAPSE, FreeLabels


def test_labels_are_cut_out_of_the_photograph_s_own_place(surveyed, small) -> None:
    data = surveyed.columns() | {"height": surveyed.images[:, 0].float() / 255}  # a "height" to be seen in the image
    photograph, depth = FreeLabels(small(), ("depth",)).views(data)
    from gadkit.data.views import MEAN, STD

    assert torch.allclose(photograph[:, :1] * STD + MEAN, depth.clamp(0, 1), atol=1e-3)


def test_each_label_has_its_channels_and_its_order(surveyed, small) -> None:
    method = FreeLabels(small(), ("edges", "depth"))
    views = method.views(surveyed.columns())
    assert [v.shape[1] for v in views] == [3, CHANNELS["edges"], CHANNELS["depth"]]
    assert method.collapse(64) == COLLAPSE["edges"] + COLLAPSE["depth"]
    assert {k: m.shape for k, m in method.maps(views[0]).items()} == dict.fromkeys(("edges", "depth"), (64, 1, 64, 64))


def test_whoever_always_gives_the_same_answer_is_at_the_collapse_value(surveyed, small) -> None:
    method = FreeLabels(small(), scale=(0.9, 1.0))
    views = method.views(surveyed.columns())
    for head in method.heads.values():
        torch.nn.init.zeros_(head.weight)
    losses = method.losses(views)
    assert losses["depth"].item() == pytest.approx(1, abs=0.01)
    assert losses["normals"].item() == pytest.approx(1, abs=0.01)
    assert losses["edges"].item() == pytest.approx(math.log(2), rel=1e-4)
    assert losses["segmentation"].item() == pytest.approx(math.log(len(MATERIALS)), rel=1e-4)
    torch.nn.init.constant_(method.heads["edges"].bias, -3.0)  # "nothing is an edge" would be right most of the time
    torch.nn.init.constant_(method.heads["segmentation"].bias[: 8 * 8], 3.0)  # "all is table"
    worse = method.losses(views)
    assert worse["edges"] > losses["edges"]
    assert worse["segmentation"] > losses["segmentation"]


def test_a_mean_map_tells_much_of_parts_in_the_middle_and_little_of_crops(surveyed, small) -> None:
    data = surveyed.columns()
    halves = [{k: v[i::2] for k, v in data.items()} for i in range(2)]
    left = {}
    for scale in ((1.0, 1.0), (0.15, 0.6)):
        method = FreeLabels(small(), scale=scale)
        (_, depth, _, _, finish), (_, depth_too, _, _, finish_too) = (method.views(half) for half in halves)
        left[scale] = [
            unexplained_variance(a.mean(0, keepdim=True).expand_as(b), b).item()
            for a, b in ((depth, depth_too), (finish, finish_too))
        ]
    assert max(left[1.0, 1.0]) < 0.85
    assert all(a + 0.1 < b for a, b in zip(*left.values(), strict=True))


def test_labels_are_those_of_the_geometry(surveyed, small) -> None:
    torch.manual_seed(0)
    method = FreeLabels(small(), size=96, scale=(1.0, 1.0))
    _, depth, slope, edge, finish = method.views(surveyed.columns())
    inner = (..., slice(8, -8), slice(8, -8))
    height, materials = surveyed.height.float(), surveyed.materials.long()
    for seen, known in (
        (depth[:, 0], height),
        (slope, normals(height)[:, :2]),
        (edge[:, 0], edges(height, materials).float()),
        (finish.argmax(1).float(), materials.float()),
    ):
        assert unexplained_variance(seen[inner], known[inner]) < 0.2  # the crop resamples by a hair


@pytest.mark.parametrize("label", ["depth", "normals", "edges", "segmentation"])
def test_a_label_is_the_same_alone_and_among_all(surveyed, small, label) -> None:
    maps = []
    for labels in (("depth", "normals", "edges", "segmentation"), (label,)):
        torch.manual_seed(0)
        method = FreeLabels(small(), labels=labels)
        torch.manual_seed(1)
        maps.append(dict(zip(labels, method.views(surveyed.columns())[1:], strict=True))[label])
    assert torch.allclose(*maps, atol=1e-5)
