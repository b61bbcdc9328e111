"""Defects planted on photographs."""

import pytest
import torch
from skimage import data as photographs

from gadkit.data.planted import PLANTED, SURFACES, plant, planted_set


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("tiles", "good", "bad"), [(4, 6, 6), (5, 12, 9), (8, 30, 30)])
def test_nothing_changes_but_what_the_mask_says(surface: str, tiles: int, good: int, bad: int) -> None:
    data, side = planted_set(surface, tiles), 512 // tiles
    assert data.references.shape == (4, 3, side, side)
    assert data.images.shape == (good + bad, 3, side, side)
    assert data.defects == ("good",) * good + PLANTED * (bad // 3)
    assert torch.equal(data.masks.flatten(1).any(1), data.labels)
    photo = torch.from_numpy(getattr(photographs, surface)())
    cut = photo.unfold(0, side, side).unfold(1, side, side).reshape(-1, side, side)
    places = []
    for image, mask in zip(
        [*data.references, *data.images], [*torch.zeros(4, side, side).bool(), *data.masks], strict=True
    ):
        assert torch.equal(image, image[:1].expand(3, -1, -1))  # grey
        same = ((cut == image[0]) | mask).flatten(1).all(1)  # the tile outside the mask
        assert same.sum() == 1
        places.append(int(same.nonzero()))
        assert not (cut[places[-1]] == image[0])[mask].all() or not mask.any()
    assert sorted(places) == [*range(tiles**2)]  # every tile once: no reference is tested


def test_a_scratch_is_pale_a_stain_darker_and_a_hole_black() -> None:
    tile = torch.full((100, 100), 100, dtype=torch.uint8)
    tones = {"scratch": 185, "stain": 60, "hole": 10}
    shares = {}
    for kind, tone in tones.items():
        painted, mask = plant(tile, kind, 3)
        assert painted[mask].unique().tolist() == [tone]
        assert painted[~mask].unique().tolist() == [100]
        shares[kind] = mask.float().mean().item()
    assert shares["hole"] == pytest.approx(3.1416 * 0.1**2, abs=0.002)
    assert shares["stain"] == pytest.approx(3.1416 * 0.2 * 0.2 / 1.6, abs=0.003)
    assert shares["scratch"] == pytest.approx(0.6 * 0.03, abs=0.005)
    assert not torch.equal(plant(tile, "hole", 0)[1], plant(tile, "hole", 1)[1])
    assert all(torch.equal(*pair) for pair in zip(plant(tile, "hole", 2), plant(tile, "hole", 2), strict=True))


def test_what_cannot_be_planted_is_refused() -> None:
    with pytest.raises(ValueError, match="surface: expected one of brick, grass, gravel"):
        planted_set("coins")
    with pytest.raises(ValueError, match="kind: expected one of scratch, stain, hole"):
        plant(torch.zeros(8, 8, dtype=torch.uint8), "rust", 0)
    for tiles in (3, 17):
        with pytest.raises(ValueError, match="tiles"):
            planted_set("brick", tiles)
