"""SAA+'s speed, step by step and from photograph to score, against the loops of its authors' code.

Those sort all distances of a spot where the largest are asked for, gather the spots of an object one by one, pass the
image through the finder once for each text, and outline one box after the other.  Both sides have the same features or
the same networks, get the same images and take turns.  On a CPU seconds are those of the processor, so that what other
programs take does not count.

Book: anomaly/saa
"""

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from benchmarks import Timing, best
from gadkit import factory, zoo
from gadkit.anomaly.detectors import DETECTORS, SAA, build
from gadkit.anomaly.detectors.proposals import Candidates
from gadkit.anomaly.hybrid import HybridPrompts
from gadkit.anomaly.saliency import TOP, object_saliency, self_saliency
from gadkit.protocols import AnomalyResult
from gadkit.runtime import device

CHANNELS, SPOTS, GRID, OBJECTS, ROUNDS = 1792, 64, 96, 4, 2  # channels and 64 x 64 spots as the authors have them
PROMPTS = HybridPrompts(specific=("scratch", "dent", "hole", "stain"))


def sorted_saliency(features: Float[Tensor, "n e"], top: float = TOP) -> Float[Tensor, "n"]:
    """Unlike the rest of its image, by sorting all distances of each spot."""
    far = 0.5 * (1 - features @ features.T)
    return far.sort(dim=1, descending=True)[0][:, : max(1, round(top * len(features)))].mean(1)


def looped_saliency(features: Float[Tensor, "r c e"], objects: Bool[Tensor, "k r c"]) -> Float[Tensor, "r c"]:
    """Unlike the other objects, gathering the spots of an object one after the other."""
    found = features.new_zeros(objects.shape)
    for i in range(len(objects)):
        mine, places, others = gathered(features, objects, i)
        far = 0.5 * (1 - (mine @ others.T).amax(1))
        for (y, x), value in zip(places, far, strict=True):
            found[i, y, x] = value
    return found.amax(0)


def gathered(
    features: Float[Tensor, "r c e"], objects: Bool[Tensor, "k r c"], i: int
) -> tuple[Float[Tensor, "m e"], list[tuple[int, int]], Float[Tensor, "n e"]]:
    """The spots of an object and where they are, one after the other, and those of the others."""
    mine, places, left = [], [], features.clone()
    for y in range(objects.shape[1]):
        for x in range(objects.shape[2]):
            if objects[i, y, x]:
                mine.append(features[y, x].clone())
                places.append((y, x))
                left[y, x] = 0
    return torch.stack(mine), places, torch.cat([left[other] for j, other in enumerate(objects) if j != i])


class Plain:
    """SAA+ as its authors run it: a pass for each text, a mask at a time, sorting, and a loop over candidates."""

    def __init__(self, like: SAA) -> None:
        self.like = like

    @torch.no_grad()
    def score(self, images: Tensor) -> AnomalyResult:
        """Maps and scores, image by image."""
        maps = []
        for image in images:
            one = self._candidates(image)
            spots, grid = self.like._spots(image[None])
            far = sorted_saliency(spots[0], self.like.top).view(1, 1, *grid)
            far = F.interpolate(far, tuple(image.shape[1:]), mode="bilinear")[0, 0]
            scores = [
                score * (self.like.sharpness * far[mask].mean()).exp() if mask.any() else score
                for score, mask in zip(one.scores, one.masks, strict=True)
            ]
            best_ones = sorted(range(len(scores)), key=lambda i: -float(scores[i]))[: self.like.prompts.keep]
            total, count = torch.zeros_like(far), torch.ones_like(far)
            for i in best_ones:
                total += one.masks[i] * scores[i]
                count += one.masks[i]
            maps.append(total / count)
        found = torch.stack(maps)
        return AnomalyResult(found, found.amax((1, 2)))

    def _candidates(self, image: Tensor) -> Candidates:
        """Those of one image, with its boxes outlined one at a time."""
        one = build(
            "saa+",
            self.like.backbone,
            self.like.object_name,
            finder=self.like.finder,
            segmenter=self.like.segmenter,
            prompts=self.like.prompts,
            threshold=self.like.threshold,
            asks="apart",
            chunk=1,
        )
        return one.propose(image[None])[0]


def _steps(clock: str, timer: object) -> Iterator[Timing]:
    """The two saliencies."""
    draw = torch.Generator().manual_seed(0)
    spots = F.normalize(torch.randn(SPOTS * SPOTS, CHANNELS, generator=draw).to(device()), dim=1)
    took = best({"plain": lambda: sorted_saliency(spots), "gadkit": lambda: self_saliency(spots)}, ROUNDS, timer)
    yield from _ratio(f"saliency in an image, {SPOTS} x {SPOTS} spots", took, clock)
    far = 0.5 * (1 - spots @ spots.T)
    count = round(TOP * len(spots))
    chosen = {
        "plain": lambda: far.sort(dim=1, descending=True)[0][:, :count].mean(1),
        "gadkit": lambda: far.topk(count, dim=1, sorted=False).values.mean(1),
    }
    yield from _ratio(f"of that, choosing {count} of {len(spots)} distances", best(chosen, ROUNDS, timer), clock)
    change = (sorted_saliency(spots) - self_saliency(spots)).abs().max()
    yield "saliency in an image: largest change", float(change), ""

    grid = F.normalize(torch.randn(GRID, GRID, CHANNELS, generator=draw).to(device()), dim=2)
    objects = torch.zeros(OBJECTS, GRID, GRID, dtype=torch.bool, device=grid.device)
    side = GRID // 2
    for i in range(OBJECTS):  # four that do not overlap, in the corners
        y, x = divmod(i, 2)
        objects[i, y * side + 4 : (y + 1) * side - 4, x * side + 4 : (x + 1) * side - 4] = True
    gathering = {
        "plain": lambda: [gathered(grid, objects, i) for i in range(OBJECTS)],
        "gadkit": lambda: [grid[own] for own in objects],
    }
    yield from _ratio(f"spots of {OBJECTS} objects, gathered", best(gathering, 1, timer), clock)
    contest = {
        "plain": lambda: looped_saliency(grid, objects),
        "gadkit": lambda: object_saliency(grid.flatten(0, 1), objects.flatten(1)),
    }
    yield from _ratio(f"saliency between {OBJECTS} objects, {GRID} x {GRID} spots", best(contest, 1, timer), clock)
    change = (contest["plain"]().flatten() - contest["gadkit"]()).abs().max()
    yield "saliency between objects: largest change", float(change), ""


def whole(detector: SAA, images: Tensor, clock: str, timer: object) -> Iterator[Timing]:
    """From photograph to score: the plain way, the same answers faster, and all texts in one pass."""
    parameters = {name: getattr(detector, name) for name in ("finder", "segmenter", "prompts", "threshold")}
    each = {asks: build("saa+", detector.backbone, detector.object_name, asks=asks, **parameters).fit() for asks in
            ("apart", "together")}  # fmt: skip
    plain = Plain(detector)
    contest = {"plain": lambda: plain.score(images)}
    contest |= {f"gadkit, texts {asks}": lambda one=one: one.score(images) for asks, one in each.items()}
    took = best(contest, ROUNDS, timer)
    for name, seconds in took.items():
        yield f"SAA+, {name}", seconds / len(images), f"{clock}/image"
        if name != "plain":
            yield f"SAA+, {name}: against plain", took["plain"] / seconds, "times faster"
    change = (plain.score(images).maps - each["apart"].score(images).maps).abs().max()
    yield "SAA+, texts apart: largest change of a map", float(change), ""


def _ratio(what: str, took: dict[str, float], clock: str) -> Iterator[Timing]:
    for name, seconds in took.items():
        yield f"{what}, {name}", seconds, clock
    yield f"{what}: gadkit against plain", took["plain"] / took["gadkit"], "times faster"


def rows() -> Iterator[Timing]:
    """(name, value, unit): seconds, how many times faster than the plain way, and the largest change of a value."""
    on_cpu = device().type == "cpu"
    clock, timer = ("s of one core", time.process_time) if on_cpu else ("s", time.perf_counter)
    yield from _steps(clock, timer)
    data = factory.test_set(factory.split("development")[0], normal=2, per_defect=1)
    detector = build("saa+", zoo.load(DETECTORS["saa+"].backbone), data.object_name, prompts=PROMPTS)
    yield from whole(detector, data.images[:4].to(device()), clock, timer)
