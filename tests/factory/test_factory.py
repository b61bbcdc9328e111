"""The factory: the same seed gives the same pixels, masks are exact, every category can show every defect it claims."""

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gadkit import factory
from gadkit.factory.captions import BY_DEFECT, TEMPLATES, agrees, caption
from gadkit.factory.draw import Draw
from gadkit.factory.scene import Scene, hsv
from gadkit.factory.shapes import bevel, box, disc, polar, polygon, repeat, ring, wedge

ALL = sorted(factory.CATEGORIES)
SEEDS = torch.arange(3)


def test_there_are_enough_categories_and_no_split_overlaps() -> None:
    named = [c for c in factory.CATEGORIES.values() if c.split != "randomised"]
    assert sum(c.kind == "object" for c in named) >= 20
    assert sum(c.kind == "texture" for c in named) >= 13
    assert len(factory.split("seen")) >= 20
    assert len(factory.split("development")) >= 5
    held = [factory.CATEGORIES[name].kind for name in factory.split("held-out")]
    assert len(held) >= 8
    assert set(held) == {"object", "texture"}
    assert len({d for c in named for d in c.defects}) >= 10
    nouns = [noun for c in named for noun in c.nouns]
    assert len(nouns) == len(set(nouns))  # no word of a held-out category was learnt with another


@pytest.mark.parametrize("name", ALL)
def test_an_image_does_not_depend_on_its_batch_and_products_differ(name: str) -> None:
    batch = factory.render(name, SEEDS, SEEDS, size=48)
    alone = factory.render(name, SEEDS[1:2], SEEDS[1:2], size=48)
    assert (batch.images[1:2].int() - alone.images.int()).abs().max() <= 1  # rounding of vectorised arithmetic
    assert batch.images.shape == (3, 3, 48, 48)
    assert batch.images.float().std() > 8
    assert (batch.images[0] != batch.images[1]).any()
    assert not batch.masks.any()


@pytest.mark.parametrize("name", ALL)
def test_every_defect_of_a_category_shows_in_its_mask_and_nowhere_else(name: str) -> None:
    for defect in factory.CATEGORIES[name].defects:
        shots = factory.render(name, torch.arange(6), torch.arange(6) + 1, defect, 0.5, size=64, noise=0.0)
        shown = shots.masks.flatten(1).float().mean(1)
        assert (shown > 0.001).sum() >= 3, f"{defect}: mask shares {shown}"
        assert shown.max() < 0.75, f"{defect}: mask shares {shown}"
        change = (shots.images.int() - shots.twins.int()).abs().amax(1).float()
        inside, outside = change[shots.masks].mean(), change[~shots.masks].mean()
        assert inside > 4 * outside, f"{defect}: pixels change by {inside:.1f} in the mask, {outside:.1f} outside"


def test_severity_makes_defects_larger() -> None:
    for defect in ("scratch", "crack", "hole", "stain", "contamination", "discolouration", "broken"):
        slight, severe = (
            factory.render("gear", torch.arange(16), 3, defect, s).masks.float().mean() for s in (0.05, 0.95)
        )
        assert severe > 1.15 * slight, defect


def test_a_fixture_moves_parts_less_than_free_photographs() -> None:
    spread = [
        factory.render("gear", torch.arange(12), 5, nuisance=n, noise=0.0).images.float().std(0).mean()
        for n in (0.0, 0.15, 1.0)
    ]
    assert spread[0] < 1e-3
    assert spread[1] < 0.6 * spread[2]


def test_two_devices_draw_the_same_scene() -> None:
    other = "cuda" if torch.cuda.is_available() else None
    if other is None:
        pytest.skip("one device only")
    here, there = (factory.render("gear", SEEDS.to(d), 1, "crack") for d in ("cpu", other))
    assert (here.images.int() - there.images.cpu().int()).abs().max() <= 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"category": "spoon"}, "category: expected one of"),
        ({"defect": "rust"}, "defect: expected one of"),
        ({"size": 4}, "size: expected a whole number from 16 to 2048"),
        ({"nuisance": 2.0}, "nuisance: expected"),
        ({"severity": 1.5}, "severity: expected"),
        ({"severity": float("nan")}, "severity: expected"),
        ({"seeds": torch.arange(0)}, "seeds: expected"),
    ],
)
def test_bad_input_is_named(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        factory.render(**({"category": "gear", "seeds": SEEDS} | wrong))


def test_test_sets_are_fixed_and_disjoint() -> None:
    first, again = (factory.test_set("gear", 0, 0, normal=4, per_defect=1, size=48) for _ in range(2))
    assert torch.equal(first.images, again.images)
    other = factory.test_set("gear", 0, 1, normal=4, per_defect=1, size=48)
    assert not torch.equal(first.images, other.images)
    assert first.labels.tolist() == [d != "good" for d in first.defects]
    assert set(first.defects) == {"good", *factory.CATEGORIES["gear"].defects}
    assert (first.masks.flatten(1).any(1) == first.labels).all()
    with pytest.raises(ValueError, match="regime: expected one of loose, fixture"):
        factory.test_set("gear", regime="tight")


def test_draws_are_uniform_and_independent_of_each_other() -> None:
    draw = Draw(torch.arange(20000))
    a, b = draw.uniform("a").flatten(), draw.uniform("b").flatten()
    assert abs(float(a.mean()) - 0.5) < 0.01
    assert abs(float(a.std()) - 12**-0.5) < 0.01
    assert abs(float(torch.corrcoef(torch.stack([a, b]))[0, 1])) < 0.03
    assert draw.integer("n", 2, 5).unique().tolist() == [2, 3, 4, 5]
    grains = draw.gaussian("g", 3)
    assert abs(float(grains.mean())) < 0.05
    assert abs(float(grains.std()) - 1) < 0.05
    lattice = Draw(torch.arange(4)).lattice("l", 40, 50)
    assert lattice.abs().max() <= 1
    assert abs(float(lattice.mean())) < 0.03


@given(st.integers(3, 9), st.floats(-0.9, 0.9), st.floats(-0.9, 0.9))
def test_distances_have_the_right_sign_and_symmetry(sides: int, x: float, y: float) -> None:
    px, py = torch.full((1, 1, 1), x), torch.full((1, 1, 1), y)
    r = (x * x + y * y) ** 0.5
    assert disc(px, py, 0.5).item() == pytest.approx(r - 0.5, abs=1e-4)
    assert (ring(px, py, 0.3, 0.6).item() <= 1e-4) == (0.3 - 1e-4 <= r <= 0.6 + 1e-4) or abs(r - 0.3) < 1e-3
    assert (box(px, py, 0.5, 0.4).item() < 0) == (abs(x) < 0.5 and abs(y) < 0.4) or abs(abs(x) - 0.5) < 1e-3
    turned = polar(px, py, float(sides))
    assert (turned[0] ** 2 + turned[1] ** 2).sqrt().item() == pytest.approx(r, abs=1e-3)
    assert polygon(px, py, float(sides), 0.5).item() <= r - 0.5 + 1e-4  # the polygon holds its inscribed disc
    assert abs(repeat(px, 0.25).item()) <= 0.1251
    assert wedge(px, 0.0, 0.5).item() == pytest.approx(abs(x) - 0.5, abs=1e-5)
    assert 0 <= bevel(px, 0.3).item() <= 1.001


def test_hsv_matches_the_standard_library() -> None:
    import colorsys

    for h, s, v in torch.rand(50, 3).tolist():
        ours = hsv(*(torch.full((1, 1, 1), t) for t in (h, s, v)))
        assert ours.flatten().tolist() == pytest.approx(colorsys.hsv_to_rgb(h, s, v), abs=1e-5)


def test_a_scene_without_a_fault_keeps_its_pieces() -> None:
    scene = Scene(SEEDS, SEEDS, 32)
    x, y = scene.pose()
    u, v, keep = scene.removable(x, y, 0.25, -0.5)
    assert torch.equal(u, x - 0.25)
    assert torch.equal(v, y + 0.5)
    assert keep.eq(1).all()


@pytest.mark.parametrize("name", ALL)
def test_captions_are_true_of_their_photographs_only(name: str) -> None:
    rng = random.Random(0)
    for defect in (None, *factory.CATEGORIES[name].defects):
        claim = caption(name, defect, rng)
        assert agrees(claim, name, defect)
        assert not agrees(claim, name, "scratch" if defect is None else None)
        if claim.category:
            assert not agrees(claim, "gear" if name != "gear" else "washer", defect)
    assert set(BY_DEFECT) >= {d for c in factory.CATEGORIES.values() for d in c.defects}
    assert all(t.count("{}") == 1 for t in TEMPLATES)


def test_export_writes_mvtec_layout_whole_and_keeps_what_is_there(tmp_path) -> None:
    count = factory.export(tmp_path, ("gear",), per_class=3, size=48)
    files = sorted(str(p.relative_to(tmp_path / "gear")) for p in tmp_path.rglob("*.png"))
    assert sum(f.startswith("train/good/") for f in files) == 3
    assert sum(f.startswith("test/good/") for f in files) == 3
    masks = [f for f in files if f.startswith("ground_truth/")]
    assert len(files) - len(masks) == count
    assert all(f"test/{m.split('/')[1]}/{m.split('/')[2].replace('_mask', '')}" in files for m in masks)
    assert factory.export(tmp_path, ("gear",), per_class=3, size=48) == count, "what is there is the same request's"
    with pytest.raises(ValueError, match=r"expected size 48, as .* was begun with, got size 32"):
        factory.export(tmp_path, ("washer", "gear"), per_class=3, size=32)
    (tmp_path / "washer").mkdir()
    with pytest.raises(ValueError, match="exists; nothing was written"):
        factory.export(tmp_path, ("washer", "gear"), per_class=3, size=48)
    assert not [*(tmp_path / "washer").iterdir()]


def test_export_reads_back_through_the_folder_reader(tmp_path) -> None:
    from gadkit.data.folders import ImageFolder

    factory.export(tmp_path, ("gear",), per_class=3, size=48)
    photos = list(ImageFolder(tmp_path, split="test"))
    assert {p.defect for p in photos} == {"good", *factory.CATEGORIES["gear"].defects}
    for photo in photos:
        assert photo.image.shape == (3, 48, 48)
        assert bool(photo.mask.any()) == bool(photo.label)


def test_defaults_of_the_renderer_are_the_first_product_at_half_severity_free_pose_and_some_noise() -> None:
    seeds = torch.arange(3)
    plain = factory.render("gear", seeds)
    claim = factory.render("gear", seeds, 0, None, 0.5, 96, 1.0, 0.02)
    assert plain.images.shape == (3, 3, 96, 96)
    assert torch.equal(plain.images, claim.images)
    broken = factory.render("gear", seeds, defect="scratch", size=32)
    assert torch.equal(broken.images, factory.render("gear", seeds, 0, "scratch", 0.5, 32, 1.0, 0.02).images)
    for other in ({"variants": 1}, {"severity": 0.6}, {"nuisance": 0.9}, {"noise": 0.03}):
        assert not torch.equal(broken.images, factory.render("gear", seeds, defect="scratch", size=32, **other).images)


def test_defaults_of_a_test_set() -> None:
    data = factory.test_set("felt", size=16)
    kinds = len(factory.CATEGORIES["felt"].defects)
    assert len(data.references) == 4
    assert sum(name == "good" for name in data.defects) == 20
    assert len(data.images) <= 20 + 3 * kinds
    assert max(sum(name == kind for name in data.defects) for kind in factory.CATEGORIES["felt"].defects) == 3
    assert torch.equal(data.images, factory.test_set("felt", 0, 0, "loose", 20, 3, 4, 16).images)
    for other in ({"variant": 1}, {"seed": 1}, {"regime": "fixture"}):
        assert not torch.equal(data.references, factory.test_set("felt", size=16, **other).references)


def test_defaults_of_captions_are_a_fifth_generic_a_fifth_invented_and_half_vague() -> None:
    ours, claim = random.Random(0), random.Random(0)
    for _ in range(50):
        assert factory.caption("gear", "scratch", ours) == factory.caption("gear", "scratch", claim, 0.2, 0.2, 0.5)
