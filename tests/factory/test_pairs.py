"""The pool: the same step gives the same pairs, early and late mixtures differ, twins are twins."""

import torch

from gadkit import factory
from gadkit.factory.pairs import PairPool


def test_a_step_gives_the_same_pairs_whatever_came_before() -> None:
    pool = PairPool(seed=3, chunks=4, size=4, every=2, image_size=32)
    pool.draw(0, 3)
    walked = pool.draw(7, 5)
    fresh = PairPool(seed=3, chunks=4, size=4, every=2, image_size=32).draw(7, 5)
    assert torch.equal(walked.sound, fresh.sound)
    assert torch.equal(walked.masks, fresh.masks)
    assert walked.defects == fresh.defects
    other = PairPool(seed=4, chunks=4, size=4, every=2, image_size=32).draw(7, 5)
    assert not torch.equal(walked.sound, other.sound)


def test_pairs_show_their_defect_where_the_mask_says() -> None:
    pairs = PairPool(seed=0, chunks=6, size=6, image_size=64).draw(0, 24)
    changed = (pairs.sound.int() - pairs.defective.int()).abs().amax(1).float()
    assert pairs.masks.flatten(1).any(1).all()
    assert changed[pairs.masks].mean() > 4 * changed[~pairs.masks].mean()
    trained_on = set(factory.split("seen") + factory.split("randomised"))
    assert set(pairs.categories) <= trained_on
    assert all(d in factory.CATEGORIES[c].defects for c, d in zip(pairs.categories, pairs.defects, strict=True))


def test_held_out_and_development_categories_are_never_drawn() -> None:
    pool = PairPool(seed=0, chunks=2, size=1, image_size=16)
    drawn = [name for number in range(60) for name in pool.render(number).categories]
    assert not set(drawn) & set(factory.split("held-out") + factory.split("development"))
    assert 0.35 < sum(name.startswith("random_") for name in drawn) / len(drawn) < 0.75
