"""SAM's speed after an image is encoded, against segment_anything's own predictor and generator, with equal weights.

The predictor answers one prompt a call; here one call answers them all.  The generator enlarges every mask before it
asks which are sure, and packs the masks; here only the sure ones are enlarged.

Book: objects/sam
"""

import time
from collections.abc import Callable, Iterator

import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from benchmarks import Timing, best
from gadkit import zoo
from gadkit.factory import scenes
from gadkit.objects.automatic import automatic, grid
from gadkit.objects.promptable import SAM


def rows(
    make: Callable[[], SAM] = lambda: zoo.load("sam"),
    size: int = 512,
    side: int = 16,
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Seconds of 64 clicks and of all automatic masks, how many times as fast ours is, and the largest difference."""
    model = make()
    image = scenes.render(1, 0, size, "development").images[0]
    theirs, array = SamPredictor(model.sam), image.permute(1, 2, 0).numpy()
    model.set_image(image), theirs.set_image(array)
    clicks = grid(8, size, size)
    sure = float(model.predict(clicks[:, None]).iou.clamp(0, 1).median())  # half of the masks are enlarged
    generator = SamAutomaticMaskGenerator(model.sam, side, 64, sure, 0.0)
    runs = {
        "64 clicks, segment_anything": lambda: [
            theirs.predict(click[None].numpy(), torch.ones(1).numpy())[2] for click in clicks
        ],
        "64 clicks, gadkit": lambda: model.predict(clicks[:, None]).logits,
        "automatic, segment_anything": lambda: generator.generate(array),
        "automatic, gadkit": lambda: automatic(model, image, side, sure, 0.0),
    }
    seconds = best(runs, rounds, clock)
    for name, took in seconds.items():
        yield name, took, f"s, {size} px, {model.device}, {torch.get_num_threads()} threads"
    for what in ("64 clicks", "automatic"):
        yield (
            f"{what}, gadkit against segment_anything",
            seconds[f"{what}, segment_anything"] / seconds[f"{what}, gadkit"],
            "times faster",
        )
    found, expected = (runs[f"64 clicks, {who}"]() for who in ("gadkit", "segment_anything"))
    change = (found.cpu() - torch.stack([torch.as_tensor(one) for one in expected])).abs().max()
    yield "64 clicks: largest change of a logit", float(change), ""
    yield "automatic: share of masks that differ", _different(*(runs[f"automatic, {who}"]() for who in
        ("gadkit", "segment_anything"))), ""  # fmt: skip


def _different(ours, theirs: list[dict]) -> float:
    """The share of masks of either that the other one has not got."""
    here = {mask.numpy().tobytes() for mask in ours.masks.cpu()}
    there = {one["segmentation"].tobytes() for one in theirs}
    return len(here ^ there) / max(1, len(here | there))
