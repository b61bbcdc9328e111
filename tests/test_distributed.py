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
    """Two layers, in double precision so that "equal" can mean it, and the scale and bias that pairs are scored by."""

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


def learners() -> dict[str, nn.Module]:
    """Methods whose loss compares or normalises over the batch, small."""
    from gadkit import pretext, selfsup
    from gadkit.nn import ViT

    def build(make: type[nn.Module], **options) -> nn.Module:
        torch.manual_seed(2)
        return make(ViT(image_size=32, width=32, depth=1, heads=2), **options).train()

    return {
        "simclr": build(selfsup.SimCLR),
        "mocov3": build(selfsup.MoCoV3),
        "byol": build(selfsup.BYOL),
        "swav": build(selfsup.SwAV, prototypes=8, small=1, frozen=0.0),
        "dino": build(selfsup.DINO, prototypes=8, small=1),
        "dinov2": build(selfsup.DINO, prototypes=8, small=1, koleo=0.1, balance="sinkhorn"),
        "colourisation": build(pretext.Colourisation, size=32),
        "inpainting": build(pretext.Inpainting, size=32),
        "autoencoder": build(pretext.Autoencoder, size=32),
        "deepcluster": build(pretext.DeepCluster, clusters=4, components=4, bank=32, size=32),
        "sight-and-sound": build(pretext.SightAndSound, size=32),
        "rgb-and-flow": build(pretext.RGBAndFlow, size=32),
    }


def steps(first: int, step: int) -> dict[str, torch.Tensor]:
    """The loss, the gradients and the buffers of methods, from rows first, first + step, ... of the same views."""
    from gadkit.factory.films import motion, sound
    from gadkit.factory.pool import unlabelled

    images, found, clips = unlabelled(16, size=48).images, {}, motion.clips(16, size=48)
    data = clips.columns() | {"images": images, "sound": sound.spectrograms(clips)}
    for name, method in learners().items():
        torch.manual_seed(3)
        views = [view[first::step] for view in method.views(data)]
        if name == "deepcluster":
            torch.manual_seed(4)
            method.recluster(torch.randn(16, 32))
            method.head.weight.data.normal_()
        value = method.loss(views)
        value.backward()
        distributed.average_gradients(method)
        found[f"method {name}"] = distributed.mean(value)
        found |= {f"method {name}/{n}": p.grad for n, p in method.named_parameters() if p.grad is not None}
        found |= {f"method {name}/{n}": b for n, b in method.named_buffers() if "running" in n or "centre" in n}
    return found


def resumed(folder: Path) -> dict[str, torch.Tensor]:
    """Weights after a run that was cut, in a folder that only the first process sees; the second began otherwise."""
    from gadkit.train import Plan, fit

    torch.manual_seed(distributed.rank())
    model = nn.Linear(3, 1)
    run, plan = folder / f"run{distributed.rank()}", Plan(steps=4, lr=0.1, warmup=0, save_every=2, average=0.5)

    def loss(step: int) -> torch.Tensor:
        if step == 3 and not (folder / "again").exists():
            raise KeyboardInterrupt
        return model(torch.full((2, 3), 1.0 + step + distributed.rank())).square().mean()

    for _ in range(2):
        try:
            average, _ = fit(model, loss, plan, run)
        except KeyboardInterrupt:
            torch.distributed.barrier()
            (folder / "again").touch()
            nn.init.ones_(model.weight)
    return {"resumed": torch.cat([p.detach().flatten() for p in (*model.parameters(), *average.parameters())])}


def main(folder: str) -> None:
    """What each of the processes runs."""
    torch.set_num_threads(1)
    assert distributed.start() is not None
    rows = torch.arange(3.0).view(3, 1) + 10 * distributed.rank()
    assert distributed.world() == 2
    assert distributed.gather(rows).flatten().tolist() == [0, 1, 2, 10, 11, 12]
    found = answers(distributed.rank(), 2) | steps(distributed.rank(), 2) | resumed(Path(folder))
    found["seen"] = torch.tensor([(Path(folder) / f"run{i}" / "checkpoint.pt").exists() for i in range(2)])
    torch.save(found, Path(folder) / f"{distributed.rank()}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_are_one(two_processes: list[dict[str, torch.Tensor]]) -> None:
    alone = answers(0, 1) | steps(0, 1)
    assert all(f"{name}/layers.0.weight" in alone for name in LOSSES)
    for together in two_processes:
        assert alone.keys() | {"resumed", "seen"} == together.keys()  # what has no gradient alone has none together
        for name, value in alone.items():
            single = name.startswith("method")  # precision; some of its gradients are zero but for rounding
            least, share = (1e-4, 1e-3) if single else (1e-12, 1e-9)
            assert (together[name] - value).norm() <= least + share * value.norm(), name


def test_processes_go_on_from_the_first_ones_state(two_processes: list[dict[str, torch.Tensor]]) -> None:
    one, other = two_processes
    assert one["seen"].tolist() == [True, False]
    assert torch.equal(one["resumed"], other["resumed"])


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
