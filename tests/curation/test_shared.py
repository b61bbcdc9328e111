"""Two real processes, with unequal shares of the rows, grow the tree that one grows and choose the same rows."""

from pathlib import Path

import torch

from gadkit import distributed
from gadkit.curation import everybody, hierarchical_kmeans, nearest_members, sample
from gadkit.curation.shared import join, least, offset, part

ROWS, FIRST = 240, 130  # the first process has 130 of them, the other 110


def rows() -> torch.Tensor:
    """A long-tailed mixture."""
    draw = torch.Generator().manual_seed(5)
    labels = torch.multinomial(torch.tensor([0.7, 0.2, 0.05, 0.05]), ROWS, replacement=True, generator=draw)
    return torch.randn(4, 6, generator=draw)[labels] + 0.3 * torch.randn(ROWS, 6, generator=draw)


def answers(x: torch.Tensor, shared: bool) -> dict[str, torch.Tensor]:
    """A tree, and rows by every choice, from one's own rows."""
    draw = torch.Generator().manual_seed(7)
    tree = hierarchical_kmeans(x, [30, 8, 3], rounds=3, generator=draw, shared=shared)
    found = {f"centres {level}": c for level, c in enumerate(tree.centres)}
    found |= {f"sizes {level}": s for level, s in enumerate(tree.sizes)}
    found |= {f"cluster {level}": everybody(tree, level) for level in range(3)}
    for choice in ("random", "closest", "furthest"):
        found[choice] = sample(tree, 50, choice, x, draw, shared)
    found["nearest"] = nearest_members(x, tree.centres[0], 2, shared)
    return found


def main(folder: str) -> None:
    """What each of the processes runs."""
    torch.set_num_threads(1)
    assert distributed.start() is not None
    own = rows()[:FIRST] if distributed.rank() == 0 else rows()[FIRST:]
    assert torch.equal(join(own, shared=True), rows())
    assert offset(len(own), own.device, shared=True) == (FIRST * distributed.rank(), ROWS)
    assert torch.equal(join(part(rows(), shared=True), shared=True), rows())
    torch.save(answers(own, True), Path(folder) / f"{distributed.rank()}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(two_processes: list[dict[str, torch.Tensor]]) -> None:
    alone = answers(rows(), False)
    for together in two_processes:
        assert alone.keys() == together.keys()
        for name, value in alone.items():
            if value.is_floating_point():  # sums in double precision, rounded to single
                assert torch.allclose(together[name], value, rtol=0, atol=1e-6), name
            else:
                assert torch.equal(together[name], value), name


def test_the_least_of_every_group(generator: torch.Generator) -> None:
    keys, groups = torch.randint(5, (60,), generator=generator).double(), torch.randint(4, (60,), generator=generator)
    quotas = torch.tensor([3, 0, 100, 1])
    expected = []
    for group, quota in enumerate(quotas.tolist()):
        inside = [i for i in range(60) if groups[i] == group]
        expected += sorted(inside, key=lambda i: (keys[i], i))[:quota]
    assert least(keys, groups, quotas).tolist() == expected
    assert least(keys[:0], groups[:0], quotas).tolist() == []
