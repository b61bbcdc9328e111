"""Figures are rendered for real, and their pixels and artists are what is checked."""

import io
from itertools import combinations

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from gadkit import viz
from gadkit.viz.style import DPI, SERIES, STYLE, WIDTH, Picture, look_of

# Machado, Oliveira and Fernandes (2009), severity 1: what the three kinds of dichromats see, in linear RGB
DICHROMATS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: str) -> np.ndarray:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def contrast(a: str, b: str) -> float:
    dark, light = sorted(linear(c) @ [0.2126, 0.7152, 0.0722] for c in (a, b))
    return (light + 0.05) / (dark + 0.05)


def drawn(picture: Picture) -> np.ndarray:
    """What a notebook shows: (h, w, 4), uint8."""
    return np.asarray(Image.open(io.BytesIO(picture._repr_png_())))


@pytest.fixture
def maps() -> torch.Tensor:
    """Maps of four 48 x 64 images: values between 0 and 1, and one hot corner in the first."""
    maps = torch.rand(4, 48, 64, generator=torch.Generator().manual_seed(1))
    maps[0, :12, :16] = 9
    return maps


@pytest.fixture
def scale() -> viz.Scale:
    return viz.Scale(1.0, 5.0)


@pytest.mark.parametrize("page", ["white", "black"])
def test_ink_and_palette_show_on_light_and_dark_pages(page: str) -> None:
    assert contrast(viz.INK, page) >= 4.5
    assert min(contrast(colour, page) for colour in SERIES) >= 3


@pytest.mark.parametrize("eye", DICHROMATS)
def test_the_palette_can_be_told_apart_without_a_cone(eye: str) -> None:
    seen = [np.clip(np.array(DICHROMATS[eye]) @ linear(colour), 0, 1) for colour in SERIES]
    lab = [rgb2lab(np.where(c <= 0.0031308, 12.92 * c, 1.055 * c ** (1 / 2.4) - 0.055)) for c in seen]
    assert min(deltaE_ciede2000(a, b) for a, b in combinations(lab, 2)) > 8


def test_the_anomaly_colours_rise_evenly_in_lightness_and_leave_the_normal_clear() -> None:
    colours = viz.ANOMALY(np.arange(viz.ANOMALY.N))
    steps = np.diff(rgb2lab(colours[None, :, :3])[0, :, 0])
    assert (steps > 0).all()
    assert steps.max() < 2 * steps.mean()
    assert colours[: viz.ANOMALY.N * 2 // 5, 3].max() == 0
    assert colours[viz.ANOMALY.N // 2, 3] < 0.35
    assert colours[-1, 3] == pytest.approx(0.9)


def test_a_picture_is_transparent_and_as_wide_as_the_style_says(images: torch.Tensor) -> None:
    pixels = drawn(viz.plot_bars({"a": 0.9, "b": 0.7}, "image AUROC", start=0.5))
    assert pixels.shape[1] == round(WIDTH * DPI)
    assert pixels[0, 0, 3] == 0
    assert (pixels[..., 3] == 255).any()


def test_drawing_leaves_the_settings_of_the_caller_alone(images: torch.Tensor) -> None:
    before = {name: matplotlib.rcParams[name] for name in STYLE}
    viz.show_images(images)
    assert {name: matplotlib.rcParams[name] for name in STYLE} == before
    with matplotlib.rc_context():
        viz.use_style()
        assert matplotlib.rcParams["text.color"] == STYLE["text.color"] == viz.INK


def test_a_scale_comes_from_normal_maps() -> None:
    values = torch.arange(1001.0).reshape(1, 7, 143)
    assert viz.anomaly_scale(values, quantile=0.9) == viz.Scale(500, 1300)  # median 500, extreme 900
    assert viz.anomaly_scale(values, quantile=0.9, top=1200.0) == viz.Scale(500, 1300)
    far = viz.anomaly_scale(values, quantile=0.9, top=9000.0)
    assert far == viz.Scale(500, 9000, 900)
    levels = far.relative(torch.tensor([[[100.0, 500, 700, 900, 4950, 9000, 17100]]]))
    assert levels.flatten().tolist() == pytest.approx([-0.5, 0, 0.25, 0.5, 0.75, 1, 1.5])


def test_an_overlay_leaves_the_normal_clear_and_paints_the_anomalous(images: torch.Tensor, maps: torch.Tensor) -> None:
    painted = viz.overlay(images, maps, viz.Scale(1.0, 5.0)).int()
    assert painted.shape == images.shape
    spread = painted.amax(1) - painted.amin(1)  # how far a pixel is from grey
    assert spread[maps <= 1].max() == 0
    assert spread[maps > 5].min() > 60
    hotter = viz.overlay(images, maps + 10, viz.Scale(11.0, 15.0))
    assert (hotter.int() - painted).abs().max() <= 1  # only the distance to normal counts


def test_images_are_shown_as_they_are(images: torch.Tensor) -> None:
    picture = viz.show_images(images, ["a", "b", "c", "d"], columns=3)
    assert [axes.get_title() for axes in picture.axes] == ["a", "b", "c", "d"]
    for axes, image in zip(picture.axes, images, strict=True):
        assert np.array_equal(axes.images[0].get_array(), image.permute(1, 2, 0).numpy())
    tops = [axes.get_position().y1 for axes in picture.axes]
    assert tops[3] < tops[0] == tops[1] == tops[2]


def test_images_show_the_outline_of_their_mask(images: torch.Tensor, maps: torch.Tensor) -> None:
    picture = viz.show_images(images[:2], masks=maps[:2] > 5)
    assert [len(axes.collections) for axes in picture.axes] == [2, 0]  # a dark line and a light one, or none


def test_a_contact_sheet_keeps_order_and_gaps(images: torch.Tensor) -> None:
    sheet = np.asarray(viz.contact_sheet(images[:3], columns=2, gap=4).axes[0].images[0].get_array())
    assert sheet.shape == (48 + 4 + 48, 64 + 4 + 64, 4)
    assert np.array_equal(sheet[52:, :64, :3], images[2].permute(1, 2, 0).numpy())
    assert sheet[:, 64:68, 3].max() == sheet[48:52, :, 3].max() == sheet[52:, 68:, 3].max() == 0


def test_detections_outline_only_what_is_there(images: torch.Tensor, maps: torch.Tensor, scale: viz.Scale) -> None:
    masks = maps > 5
    picture = viz.show_detections(images[:2], maps[:2], masks[:2], scale=scale, titles=["hole", "good"])
    defective, good = picture.axes[:3], picture.axes[3:6]
    assert [axes.get_title() for axes in (defective[0], good[0])] == ["hole", "good"]
    assert len(defective[1].collections) == 2  # the dark line and the light one
    assert not good[1].collections
    assert np.array_equal(defective[2].images[0].get_array(), viz.overlay(images, maps, scale)[0].permute(1, 2, 0))
    assert picture.axes[-1].get_xticklabels()[0].get_text() == "as normal parts"
    assert drawn(picture)[..., 3].max() == 255


def test_detections_without_masks_and_in_blocks(images: torch.Tensor, maps: torch.Tensor, scale: viz.Scale) -> None:
    picture = viz.show_detections(images, maps, scale=scale, columns=3)
    assert len(picture.axes) == 4 * 2 + 1
    first, heat, *_, fourth, _, key = [axes.get_position() for axes in picture.axes]
    assert heat.y1 > fourth.y1 > key.y1  # the fourth image begins a second block, and the key is below all
    assert first.y0 - heat.y1 < heat.y0 - fourth.y1  # a photograph stands closer to its map than to the next block


def test_a_comparison_has_a_row_a_detector(images: torch.Tensor, maps: torch.Tensor, scale: viz.Scale) -> None:
    named = {"words": maps, "references": maps.flip(0)}
    picture = viz.show_comparison(images, named, maps > 5, scale=scale, titles=list("abcd"))
    assert [text.get_text() for text in picture.texts] == ["", *named]
    photographs, words, references = picture.axes[:4], picture.axes[4:8], picture.axes[8:12]
    assert [axes.get_title() for axes in (*photographs, words[0])] == [*"abcd", ""]
    assert [len(axes.collections) for axes in (*photographs, *words)] == [2] + [0] * 7
    for row, heat in ((words, maps), (references, maps.flip(0))):
        shown = np.stack([axes.images[0].get_array() for axes in row])
        assert np.array_equal(shown, viz.overlay(images, heat, scale).permute(0, 2, 3, 1))
    assert photographs[0].get_position().y0 > words[0].get_position().y1 > references[0].get_position().y1
    drawn(picture)


def test_maps_relative_to_their_own_scales_look_the_same(images: torch.Tensor, maps: torch.Tensor) -> None:
    own, other = viz.Scale(1.0, 5.0), viz.Scale(10.0, 50.0)
    assert torch.allclose(own.relative(maps), other.relative(maps * 10), atol=1e-6)
    common = viz.overlay(images, own.relative(maps), viz.Scale(0, 1)).int()
    assert (common - viz.overlay(images, maps, own).int()).abs().max() <= 1


def test_windows_are_cut_where_they_are_marked(images: torch.Tensor) -> None:
    picture = viz.show_windows(images[0], (6, 8), [(0, 0, 2, 2), (4, 5, 2, 3)], ["first", "second"])
    whole, first, second = picture.axes
    assert [patch.get_bbox().bounds for patch in whole.patches[1::2]] == [(0, 0, 16, 16), (40, 32, 24, 16)]
    assert np.array_equal(first.images[0].get_array(), images[0, :, :16, :16].permute(1, 2, 0).numpy())
    assert np.array_equal(second.images[0].get_array(), images[0, :, 32:48, 40:64].permute(1, 2, 0).numpy())
    assert drawn(picture).shape[1] == round(WIDTH * DPI)


def test_shots_show_means_and_every_repeat() -> None:
    picture = viz.plot_shots({"ours": [[0.6, 0.8], [0.8, 1.0]], "random": [[0.5], [0.6]]}, [1, 4], reference={"x": 0.5})
    ours, random, _ = picture.axes[0].lines
    assert np.allclose(ours.get_ydata(), [0.7, 0.9])
    assert ours.get_marker() != random.get_marker()
    assert np.allclose(picture.axes[0].collections[0].get_offsets()[:, 1], [0.6, 0.8, 0.8, 1.0])
    assert [label.get_text() for label in picture.axes[0].get_xticklabels()] == ["1", "4"]
    drawn(picture)


def test_shots_that_a_method_cannot_do_are_left_out() -> None:
    nan = float("nan")
    picture = viz.plot_shots({"words": [[0.6, 0.8], [nan, nan]], "parts": [[nan, nan], [0.9, 0.7]]}, [0, 4])
    words, parts = picture.axes[0].lines
    assert np.allclose([words.get_ydata()[0], parts.get_ydata()[0]], [0.7, 0.8])
    assert (len(words.get_ydata()), len(parts.get_ydata())) == (1, 1)
    assert words.get_xdata()[0] < 0.5 < parts.get_xdata()[0]
    for wrong in ([[0.6, nan], [0.5, 0.5]], [[nan], [nan]]):
        with pytest.raises(ValueError, match="expected finite numbers, at least one"):
            viz.plot_shots({"a": wrong}, [0, 4])


def test_bars_start_where_nothing_is_achieved() -> None:
    axes = viz.plot_bars({"a": [0.6, 0.8], "b": 0.55, "c": 0.3}, "AUROC", start=0.5, highlight="a").axes[0]
    assert [round(bar.get_width(), 6) for bar in axes.patches] == [0.2, 0.05, -0.2]
    assert {bar.get_x() for bar in axes.patches} == {0.5}
    assert [text.get_text() for text in axes.texts] == ["0.70", "0.55", "0.30"]
    assert [text.xy[0] for text in axes.texts] == [0.8, 0.55, 0.5]  # never on the bar
    assert axes.patches[0].get_facecolor()[:3] != axes.patches[1].get_facecolor()[:3]


def test_curves_and_scores_take_tensors() -> None:
    x = torch.linspace(0, 1, 30)
    curve = viz.plot_curves({"roc": (x, x.sqrt())}, "false-positive rate", "true-positive rate", diagonal=True)
    assert np.allclose(curve.axes[0].lines[1].get_ydata(), x.sqrt())
    dots = viz.plot_scores({"good": x, "hole": x + 1}, threshold=0.9)
    assert np.allclose(dots.axes[0].collections[1].get_offsets()[:, 0], x + 1)
    assert dots.axes[0].lines[0].get_xdata()[0] == 0.9
    assert drawn(curve).any()
    assert drawn(dots).any()


def test_a_roofline_is_the_lower_of_bandwidth_and_peak() -> None:
    figure = viz.plot_roofline({"sum": (0.1, 1e8), "product": ([10, 40], [5e9, 8e9])}, bandwidth=1e9, peak=1e10)
    axes = figure.axes[0]
    assert np.allclose(axes.lines[1].get_ydata(), [5, 8])
    roof = dict(zip(*axes.lines[-1].get_data(), strict=True))
    assert roof == pytest.approx({0.05: 0.05, 10: 10, 80: 10})
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert drawn(figure).any()


def test_a_table_marks_what_is_clear() -> None:
    values = [[0.5, 0.25], [0.75, float("nan")], [0.5, 1.0]]
    better = [[0, 0], [1, 0], [-0.5, 0]]
    groups = {"": ["random"], "none": [], "learnt": ["simclr", "mae"]}
    figure = viz.plot_table(values, better, groups, ["k-NN", "linear"])
    axes = figure.axes[0]
    above, below = (np.array(patch.get_facecolor()) for patch in axes.patches)  # the two clear cells, and no other
    assert np.allclose(above[:3], [0, 114 / 255, 178 / 255])
    assert below[0] > below[2]
    assert above[3] == below[3] == 1  # opaque, so a dark page shows the same
    texts = [text.get_text() for text in axes.texts]
    assert texts == [
        *("k-NN", "linear", "learnt", "random", ".50", ".25"),
        *("simclr", ".75", "–", "mae", ".50", "1.00"),
    ]
    tops = {text.get_text(): text.get_position()[1] for text in axes.texts}
    assert tops["random"] < tops["learnt"] < tops["simclr"] < tops["mae"]


def bad_calls() -> dict[str, tuple]:
    images = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
    maps, scale = torch.rand(2, 8, 8), viz.Scale(0, 1)
    nan = maps.clone()
    nan[0, 0, 0] = float("nan")
    return {
        "one title": (viz.show_images, (images, ["a"]), {}, "2 in all, got 1"),
        "no images": (viz.contact_sheet, (images[:0],), {}, "at least one image"),
        "no columns": (viz.contact_sheet, (images, 0), {}, "got int 0"),
        "negative columns": (viz.show_images, (images, None, -1), {}, "got int -1"),
        "no columns of detections": (viz.show_detections, (images, maps), {"scale": scale, "columns": 0}, "got int 0"),
        "small map": (
            viz.overlay,
            (images, maps[:, :4], scale),
            {},
            r"beside images .*, got .* shape \(2, 4, 8\)",
        ),
        "NaN": (viz.overlay, (images, nan, scale), {}, "1 NaN"),
        "upside down": (viz.overlay, (images, maps, viz.Scale(1, 0)), {}, "low < middle < high"),
        "no maps": (viz.anomaly_scale, (maps[:0],), {}, "at least one map"),
        "flat maps": (viz.anomaly_scale, (torch.ones(2, 8, 8),), {}, "got 1 everywhere"),
        "quantile": (viz.anomaly_scale, (maps, 0.3), {}, "got 0.3"),
        "no maps to compare": (viz.show_comparison, (images, {}), {"scale": scale}, "got none"),
        "mask": (viz.show_detections, (images, maps, torch.zeros(1, 8, 8).bool()), {"scale": scale}, "masks"),
        "outside": (viz.show_windows, (images[0], (4, 4), [(3, 3, 2, 2)]), {}, "inside a grid"),
        "no window": (viz.show_windows, (images[0], (4, 4), []), {}, "at least one window"),
        "shots": (viz.plot_shots, ({"a": [[1.0]]}, [1, 2]), {}, r"expected shape \(2, repeats\)"),
        "infinite": (viz.plot_scores, ({"a": [np.inf]},), {}, "finite"),
        "highlight": (viz.plot_bars, ({"a": 1.0}, "x"), {"highlight": "b"}, "got 'b'"),
        "roofline": (viz.plot_roofline, ({"a": (0, 1)}, 1, 1), {}, "above 0"),
        "peak": (viz.plot_roofline, ({"a": (1, 1)}, 1, 0), {}, "peak: expected"),
        "table": (viz.plot_table, ([[1.0]], [[0.0]], {"": ["a"]}, ["x", "y"]), {}, r"expected shape \(1, 2\)"),
        "colour": (viz.plot_table, ([[1.0]], [[2.0]], {"": ["a"]}, ["x"]), {}, "from -1 to 1, got 2"),
        "curve": (viz.plot_curves, ({"a": ([0, 1], [0])}, "x", "y"), {}, "one shape"),
    }


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("case", bad_calls())
def test_bad_input_is_named(case: str) -> None:
    function, args, kwargs, message = bad_calls()[case]
    with pytest.raises(ValueError, match=message):
        function(*args, **kwargs)


def test_rows_of_different_shapes_keep_their_columns(images: torch.Tensor) -> None:
    figure = viz.show_rows(
        {"photographs": images, "halves": images[:, :, :4]}, titles=[str(i) for i in range(len(images))]
    )
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 2 * len(images)
    upper, lower = panels[: len(images)], panels[len(images) :]
    for a, b in zip(upper, lower, strict=True):
        assert a.get_position().x0 == pytest.approx(b.get_position().x0)
        assert a.get_position().y0 > b.get_position().y1
    assert [text.get_text() for text in figure.texts] == ["photographs", "halves"]
    with pytest.raises(ValueError, match="equal length"):
        viz.show_rows({"three": images, "one": images[:1]})


def test_fields_share_one_scale(maps: torch.Tensor) -> None:
    figure = viz.show_fields(maps, label="depth")
    drawn = [axes.images[0] for axes in figure.axes if axes.images and axes.images[0].get_array().ndim == 2][
        : len(maps)
    ]
    assert len(drawn) == len(maps)
    assert all(image.get_clim() == pytest.approx((maps.min().item(), maps.max().item())) for image in drawn)
    with pytest.raises(ValueError, match="low < high"):
        viz.show_fields(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="at least one"):
        viz.show_fields(maps[:0])


def test_numbers_become_bytes() -> None:
    x = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 0.25]).view(2, 3, 1, 1)
    assert viz.as_images(x).flatten().tolist() == [0, 0, 128, 255, 255, 64]


def test_fields_stand_beside_photographs_in_the_same_colours() -> None:
    fields = torch.stack([torch.tensor([[0.0, 1.0], [2.0, 4.0]]), torch.full((2, 2), 3.0)])
    own = viz.colour_fields(fields)
    assert own.shape == (2, 3, 2, 2)
    low, high = (torch.tensor(matplotlib.colormaps["cividis"](end, bytes=True)[:3]) for end in (0.0, 1.0))
    assert own[0, :, 0, 0].tolist() == low.tolist()
    assert own[0, :, 1, 1].tolist() == high.tolist()
    assert torch.equal(own[1, :, 0, 0], low), "a constant field has nothing to show, and no scale to fail on"
    shared = viz.colour_fields(fields, limits=(0.0, 3.0))
    for end in (shared[0, :, 1, 1], shared[1, :, 0, 0]):  # beyond the end is the end
        assert end.tolist() == high.tolist()
    with pytest.raises(ValueError, match="limits"):
        viz.colour_fields(fields, limits=(1.0, 1.0))


def test_a_scatter_parts_its_labels() -> None:
    points = {f"method {i}": (0.5 + 0.01 * i, 0.7) for i in range(6)}
    figure = viz.plot_scatter(points, "k-NN", "image AUROC", highlight=["method 0"])
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == len(points)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    with pytest.raises(ValueError, match="got missing"):
        viz.plot_scatter(points, "x", "y", highlight=["missing"])
    slow = viz.plot_scatter({"a": (1.0, 0.5), "b": (1000.0, 0.6)}, "ms", "AUROC", logarithmic=True)
    ticks = [label.get_text() for label in slow.axes[0].get_xticklabels()]
    assert ticks == ["0.5", "1", "2", "5", "10", "20", "50", "100", "200", "500", "1000", "2000"]
    assert (slow.axes[0].get_xscale(), figure.axes[0].get_xscale()) == ("log", "linear")
    with pytest.raises(ValueError, match=r"points\['b'\]: expected a value above 0 on a logarithmic axis, got 0.0"):
        viz.plot_scatter({"a": (1.0, 0.5), "b": (0.0, 0.6)}, "ms", "AUROC", logarithmic=True)


def test_no_two_of_many_series_look_alike() -> None:
    looks = [tuple(look_of(index).values()) for index in range(20)]
    assert len(set(looks)) == 20
    x = np.arange(3.0)
    figure = viz.plot_curves({str(i): (x, x + i) for i in range(8)}, "x", "y")
    drawn = [(line.get_color(), line.get_marker(), line.get_linestyle()) for line in figure.axes[0].lines]
    assert drawn == looks[:8]
