"""Faults of the whole: beyond what sound photographs show, everywhere, and beside the eleven kinds, not among them."""

import pytest
import torch
from torch import Tensor

from gadkit import factory
from gadkit.factory.everywhere import _blurred
from gadkit.factory.sets import GRADES

PINNED = {  # mean of the images and of the masks, measured before there were faults of the whole
    ("gear", "loose"): (142.896, 0.0195),
    ("gear", "fixture"): (140.553, 0.01917),
    ("mesh", "loose"): (114.065, 0.02841),
    ("mesh", "fixture"): (114.674, 0.02825),
    ("capsule", "loose"): (83.411, 0.01964),
    ("capsule", "fixture"): (85.766, 0.0196),
}
TEXTURES = [name for name, c in factory.CATEGORIES.items() if c.kind == "texture"]


@pytest.mark.parametrize(("name", "regime"), PINNED)
def test_the_local_kinds_draw_what_they_always_drew(name: str, regime: str) -> None:
    data = factory.test_set(name, 1, 2, regime, 3, 1, 2, 48)
    found = data.images.double().mean().item(), data.masks.double().mean().item()
    assert found == pytest.approx(PINNED[name, regime], abs=2e-3)
    assert not set(data.defects) & set(factory.GLOBAL)


@pytest.mark.parametrize("name", ["gear", "cookie", "mesh", "weave", "random_texture"])
def test_a_global_set_has_the_same_sound_photographs_and_masks_of_the_whole(name: str) -> None:
    both = [factory.test_set(name, 0, 1, "loose", 3, 3, 2, 32, defects) for defects in ("local", "global")]
    assert torch.equal(both[0].references, both[1].references)
    assert torch.equal(both[0].images[:3], both[1].images[:3])
    kinds = factory.CATEGORIES[name].everywhere
    assert both[1].defects == ("good",) * 3 + tuple(kind for kind in kinds for _ in GRADES)
    assert ("scale" in kinds) == (name in TEXTURES)
    for kind in kinds:
        seeds = torch.arange(4)
        shots = factory.render(name, seeds, 3, kind, 0.15, 32)
        whole = torch.ones_like(shots.cover) if kind in ("cast", "blur") else shots.cover
        assert torch.equal(shots.masks, whole)
        assert torch.equal(shots.twins, factory.render(name, seeds, 3, size=32).images)
        assert (shots.images != shots.twins).flatten(1).any(1).all()


def _chroma(images: Tensor) -> Tensor:
    """Red and blue beside green, of each image as a whole, in logarithms."""
    mean = images.double().mean((2, 3)).log()
    return torch.stack([mean[:, 0] - mean[:, 1], mean[:, 2] - mean[:, 1]], 1)


@pytest.mark.parametrize("regime", factory.NUISANCE)
def test_a_slight_cast_is_more_than_the_light_of_the_regime_varies(regime: str) -> None:
    for name in ("gear", "felt"):
        shots = factory.render(name, torch.arange(40), 2, "cast", 0.15, 32, factory.NUISANCE[regime], 0.0)
        shift = (_chroma(shots.images) - _chroma(shots.twins)).norm(dim=1)
        assert shift.min() > 0.1 > 2 * 0.04, "the white balance of sound photographs varies by 4 % either way"


def test_severity_is_how_far_a_fault_goes() -> None:
    for kind in ("material", "cast", "blur"):  # of another scale, every pixel differs at once
        slight, severe = (factory.render("weave", torch.arange(24), 3, kind, s, 48, noise=0.0) for s in (0.15, 0.85))
        change = [(s.images.double() - s.twins.double()).abs().mean().item() for s in (slight, severe)]
        assert change[1] > 1.1 * change[0], kind


@pytest.mark.parametrize("name", ["mesh", "wood", "random_texture"])
def test_a_wrong_scale_is_outside_the_zoom_of_sound_pieces(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from gadkit.factory import scene

    zooms, pose = [], scene.Scene.pose

    def spy(self, *arguments, **options):
        result = pose(self, *arguments, **options)
        zooms.append((self.pixel / self.softness).flatten())
        return result

    monkeypatch.setattr(scene.Scene, "pose", spy)
    factory.render(name, torch.arange(60), 1, "scale", 0.15, 16)
    sound, faulty = zooms
    assert ((faulty > 1.1 * sound.max()) | (faulty < sound.min() / 1.1)).all()
    assert (faulty > 1.1 * sound.max()).any()
    assert (faulty < sound.min() / 1.1).any()


def test_the_blur_is_scipys() -> None:
    from scipy.ndimage import gaussian_filter

    image = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.4, 0.6, 0.88])
    for ours, x, s in zip(_blurred(image, sigma), image, sigma.tolist(), strict=True):
        for channel, expected in zip(ours, x, strict=True):
            theirs = torch.from_numpy(gaussian_filter(expected.double().numpy(), s, mode="nearest", radius=3))
            torch.testing.assert_close(channel.double(), theirs, atol=1e-6, rtol=0)


def test_the_surface_of_a_wrong_material_is_measured_too() -> None:
    seeds = torch.arange(3)
    for kind in factory.CATEGORIES["felt"].everywhere:
        shots, found = factory.render("felt", seeds, 1, kind, size=32), factory.survey("felt", seeds, 1, kind, size=32)
        assert torch.equal(shots.images, found.images)
    sound, other = (factory.survey("gear", seeds, 1, kind, size=32) for kind in (None, "material"))
    assert (sound.gloss - other.gloss).abs().amax((1, 2)).min() > 0.01
    assert torch.equal(sound.cover, other.cover)


def test_what_has_no_global_fault() -> None:
    with pytest.raises(ValueError, match="defect: expected one of"):
        factory.render("gear", torch.arange(2), defect="scale")
    with pytest.raises(ValueError, match="defects: expected one of local, global, got 'all'"):
        factory.test_set("gear", defects="all")
