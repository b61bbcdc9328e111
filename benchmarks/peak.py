"""The share of a GPU's bf16 arithmetic that a training step of a ViT-S/16 reaches.

The peak is measured, not taken from a data sheet: the fastest product of two square bf16 matrices.  A step is a
forward pass in mixed precision, a backward pass and AdamW; only the products that the network's definition asks for
count as its arithmetic, so whatever else the GPU does in a step lowers the share.

Book: anomaly/measuring
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from benchmarks import Timing, best
from gadkit import runtime
from gadkit.nn import ViT

VIT_S16 = {"image_size": 224, "patch_size": 16, "width": 384, "depth": 12, "heads": 6}
SIDES = (4096, 8192, 16384)  # of the square matrices
BATCHES = (64, 128, 256, 512)


def rows(
    config: dict[str, int] = VIT_S16,
    sides: tuple[int, ...] = SIDES,
    batches: tuple[int, ...] = BATCHES,
    rounds: int = 5,
    repeats: int = 10,
) -> Iterator[Timing]:
    """The measured peak, and images a second and share of the peak at the best batch; nothing without a CUDA GPU."""
    if not torch.cuda.is_available():
        yield "ViT-S/16 step, share of the bf16 peak", math.nan, "no CUDA GPU here: not measured"
        return
    yield from _measure(torch.device("cuda"), config, sides, batches, rounds, repeats)


def _measure(
    where: torch.device,
    config: dict[str, int],
    sides: tuple[int, ...],
    batches: tuple[int, ...],
    rounds: int,
    repeats: int,
) -> Iterator[Timing]:
    most = max(matmul_speed(side, where, rounds, repeats) for side in sides)
    name = torch.cuda.get_device_name(where) if where.type == "cuda" else str(where)
    yield "bf16 matrix product, measured peak", most / 1e12, f"TFLOP/s, {name}"
    encoder, speeds = ViT(**config).to(where), {}
    for batch in batches:
        try:
            steps = _steps(encoder, batch, where, repeats)
            speeds[batch] = repeats * batch / best({"step": steps}, rounds)["step"]
        except torch.cuda.OutOfMemoryError:
            break  # nor would a larger one fit
    if not speeds:
        raise ValueError(f"batches: expected one that fits into memory, got {batches}")
    batch = max(speeds, key=speeds.get)
    side, patch = config["image_size"], config["patch_size"]
    label = f"ViT of width {config['width']}, depth {config['depth']}, patch {patch}, {side} px"
    reached = speeds[batch] * training_flops(encoder, side)
    yield f"{label}: training step", speeds[batch], f"images/s, batch {batch}"
    yield (
        f"{label}: training step",
        reached / 1e12,
        f"TFLOP/s, {training_flops(encoder, side) / 1e9:.1f} GFLOP an image",
    )
    yield f"{label}: share of the measured peak", reached / most, ""


def matmul_speed(side: int, where: torch.device, rounds: int, repeats: int) -> float:
    """Operations a second of a product of square bf16 matrices; a multiplication and an addition are two."""
    a, b = (torch.randn(side, side, device=where, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)

    def run() -> None:
        for _ in range(repeats):
            torch.mm(a, b, out=out)

    return 2 * side**3 * repeats / best({"product": run}, rounds)["product"]


def training_flops(encoder: ViT, side: int) -> int:
    """Operations of a training step an image: the matrix products, forward, and twice as many backward.

    The pixels need no gradient, so the first layer's are once as many backward.
    """
    w, patches = encoder.width, (side // encoder.patch_size) ** 2
    tokens = patches + encoder.prefix
    first = 2 * patches * 3 * encoder.patch_size**2 * w
    layers = 2 * tokens * w * (3 + 1 + 4 + 4) * w  # queries, keys and values; projection; the two of the MLP
    attention = 2 * 2 * tokens * tokens * w
    return 2 * first + 3 * encoder.depth * (layers + attention)


def train_step(encoder: ViT, images: Tensor, optimiser: torch.optim.Optimizer) -> None:
    """One step in mixed precision; the objective costs nothing beside the network."""
    with runtime.autocast(images.device):
        tokens = encoder(images)
    optimiser.zero_grad()
    tokens.float().square().mean().backward()
    optimiser.step()


def _steps(encoder: ViT, batch: int, where: torch.device, repeats: int) -> Callable[[], None]:
    images = torch.randn(batch, 3, encoder.side * encoder.patch_size, encoder.side * encoder.patch_size, device=where)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=1e-4, fused=True)

    def run() -> None:
        for _ in range(repeats):
            train_step(encoder, images, optimiser)

    return run
