"""Two real processes give the loss and the gradients that one has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from gadkit import distributed
from gadkit.losses import byol_loss, clip_loss, dino_loss, info_nce, koleo, next_centre, nt_xent, siglip_loss, swav_loss

ROWS, WIDTH = 12, 6


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, WIDTH))


LOSSES = {
    "nt_xent": lambda a, b: nt_xent(a, b, 0.3),
    "info_nce": lambda a, b: info_nce(a, b.detach(), 0.2) + info_nce(b, a.detach(), 0.2),
    "byol": lambda a, b: byol_loss(a, b),
    "clip": lambda a, b: clip_loss(a, b, 5.0),
    "siglip": lambda a, b: siglip_loss(a, b, 5.0, -3.0),
    "koleo": lambda a, b: koleo(a) + koleo(b),
    "swav": lambda a, b: swav_loss([a, b, a + b]),
    "dino": lambda a, b: dino_loss([a, b], [b, a, a + b], torch.zeros(WIDTH)),
}


def answers(first: int, step: int) -> dict[str, torch.Tensor]:
    """Losses, gradients and a centre from rows first, first + step, ... of a fixed batch, gradients averaged."""
    views = torch.randn(2, ROWS, 4, generator=torch.Generator().manual_seed(1))[:, first::step]
    found = {}
    for name, loss in LOSSES.items():
        model = network()
        value = loss(model(views[0]), model(views[1]))
        value.backward()
        distributed.average_gradients(model)
        found[name] = distributed.mean(value)
        found |= {f"{name}/{n}": p.grad for n, p in model.named_parameters()}
    with torch.no_grad():
        found["centre"] = next_centre(torch.ones(WIDTH), [network()(v) for v in views])
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


def test_two_processes_are_one(tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    script += f"import test_distributed; test_distributed.main({str(tmp_path)!r})"
    port = str(20000 + os.getpid() % 20000)
    shared = os.environ | {
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "ACCELERATE_USE_CPU": "1",
    }
    started = [
        subprocess.Popen([sys.executable, "-c", script], env=shared | {"RANK": str(i), "LOCAL_RANK": str(i)})
        for i in range(2)
    ]
    assert [process.wait(timeout=120) for process in started] == [0, 0]
    alone = answers(0, 1)
    for rank in range(2):
        together = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert together.keys() == alone.keys()
        for name, value in alone.items():
            assert torch.allclose(together[name], value, rtol=1e-4, atol=1e-6), name


def test_alone_nothing_changes() -> None:
    x = torch.randn(3, 2)
    assert distributed.gather(x) is x
    assert (distributed.rank(), distributed.world()) == (0, 1)
    assert torch.equal(distributed.total(x), x)
    model = network()
    model(torch.randn(2, 4)).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    distributed.average_gradients(model)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, model.parameters(), strict=True))


@pytest.mark.parametrize("size", ["1", None])
def test_one_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch, size: str | None) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    if size:
        monkeypatch.setenv("WORLD_SIZE", size)
    assert distributed.start() is None
