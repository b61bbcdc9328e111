"""Training the network of `MadeUp`: pairs of a sound part and the same part with a painted defect, on frozen eyes.

The eyes see each picture once, and what they see is kept in files in the folder of the run; a run that was interrupted
finds them there.  The network then learns from them in minutes, turned and mirrored: a network that is trained on maps
can be shown turned maps.

Source: Fucka et al., AnomalyVFM, CVPR 2026, section 3.3 (the losses and the confidence).
Book: anomaly/made-up
"""

import logging
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from gadkit import runtime, weights, zoo
from gadkit.anomaly.detectors.made_up import Network, encoded_maps, layers_of
from gadkit.factory.pairs import PairPool
from gadkit.files import replacing
from gadkit.nn.ema import ema_update, teacher_of
from gadkit.protocols import Backbone

log = logging.getLogger(__name__)
CHUNKS, STEPS = 120, 700  # a chunk has up to 24 pairs
PAIRS, RATE, DECAY, WARMUP, MOMENTUM = 12, 1e-3, 0.05, 100, 0.995
FOCAL, CONFIDENT = 5.0, 0.1  # the paper's weights of the focal loss and of the confidence
Kept = dict[str, Tensor]


def train(out: Path, seed: int = 0, steps: int | None = None, backbone: str = zoo.REAL) -> Path:
    """Train on the seen categories, and write `out/made-up.safetensors`; `training.train` says what else."""
    runtime.seed_everything(seed)
    device, steps = runtime.device(None), STEPS if steps is None else steps
    eyes, folder = zoo.load(backbone, device=str(device)), out / f"seen-{backbone}-{seed}"
    count = min(CHUNKS, 2 * steps)  # a short run does with fewer pictures
    kept = [load_file(_chunk(eyes, folder, seed, number)) for number in runtime.progress(range(count), "pictures")]
    network = learn(kept, seed, steps, device)
    heads = {name: value.half() for name, value in network.state_dict().items()}
    facts = {"backbone": backbone, "seed": seed, "steps": steps, "pairs": sum(len(some["masks"]) for some in kept)}
    path = weights.write_heads(heads, "made-up", out, facts)
    shutil.rmtree(folder)
    return path


def _chunk(eyes: Backbone, folder: Path, seed: int, number: int) -> Path:
    """The file of a chunk of pairs as the eyes see them, sound ones first, with their masks; made if need be."""
    path = folder / f"{number}.safetensors"
    if path.is_file():
        return path
    pairs, layers = PairPool(seed).render(number), layers_of(eyes)
    with runtime.autocast(eyes.device):
        found = [encoded_maps(eyes, images, layers) for images in (pairs.sound, pairs.defective)]
    kept = {f"layer{i}": torch.cat(maps).half().cpu().contiguous() for i, maps in enumerate(zip(*found, strict=True))}
    covered = F.adaptive_avg_pool2d(pairs.masks.float()[:, None], 2 * eyes.grid[0])[:, 0]
    kept["masks"] = (2 * covered).clamp(max=1).half()  # what is half covered is a defect
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        save_file(kept, part)
    return path


def learn(kept: Sequence[Kept], seed: int, steps: int, device: torch.device) -> Network:
    """Train a network on chunks of pictures as the eyes see them; the running average of its weights."""
    names = [f"layer{i}" for i in range(len(kept[0]) - 1)]
    cells = kept[0]["masks"].shape[-1] ** 2 // 4
    network = Network([kept[0][name].shape[1] for name in names], cells).to(device)
    standardise(network, [torch.cat([some[name][::8].float() for some in kept[::6]]) for name in names])
    average, draw = teacher_of(network), torch.Generator().manual_seed(seed)
    flat = [p for p in network.parameters() if p.ndim < 2 and p.requires_grad]
    rest = [p for p in network.parameters() if p.ndim >= 2]
    groups = [{"params": rest, "weight_decay": DECAY}, {"params": flat, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE)
    for step in runtime.progress(range(steps), "made-up"):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / WARMUP) * (0.51 + 0.49 * math.cos(math.pi * step / steps))
        maps, masks = batch(kept, names, draw)
        with runtime.autocast(device):
            answers = network([x.to(device) for x in maps])
        loss = objective(*(x.float() for x in answers), masks.to(device))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        ema_update(average, network, min(MOMENTUM, (step + 1) / (step + 10)))
        if (step + 1) % 100 == 0:
            log.info("step %d, loss %.4f", step + 1, float(loss))
    return average.eval()


@torch.no_grad()
def standardise(network: Network, maps: Sequence[Float[Tensor, "n _ _ _"]]) -> None:
    """Set the mean and deviation of each channel to those of some pictures."""
    for mean, std, x in zip(network.mean, network.std, maps, strict=True):
        mean.copy_(x.mean((0, 2, 3)))
        std.copy_(x.std((0, 2, 3)) + 1e-3)


def batch(kept: Sequence[Kept], names: Sequence[str], draw: torch.Generator) -> tuple[list[Tensor], Tensor]:
    """`PAIRS` pairs, all turned and mirrored alike: maps of each layer, sound pictures first, and their masks."""
    chunks = [kept[number] for number in torch.randint(len(kept), (PAIRS,), generator=draw).tolist()]
    rows = [(some, int(torch.randint(len(some["masks"]), (1,), generator=draw))) for some in chunks]
    halves = [(some, i + half * len(some["masks"])) for half in (0, 1) for some, i in rows]
    columns = [torch.stack([some[name][i] for some, i in halves]) for name in names]
    masks = torch.stack([some["masks"][i] for some, i in rows])
    quarter, mirror = torch.randint(4, (2,), generator=draw).tolist()
    turned = [torch.rot90(x.float(), quarter, (-2, -1)) for x in [*columns, torch.cat([masks * 0, masks])]]
    turned = [x.flip(-1) if mirror % 2 else x for x in turned]
    return turned[:-1], turned[-1]


def objective(
    score: Float[Tensor, "b"],
    logits: Float[Tensor, "b r c"],
    confidence: Float[Tensor, "b r c"],
    masks: Float[Tensor, "b r c"],
) -> Float[Tensor, ""]:
    """The paper's loss: focal for the image; for pixels focal and L1, weighted by a confidence that costs.

    Where the network can't tell, its confidence 1 + exp(c) falls towards 1, and an error there counts less; the
    logarithm keeps it from falling everywhere.  The public code clips probabilities to [0.1, 0.9] in the L1 term.
    """
    images = focal(score, (masks.flatten(1).amax(1) > 0).float()).mean()
    pixels = FOCAL * focal(logits, masks) + (logits.sigmoid().clamp(0.1, 0.9) - masks).abs()
    weight = 1 + confidence.exp()
    return images + (weight * pixels - CONFIDENT * weight.log()).mean()


def focal(
    logits: Float[Tensor, "*n"], target: Float[Tensor, "*n"], gamma: float = 2.0, alpha: float = 0.25
) -> Float[Tensor, "*n"]:
    """Focal loss of each entry (Lin et al. 2017, eq. 5), for targets from 0 to 1."""
    p = logits.sigmoid()
    missed = p * (1 - target) + (1 - p) * target
    cross = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (alpha * target + (1 - alpha) * (1 - target)) * missed**gamma * cross
