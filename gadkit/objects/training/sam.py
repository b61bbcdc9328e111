"""Training the small SAM on scenes: points and boxes, three masks for one click, and rounds of further clicks.

As in the paper, the first prompt is a click or a box with noise, and the next ones are clicks anywhere into what is
still wrong, together with the logits before, of the mask that the model itself trusts most.  Two rounds have no new
click: one at random, and the last.  One click may mean several things, so only the best of its three masks learns; once
there is more to go by, the one mask of its own does.

Source: Kirillov et al., Segment Anything, ICCV 2023, appendix A.
Book: objects/sam
"""

import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from segment_anything.modeling import Sam
from torch import Tensor, nn

from gadkit import factory, runtime
from gadkit.checks import checked, whole
from gadkit.factory import scenes
from gadkit.factory.seeds import FIRST_SCENES, SCENES
from gadkit.files import provenance
from gadkit.losses.masks import mask_dice, mask_focal, mask_iou
from gadkit.objects import architecture, clicks
from gadkit.objects.architecture import SamConfig, build_sam, decode
from gadkit.objects.promptable import SAM
from gadkit.objects.training import shared
from gadkit.train import Plan, batch_rows, fit
from gadkit.zoo.row import REAL

FOCAL = 20.0  # weight of the focal loss beside Dice: the paper's
LEAST = 12  # pixels from which a defect is a target


@dataclass(frozen=True)
class Recipe:
    """What `sam` is trained by."""

    steps: int = 6000
    seen: int = 4096  # scenes of seen categories, and as many of parts that do not exist
    defects: int = 2048  # photographs of one defective part
    images: int = 16  # a step
    prompts: int = 6  # an image
    rounds: tuple[int, ...] = (1, 2, 4, 8)  # one of these a step; the paper has always 11
    stacks: float = 0.12  # share of the targets that are a part with all that lies on it
    lr: float = 1.2e-3
    model: SamConfig = field(
        default_factory=lambda: SamConfig(width=160, depth=5, heads=5, dim=96, everywhere=(2, 4), eyes=REAL)
    )


@dataclass(frozen=True)
class Lessons:
    """Images, each with up to k targets as bits of a number: bit j of a pixel is set where it belongs to target j."""

    images: UInt8[Tensor, "n 3 s s"]
    bits: Int[Tensor, "n s s"]
    counts: Int[Tensor, "n"]


def lessons(recipe: Recipe, seed: int = 0, out: Path | None = None) -> Lessons:
    """Scenes with their parts and stacks as targets, and single parts with their defects."""
    size, half = recipe.model.size, []
    for split in shared.SPLITS:
        some = shared.rendered(recipe.seen, seed, out, split, size)
        targets = [_targets(some, i, recipe.stacks) for i in range(len(some))]
        half.append((some.images, torch.stack([_packed(t) for t in targets]), [len(t) for t in targets]))
    images, masks = _defective(recipe.defects, seed, size)
    if len(images):
        half.append((images, masks.long(), [1] * len(images)))
    images, bits, counts = zip(*half, strict=True)
    return Lessons(torch.cat(images), torch.cat(bits).short(), torch.tensor([*chain(*counts)]))


def _targets(some: scenes.Scenes, i: int, stacks: float) -> Bool[Tensor, "k s s"]:
    """The visible masks of a scene's things and, for some of its stacks, the union of a thing and those on it."""
    masks, rng, found = some.masks(i), random.Random(f"stack/{i}"), []
    for place in range(len(masks)):
        pile = [n for n, thing in enumerate(some.things[i]) if place in thing.over]
        if pile and rng.random() < 4 * stacks:
            found.append(masks[[place, *pile]].any(0))
    return torch.cat([masks, torch.stack(found[:3])]) if found else masks


def _packed(masks: Bool[Tensor, "k s s"]) -> Int[Tensor, "s s"]:
    return (masks.long() << torch.arange(len(masks))[:, None, None]).sum(0)


def _defective(count: int, seed: int, size: int) -> tuple[UInt8[Tensor, "n 3 s s"], Bool[Tensor, "n s s"]]:
    """Single parts and materials of the seen categories, each with one visible defect, and its mask."""
    names = [*factory.split("seen"), *factory.split("randomised")]
    pairs = [(name, kind) for name in names for kind in factory.CATEGORIES[name].defects if kind != "bent"]
    random.Random(seed).shuffle(pairs)
    images, masks = [], []
    first = FIRST_SCENES["training"] + (seed + 1) * SCENES * 16  # of the scenes, the last ones of the seed
    for number, (name, kind) in enumerate(pairs[:count] if count else []):
        some = -(-count // len(pairs))
        seeds = first - (number + 1) * some - torch.arange(some)
        shots = factory.render(name, seeds, seeds, kind, 0.3 + 0.7 * torch.rand(some, generator=_lot(number)), size)
        shown = shots.masks.flatten(1).sum(1) >= LEAST
        images.append(shots.images[shown]), masks.append(shots.masks[shown])
    if not images:
        return torch.empty(0, 3, size, size, dtype=torch.uint8), torch.empty(0, size, size, dtype=torch.bool)
    return torch.cat(images), torch.cat(masks)


def _lot(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


class Prompted(nn.Module):
    """SAM and the loss of some rounds of prompts."""

    def __init__(self, sam: Sam) -> None:
        super().__init__()
        self.sam = sam

    def forward(
        self,
        images: UInt8[Tensor, "b 3 s s"],
        truth: Bool[Tensor, "n s s"],
        boxed: bool,
        rounds: int,
        generator: torch.Generator,
    ) -> Float[Tensor, ""]:
        """The loss over all rounds, n / b targets an image, begun with a box if `boxed` and else with a click."""
        low = F.avg_pool2d(truth[:, None].float(), 2)  # (n, 1, l, l)
        with runtime.autocast(images.device):
            embeddings = self.sam.image_encoder(self.sam.preprocess(images.float())).float()
        boxes = noisy_boxes(truth, generator) if boxed else None
        points = clicks.somewhere(truth, generator)[:, None]
        labels = torch.ones(len(truth), 1, dtype=torch.long, device=truth.device)
        given = None if boxed else (points, labels)
        logits, losses = None, []
        still = {rounds - 1, int(torch.randint(1, max(2, rounds), (), generator=generator))} if rounds > 3 else set()
        for number in range(rounds):
            sparse, dense = self.sam.prompt_encoder(given, boxes, logits)
            with runtime.autocast(images.device):
                masks, iou = (some.float() for some in decode(self.sam, embeddings, sparse, dense))
            ambiguous = number == 0 and not boxed
            used = slice(1, None) if ambiguous else slice(0, 1)
            losses.append(mask_loss(masks[:, used], iou[:, used], low)[0])
            trusted = iou[:, used].detach().argmax(1) + ambiguous
            logits = masks[torch.arange(len(masks)), trusted].detach()[:, None]
            if number + 1 < rounds and number + 1 not in still:
                new = correction(logits, truth, generator)
                given = new if given is None else tuple(torch.cat(pair, 1) for pair in zip(given, new, strict=True))
        return torch.stack(losses).mean()


def correction(
    logits: Float[Tensor, "n 1 l l"], truth: Bool[Tensor, "n s s"], generator: torch.Generator
) -> tuple[Float[Tensor, "n 1 2"], Int[Tensor, "n 1"]]:
    """A click anywhere in what is wrong, and its label: 1 on what was missed, 0 on what was added, -1 for no error."""
    found = F.interpolate(logits, truth.shape[1:], mode="bilinear", align_corners=False)[:, 0] > 0
    error = found != truth
    points = clicks.somewhere(error, generator)  # (n, 2)
    x, y = points.long().unbind(1)
    missed = truth[torch.arange(len(truth), device=truth.device), y, x].long()
    return points[:, None], torch.where(error.flatten(1).any(1), missed, -1)[:, None]


@checked
def mask_loss(
    logits: Float[Tensor, "n m l l"], iou: Float[Tensor, "n m"], truth: Float[Tensor, "n 1 l l"]
) -> tuple[Float[Tensor, ""], Int[Tensor, "n"]]:
    """Focal and Dice loss of the best mask of each prompt, squared error of the expected IoU; and which mask it is."""
    wide = truth.expand_as(logits)
    each = FOCAL * mask_focal(logits, wide) + mask_dice(logits, wide)  # (n, m)
    real = mask_iou(logits.detach() > 0, wide > 0.5)
    return each.amin(1).mean() + F.mse_loss(iou, real), each.argmin(1)


def noisy_boxes(masks: Bool[Tensor, "n s s"], generator: torch.Generator) -> Float[Tensor, "n 4"]:
    """Boxes of masks, each corner moved by a tenth of the box's side, at most 3 pixels: the paper's, at this size."""
    from torchvision.ops import masks_to_boxes

    boxes = masks_to_boxes(masks)
    boxes[:, 2:] += 1  # beyond the last pixel
    sides = (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2)
    noise = (0.1 * sides * torch.randn(boxes.shape, generator=generator).to(boxes.device)).clamp(-3, 3)
    return (boxes + noise).clamp(0, masks.shape[2])


def objective(method: Prompted, held: Lessons, recipe: Recipe, seed: int) -> Callable[[int], Float[Tensor, ""]]:
    """The loss of a step, all randomness keyed by the step's number."""
    where = next(method.parameters()).device
    pictures, bits = held.images.to(where), held.bits.to(where)

    def loss(step: int) -> Float[Tensor, ""]:
        rng = random.Random(f"{seed}/{step}/sam")
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = batch_rows(len(pictures), recipe.images, step, seed)
        place = torch.rand(len(rows), recipe.prompts, generator=generator) * held.counts[rows, None]
        rows = rows.to(where)
        truth = (bits[rows, None].int() >> place.int()[:, :, None, None].to(where)) & 1
        images, truth = _turned(pictures[rows], truth.bool(), rng)
        images = _tinted(images, generator)
        boxed, rounds = rng.random() < 0.5, rng.choice(recipe.rounds)
        return method(images, truth.flatten(0, 1), boxed, rounds, generator)

    return loss


def _turned(images: Tensor, truth: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Both mirrored and turned by right angles, alike for a batch."""
    for axis in (-1, -2):
        if rng.random() < 0.5:
            images, truth = images.flip(axis), truth.flip(axis)
    return (images.mT, truth.mT) if rng.random() < 0.5 else (images, truth)


def _tinted(images: UInt8[Tensor, "b 3 s s"], generator: torch.Generator) -> UInt8[Tensor, "b 3 s s"]:
    """Channels in another order, gains and a shade of grey: so that colours of categories are not what is learnt."""
    where = images.device
    order = torch.stack([torch.randperm(3, generator=generator) for _ in images]).to(where)
    x = images.float().gather(1, order[:, :, None, None].expand_as(images))
    gain = 0.7 + 0.6 * torch.rand(len(x), 3, 1, 1, generator=generator).to(where)
    grey = torch.rand(len(x), 1, 1, 1, generator=generator).square().to(where)
    return torch.lerp(x * gain, x.mean(1, keepdim=True), grey).clamp(0, 255).round().to(torch.uint8)


def train(out: Path, seed: int = 0, steps: int | None = None, recipe: Recipe = Recipe()) -> Path:
    """Train, or go on training, and write `out/sam.safetensors`; return its path.

    Raises ValueError for no steps, and for the folder of another training.
    """
    recipe = recipe if steps is None else replace(recipe, steps=whole("steps", steps))
    where = runtime.device()
    runtime.seed_everything(seed)
    method = Prompted(build_sam(recipe.model)).to(where)
    held = lessons(recipe, seed, out)
    warmup = min(200, recipe.steps // 4)
    plan = Plan(recipe.steps, recipe.lr, warmup, weight_decay=0.05, average=0.998, save_every=500)
    loss = objective(method, held, recipe, seed)
    average, seconds = fit(method, loss, plan, out, _watch, 2000, what=f"sam, seed {seed}, {recipe}")
    path = Path(out) / "sam.safetensors"
    facts = json.loads(json.dumps(asdict(recipe))) | {"seed": seed, "seconds": round(seconds, 1)} | provenance(where)
    architecture.save(average.sam, recipe.model, path, facts)
    return path


def _watch(average: Prompted, step: int) -> dict[str, float]:
    """Mean overlap after 1, 2 and 5 clicks on a few scenes of the development split, for the log."""
    some = scenes.render(12, 1, average.sam.image_encoder.img_size, "development")
    found = clicks.curve(SAM(average.sam), some.images, [some.masks(i) for i in range(len(some))], 5).mean(0)
    return {f"clicks_{n}": round(float(found[n - 1]), 4) for n in (1, 2, 5)}
