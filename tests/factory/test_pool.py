"""The unlabelled pool: what is in it, in what order, from which seeds."""

import pytest
import torch

from gadkit import factory
from gadkit.factory.pool import MADE_UP, RANDOMISED, Pool, pool, unlabelled
from gadkit.factory.seeds import FIRST_POOL, FIRST_TEST, POOL_SIZE, POOLS

COUNTS = {"coin": 30, "felt": 10, "gear": 40}


@pytest.fixture(scope="module")
def drawn() -> Pool:
    """Eighty photographs of three categories."""
    return pool(COUNTS, size=32)


def test_a_seed_gives_the_same_photographs_and_another_seed_others() -> None:
    one, same, other = (pool({"coin": 12, "gear": 12}, seed, 32) for seed in (3, 3, 4))
    assert torch.equal(one.images, same.images)
    assert torch.equal(one.labels, same.labels)
    assert torch.equal(one.defects, same.defects)
    together = torch.cat([one.images, other.images])
    assert len(together.unique(dim=0)) == 48  # nothing twice, within a pool or between two


def test_it_holds_what_was_ordered_and_says_which_is_which(drawn: Pool) -> None:
    assert drawn.images.shape == (80, 3, 32, 32)
    assert drawn.classes == tuple(COUNTS)
    assert drawn.labels.bincount().tolist() == list(COUNTS.values())
    kinds = sorted({d for c in factory.CATEGORIES.values() for d in c.defects})
    for number, (category, count) in enumerate(COUNTS.items()):
        found = drawn.defects[drawn.labels == number]
        assert int((found >= 0).sum()) == round(count / 4)
        assert {kinds[d] for d in found[found >= 0]} <= set(factory.CATEGORIES[category].defects)


@pytest.mark.parametrize("defective", [0.0, 1.0])
def test_all_or_none_may_be_defective(defective: float) -> None:
    drawn = pool({"coin": 12}, size=32, defective=defective)
    assert (drawn.defects >= 0).float().mean() == defective


def test_labels_follow_their_photographs(drawn: Pool) -> None:
    """The sound coins of a pool are the factory's own photographs of its first products."""
    seeds = FIRST_POOL + torch.arange(30 - round(30 / 4))
    expected = factory.render("coin", seeds, seeds, size=32).images
    coins = drawn.images[(drawn.labels == 0) & (drawn.defects < 0)]
    assert sorted(map(bytes, coins.flatten(1).numpy())) == sorted(map(bytes, expected.flatten(1).numpy()))


def test_the_order_is_mixed(drawn: Pool) -> None:
    assert len(drawn.labels[:20].unique()) == 3
    assert (drawn.labels.diff() != 0).sum() > 25  # 3 blocks would change twice
    assert 0 < (drawn.defects[:40] >= 0).sum() < (drawn.defects >= 0).sum()


def test_the_seeds_of_every_pool_stay_below_those_of_any_test() -> None:
    assert FIRST_POOL + POOLS * POOL_SIZE <= FIRST_TEST


def test_the_standard_pool_shows_seen_categories_and_parts_that_do_not_exist() -> None:
    drawn = unlabelled(135, size=32)
    seen = factory.split("seen")
    assert drawn.classes == (*seen, *RANDOMISED)
    assert len(seen) == 27
    assert not set(drawn.classes) & {*factory.split("held-out"), *factory.split("development")}
    count = drawn.labels.bincount(minlength=30)
    assert count.sum() == 135
    assert count[:27].tolist() == [3] * 27  # equal parts
    assert count[27:].tolist() == [18] * 3
    assert count[27:].sum() == round(MADE_UP * 135)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"counts": {}}, "counts: expected some photographs"),
        ({"counts": {"coin": 0}}, "counts: expected some photographs"),
        ({"counts": {"coin": -1, "gear": 3}}, "counts: expected some photographs"),
        ({"counts": {"coin": 4}, "defective": 1.5}, r"defective: expected a share in \[0, 1\], got float 1.5"),
        ({"counts": {"coin": 4}, "seed": 1 << 12}, "seed: expected a whole number from 0 to 4095, got int 4096"),
        ({"counts": {"unicorn": 4}}, "category: expected one of .*, got 'unicorn'"),
        ({"counts": {"coin": 4}, "size": 8}, "size: expected a whole number from 16 to 2048, got int 8"),
    ],
)
def test_bad_orders_are_refused(order: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pool(**order)


def test_no_pool_of_nothing() -> None:
    with pytest.raises(ValueError, match="count: expected a whole number from 1 to 16777216, got int 0"):
        unlabelled(0)
