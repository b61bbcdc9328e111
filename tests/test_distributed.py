"""Two real processes give the loss and the gradients that one has."""

from pathlib import Path

import pytest
import torch
from torch import nn

from gadkit import distributed
from gadkit.losses import (
    byol_loss,
    clip_loss,
    dino_loss,
    ibot_loss,
    info_nce,
    koleo,
    next_centre,
    nt_xent,
    siglip_loss,
    swav_loss,
)

ROWS, WIDTH = 12, 6


class Network(nn.Module):
    """Two layers, in double precision so that "equal" can mean it, and the scale and bias that pairs are judged by."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, WIDTH)).double()
        self.scale = nn.Parameter(torch.tensor(5.0, dtype=torch.float64))
        self.bias = nn.Parameter(torch.tensor(-3.0, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def zeros() -> torch.Tensor:
    return torch.zeros(WIDTH, dtype=torch.float64)


def patches(a: torch.Tensor, b: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """iBOT's loss with three patches an image, hidden in some images only."""
    student, teacher = torch.stack([a, b, a + b], 1), torch.stack([b, a, a - b], 1)  # (n, 3, w)
    return ibot_loss(teacher, student, hidden, zeros())


LOSSES = {
    "nt_xent": lambda a, b, m, h: nt_xent(a, b, 0.3),
    "info_nce": lambda a, b, m, h: info_nce(a, b.detach(), 0.2) + info_nce(b, a.detach(), 0.2),
    "byol": lambda a, b, m, h: byol_loss(a, b),
    "clip": lambda a, b, m, h: clip_loss(a, b, m.scale),
    "siglip": lambda a, b, m, h: siglip_loss(a, b, m.scale, m.bias),
    "koleo": lambda a, b, m, h: koleo(a) + koleo(b),
    "swav": lambda a, b, m, h: swav_loss([a, b, a + b]),
    "dino": lambda a, b, m, h: dino_loss([a, b], [b, a, a + b], zeros()),
    "ibot": lambda a, b, m, h: patches(a, b, h),
}


def answers(first: int, step: int) -> dict[str, torch.Tensor]:
    """Losses, gradients and a centre from rows first, first + step, ... of a fixed batch, gradients averaged."""
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(2, ROWS, 4, generator=generator, dtype=torch.float64)[:, first::step]
    hidden = torch.rand(ROWS, 3, generator=generator) < 0.5
    hidden[1:8:2] = False  # so the two processes have different numbers of images that count
    hidden = hidden[first::step]
    found = {}
    for name, loss in LOSSES.items():
        model = Network()
        value = loss(model(views[0]), model(views[1]), model, hidden)
        value.backward()
        distributed.average_gradients(model)
        found[name] = distributed.mean(value)
        found |= {f"{name}/{n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
    with torch.no_grad():
        found["centre"] = next_centre(zeros() + 1, [Network()(v) for v in views])
    return found


def main(folder: str) -> None:
    """What each of the processes runs."""
    torch.set_num_threads(1)
    assert distributed.start() is not None
    rows = torch.arange(3.0).view(3, 1) + 10 * distributed.rank()
    assert distributed.world() == 2
    assert distributed.gather(rows).flatten().tolist() == [0, 1, 2, 10, 11, 12]
    torch.save(answers(distributed.rank(), 2), Path(folder) / f"{distributed.rank()}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(two_processes: list[dict[str, torch.Tensor]]) -> None:
    alone = answers(0, 1)
    assert all(f"{name}/layers.0.weight" in alone for name in LOSSES)
    for together in two_processes:
        assert alone.keys() <= together.keys()  # averaging gives unused parameters a gradient of zero
        for name, value in alone.items():
            assert torch.allclose(together[name], value, rtol=1e-9, atol=1e-12), name


def test_alone_nothing_changes() -> None:
    x = torch.randn(3, 2)
    assert distributed.gather(x) is x
    assert (distributed.rank(), distributed.world()) == (0, 1)
    assert torch.equal(distributed.total(x), x)
    layers = Network().layers
    layers(torch.randn(2, 4, dtype=torch.float64)).sum().backward()
    before = [p.grad.clone() for p in layers.parameters()]
    distributed.average_gradients(layers)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, layers.parameters(), strict=True))


@pytest.mark.parametrize("size", ["1", None])
def test_one_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch, size: str | None) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size:
        monkeypatch.setenv("WORLD_SIZE", size)
    assert distributed.start() is None
