"""The factory's own depth, normals, edges and materials: consistent with its photographs, and free."""

import pytest
import torch

from gadkit import factory
from gadkit.factory.geometry import MATERIALS, edges, geometry_of, normals, unlabelled
from gadkit.factory.scene import slopes


@pytest.mark.parametrize("defect", [None, "hole", "missing", "scratch"])
def test_a_survey_photographs_what_render_photographs(defect: str | None) -> None:
    seeds = torch.arange(3)
    order = ("gear", seeds, seeds, defect, 0.7, 64)
    seen, surveyed = factory.render(*order), factory.survey(*order)
    assert torch.equal(seen.images, surveyed.images)
    if defect is None:
        assert torch.equal(seen.cover, surveyed.cover > 0.5)
    assert not surveyed.height.is_inference()  # targets are kept for the backward pass


def test_a_hole_has_no_height_where_its_mask_is() -> None:
    seeds = torch.arange(8)
    order = ("coin", seeds, seeds, "hole", 1.0)
    mask = factory.render(*order).masks
    sound, holed = factory.survey(*order[:3]), factory.survey(*order)
    assert mask.any()
    assert holed.height[mask].mean() < 0.5 * sound.height[mask].mean()


def test_a_survey_refuses_what_render_refuses() -> None:
    with pytest.raises(ValueError, match="defect: expected one of"):
        factory.survey("coin", torch.arange(1), defect="rust")


def test_materials_are_table_outside_the_part_and_its_finish_inside() -> None:
    seeds = torch.arange(4)
    for category, finish in (("bottle", "glossy"), ("gasket", "matt"), ("chip", "satin"), ("felt", "matt")):
        surfaces = factory.survey(category, seeds, seeds)
        materials = geometry_of(surfaces).materials
        assert torch.equal(materials == 0, surfaces.cover <= 0.5)
        assert (materials[materials > 0] == MATERIALS.index(finish)).float().mean() > 0.6


def test_a_plane_has_one_normal_and_no_edges() -> None:
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    height = (0.5 * x * 2 / 64 - 0.25 * y * 2 / 64)[None]  # rises 1 in 2 to the right, falls 1 in 4 downwards
    expected = torch.nn.functional.normalize(torch.tensor([-0.5, 0.25, 1.0]), dim=0)
    inside = normals(height)[0, :, 4:-4, 4:-4]
    assert torch.allclose(inside, expected[:, None, None].expand_as(inside), atol=1e-4)
    assert torch.allclose(normals(height).norm(dim=1), torch.ones(1, 64, 64), atol=1e-5)
    assert not edges(height, torch.ones(1, 64, 64, dtype=torch.uint8))[:, 2:-2, 2:-2].any()


def test_normals_are_those_of_the_slopes_brought_to_length_one() -> None:
    height = torch.rand(2, 32, 32, generator=torch.Generator().manual_seed(0))
    dx, dy = slopes(height)
    upright = torch.stack([-dx, -dy, torch.ones_like(dx)], 1)
    assert torch.allclose(normals(height), torch.nn.functional.normalize(upright, dim=1), atol=1e-6)


def test_steps_and_seams_are_edges() -> None:
    height, materials = torch.zeros(1, 64, 64), torch.ones(1, 64, 64, dtype=torch.uint8)
    height[:, :, 32:], materials[:, 40:] = 0.3, 2
    found = edges(height, materials)[0]
    assert found[:, 31:33].all()
    assert found[40].all()
    assert found.float().mean() < 0.1


def test_the_lamp_shades_by_these_normals() -> None:
    """Where a part looks up-left, to the lamp, it is brighter than where it looks down-right."""
    seeds = torch.arange(16)
    surfaces = factory.survey("plate", seeds, seeds, nuisance=0.15, noise=0.0)
    towards = (normals(surfaces.height)[:, :2] * torch.tensor([-0.5, -0.85])[:, None, None]).sum(1)
    grey, on = surfaces.images.float().mean(1), surfaces.cover > 0.99
    assert grey[on & (towards > 0.15)].mean() > 1.1 * grey[on & (towards < -0.15)].mean()


def test_a_pool_with_geometry_comes_from_its_seed_and_shows_many_kinds() -> None:
    one, same, other = unlabelled(200, 3, 32), unlabelled(200, 3, 32), unlabelled(200, 4, 32)
    assert torch.equal(one.images, same.images)
    assert torch.equal(one.height, same.height)
    assert not torch.equal(one.images, other.images)
    assert len(one.images.unique(dim=0)) == 200
    assert {name: column.shape[1:] for name, column in one.columns().items()} == {
        "images": (3, 32, 32),
        "height": (32, 32),
        "materials": (32, 32),
    }
    assert one.materials.unique().tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(("count", "share"), [(0, 0.25), (10, 1.5)])
def test_a_pool_of_nothing_is_refused(count: int, share: float) -> None:
    with pytest.raises(ValueError, match=r"(count|defective): expected"):
        unlabelled(count, defective=share)
