"""Pictures of clusters, rendered for real."""

import pytest
import torch

from gadkit import viz
from gadkit.viz.style import DPI, WIDTH


def test_a_row_a_cluster(images: torch.Tensor) -> None:
    sheet = viz.show_clusters([(40, 3, images[:3]), (4, 1, images[:1])], columns=4, page=True)
    texts = [text.get_text() for axes in sheet.axes for text in axes.texts]
    assert texts == ["1", "40 → 3", "2", "4 → 1"]
    bars = [patch.get_width() for axes in sheet.axes for patch in axes.patches]
    assert bars == pytest.approx([1, 3 / 40, 4 / 40, 1 / 40]), "all rows share one scale"
    pictures = [axes.images[0].get_array() for axes in sheet.axes if axes.images]
    assert len(pictures) == 4
    assert (torch.from_numpy(pictures[0].copy()) == images[0].permute(1, 2, 0)).all()
    shape = next(axes for axes in sheet.axes if axes.images).get_position().bounds
    wide, tall = sheet.get_size_inches()
    assert shape[2] * wide / (shape[3] * tall) == pytest.approx(64 / 48), "a photograph keeps its shape"
    assert sheet.get_facecolor()[3] == 1
    assert viz.show_clusters([(1, 1, images[:1])]).get_facecolor()[3] == 0


def test_a_tree_counts_from_the_leaves_to_the_root(images: torch.Tensor) -> None:
    square = images[..., :48]
    tree = viz.show_tree([[(30, square[:3]), (10, square[:1])], [(5, square)]], columns=3)
    assert sorted(text.get_text() for text in tree.texts) == ["10", "30", "40", "45", "5", "5"]
    assert sum(len(axes.images) for axes in tree.axes) == 3 + 1 + 3
    assert tree.get_size_inches()[0] == pytest.approx(WIDTH)
    assert DPI * tree.get_size_inches()[1] < 1000
    part = viz.show_tree([[(30, square[:3])], [(5, square)]], sizes=[70, 9], whole=900, columns=3)
    assert sorted(text.get_text() for text in part.texts) == ["30", "5", "70", "9", "900"]


def test_points_in_squares(generator: torch.Generator) -> None:
    points = torch.rand(20, 2, generator=generator)
    picture = viz.plot_points({"a": points, "b": points + 1, "c": points}, limit=2, columns=2)
    assert [axes.get_title() for axes in picture.axes] == ["a", "b", "c"]
    assert [axes.get_xlim() for axes in picture.axes] == [(-2, 2)] * 3
    drawn = torch.from_numpy(picture.axes[1].collections[0].get_offsets().data)
    assert torch.allclose(drawn.float(), points + 1)


def test_bad_pictures(untyped: None, images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="clusters: expected at least one"):
        viz.show_clusters([(3, 0, images[:0])])
    with pytest.raises(ValueError, match="branches: expected at least one"):
        viz.show_tree([[]])
    with pytest.raises(ValueError, match="sizes: expected one a cluster, 1 in all, got 2"):
        viz.show_tree([[(3, images)]], sizes=[3, 4])
    with pytest.raises(ValueError, match="expected counts from 1 to those of the whole, 2, got 3"):
        viz.show_tree([[(3, images)]], sizes=[3], whole=2)
    with pytest.raises(ValueError, match="photographs that stay: expected a whole number from 0 to 3"):
        viz.show_clusters([(3, 4, images)])
    with pytest.raises(ValueError, match="limit above 0"):
        viz.plot_points({"a": torch.zeros(1, 2)}, limit=0)
