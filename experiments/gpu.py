"""What a GPU makes of the detectors: images a second, share of its own arithmetic, memory, and what bf16 changes.

    python -m experiments.gpu --out book/results/gpu.json

takes at most nine minutes.  Each row is in the file as soon as it is measured, and a second run measures what is
missing, so a run that was cut short loses one row.  `--tiny` tries everything at small sizes, on a CPU too.

The share is that of the chip's own rate of square bf16 products, measured here (`benchmarks.peak`), and counts the
operations of its products, convolutions and attentions.  Changes of scores are against float32.

Book: anomaly/speed
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import best
from benchmarks.peak import matmul_speed
from benchmarks.roofline import steps
from benchmarks.winclip import random_clip
from gadkit import factory, runtime, zoo
from gadkit.anomaly.detectors import DETECTORS, build
from gadkit.anomaly.metrics import auroc
from gadkit.backbones.openclip import OpenCLIP
from gadkit.backbones.tower import Tower
from gadkit.evaluation.results import merge, read
from gadkit.files import provenance
from gadkit.nn import private
from gadkit.protocols import AnomalyResult, Backbone, Detector, TestSet, Tokens
from gadkit.search import neighbors

CATEGORIES = ("cookie", "connector")  # development: nothing is chosen by them here
SHOTS, SEED = 4, 0
VARIANTS = ("float32", "bfloat16", "bfloat16, compiled")
BLOCKS = ((64, 64, 64), (32, 64, 32), (64, 128, 64), (128, 64, 64), (128, 128, 64))  # of the fused search
Row = dict[str, Any]
Done = Callable[[Row], bool]


def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What tells one row from another, the device included."""
    return tuple(row.get(name) for name in ("what", "name", "variant", "device", "tiny"))


@contextmanager
def variant(name: str, backbone: Backbone, tiny: bool = False) -> Iterator[None]:
    """Encode as a row says: the precision, compiled or not."""
    with ExitStack() as stack:

        def put(thing: Any, attribute: str, value: Any) -> None:
            stack.enter_context(mock.patch.object(thing, attribute, value))

        if name.startswith("bfloat16"):
            first = "embed_patches" if isinstance(backbone, OpenCLIP) else "encode_image"
            put(backbone, first, lowered(getattr(backbone, first), backbone.device))
            if isinstance(backbone, OpenCLIP):
                tower = Tower(backbone.model.visual, "bfloat16")  # the blocks have a precision of their own
                put(backbone, "tower", lambda *_: tower)
        if "compiled" in name:
            for part in ("image", "sequences"):
                put(tower, part, torch.compile(getattr(tower, part), backend="eager" if tiny else "inductor"))
            stack.callback(torch.compiler.reset)
        yield


def lowered(encode: Callable[..., Any], where: torch.device) -> Callable[..., Any]:
    """The same under autocast to bfloat16; what comes out is float32."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(where.type, torch.bfloat16):
            out = encode(*args, **kwargs)
        if isinstance(out, Tokens):
            return replace(out, pooled=out.pooled.float(), patches=tuple(x.float() for x in out.patches))
        return out.float()

    return run


def flops(detector: Detector, images: UInt8[Tensor, "b 3 h w"]) -> int:
    """Operations of the products, convolutions and attentions that scoring these images asks for, searches included."""
    with mock.patch.object(private, "ALLOWED", False), FlopCounterMode(display=False) as counter:
        detector.score(images)
    return counter.get_total_flops()


def measure(detector: Detector, images: UInt8[Tensor, "b 3 h w"], rounds: int) -> dict[str, float]:
    """Images a second, and the most bytes at once beyond the detector's own (NaN on a CPU)."""
    where = images.device
    seconds = best({"score": lambda: detector.score(images)}, rounds)["score"]
    most = math.nan
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
        before = torch.cuda.memory_allocated(where)
        detector.score(images)
        most = (torch.cuda.max_memory_allocated(where) - before) / 1e6
    return {"images_per_second": len(images) / seconds, "megabytes": most}


def detector_rows(name: str, label: str, backbone: Backbone, peak: float, tiny: bool, done: Done) -> Iterator[Row]:
    """One detector in all variants that it has; the first one is what the others are compared with."""
    where, few = backbone.device, DETECTORS[name].few_shot
    variants = [v for v in VARIANTS if "compiled" not in v or isinstance(backbone, OpenCLIP)]
    rows = {v: {"what": "detector", "name": label, "variant": v} for v in variants}
    if all(map(done, rows.values())):
        return
    sets = [product(category, tiny) for category in CATEGORIES[: 1 if tiny else None]]
    batch = sets[0].images[torch.arange(2 if tiny else 64) % len(sets[0].images)].to(where)
    work = flops(fitted(name, backbone, sets[0], few), batch) / len(batch)
    reference: list[AnomalyResult] = []
    for how, row in rows.items():
        if reference and done(row):
            continue
        try:
            with variant(how, backbone, tiny), mock.patch.object(private, "ALLOWED", where.type == "cuda"):
                found = [fitted(name, backbone, data, few).score(data.images.to(where)) for data in sets]
                reference = reference or found
                if done(row):
                    continue
                figures = measure(fitted(name, backbone, sets[0], few), batch, 1 if tiny else 3)
        except Exception as error:
            if not reference:
                raise
            yield row | {"failed": f"{type(error).__name__}: {error}"}  # a compiler that is not there, say
            continue
        share = figures["images_per_second"] * work / peak
        changes = [difference(a, b, data) for a, b, data in zip(found, reference, sets, strict=True)]
        figures |= {"gflop_per_image": work / 1e9, "share_of_bf16_peak": share, "batch": len(batch)}
        yield row | figures | {what: max(change[what] for change in changes) for what in changes[0]}


@cache
def product(category: str, tiny: bool) -> TestSet:
    """A product of the factory, from its own seed."""
    return factory.test_set(category, SEED, SEED, "loose", *((2, 1, SHOTS, 64) if tiny else (20, 3, SHOTS, 224)))


def fitted(name: str, backbone: Backbone, data: TestSet, few: str) -> Detector:
    """A detector that knows four good parts, or the name alone."""
    known = data.references[:SHOTS].to(backbone.device) if few else None
    return build(name, backbone, data.object_name).fit(known)


def difference(found: AnomalyResult, reference: AnomalyResult, data: TestSet) -> dict[str, float]:
    """The largest change of a score, of a map, and of the image AUROC."""
    was, now = (auroc(result.scores.cpu(), data.labels) for result in (reference, found))
    return {
        "score_change": float((found.scores - reference.scores).abs().max()),
        "map_change": float((found.maps - reference.maps).abs().max()),
        "auroc_change": abs(now - was),
    }


def search_rows(where: torch.device, tiny: bool) -> Iterator[Row]:
    """The nearest member of a bank: all similarities stored, in chunks, and fused with several blocks."""
    n, m, d = (64, 300, 48) if tiny else (64 * 196, 200_000, 384)
    draw = torch.Generator().manual_seed(SEED)
    for dtype in (torch.float32, torch.bfloat16):
        q, x = (torch.randn(size, d, generator=draw).to(where, dtype) for size in (n, m))
        ways: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {"chunks": lambda q=q, x=x: plain(q, x)}
        if neighbors.has_kernel(where):  # float32 too, which the package leaves to chunks
            from gadkit.search import fused

            for blocks in BLOCKS:
                ways[f"fused {blocks}"] = lambda q=q, x=x, blocks=blocks: fused.nearest(q, x, blocks)
        expected, rows = ways["chunks"]()
        for way, run in ways.items():
            try:
                values, found = run()
            except Exception as error:  # blocks that this chip has no room for are a result, too
                yield {
                    "what": "search",
                    "name": way,
                    "variant": str(dtype),
                    "failed": f"{type(error).__name__}: {error}",
                }
                continue
            seconds = best({way: run}, 1 if tiny else 3)[way]
            yield {
                "what": "search", "name": way, "variant": str(dtype), "seconds_each": seconds,
                "flops_per_second": 2 * n * m * d / seconds, "size": [n, m, d],
                "largest_change": float((values - expected).abs().max()),
                "same_row": float((found == rows).float().mean()),
            }  # fmt: skip


def plain(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """The search without the kernel."""
    with mock.patch.object(neighbors, "can_fuse", return_value=False):
        values, rows = neighbors.topk(queries, keys, 1)
    return values[:, 0], rows[:, 0]


def all_rows(where: torch.device, tiny: bool, names: Sequence[str], done: Callable[[Row], bool]) -> Iterator[Row]:
    """Everything, the shortest first."""
    rate = max(matmul_speed(side, where, *((1, 1) if tiny else (3, 10))) for side in ((64,) if tiny else (4096, 8192)))
    yield {"what": "bf16 product", "name": "square matrices", "variant": "bfloat16", "flops_per_second": rate}
    for dtype in (torch.float32, torch.bfloat16):
        if not done({"what": "roofline", "name": "sum", "variant": str(dtype)}):
            for step in steps(where, dtype, 1 if tiny else 8, *((1, 1) if tiny else (3, 10))):
                row = {"what": "roofline", "name": f"{step.what}, {step.size}", "variant": str(dtype)}
                yield row | {"step": asdict(step)}
            yield {"what": "roofline", "name": "sum", "variant": str(dtype), "complete": True}
    if not done({"what": "search", "name": "chunks", "variant": "torch.bfloat16"}):
        yield from search_rows(where, tiny)
    for name in names:
        yield from detector_rows(name, name, zoo.load(DETECTORS[name].backbone, "tiny", str(where)), rate, tiny, done)
    if "winclip" in names:  # the published size; scores of random weights say what bf16 changes, and no more
        eyes = zoo.load("clip-random", "tiny", str(where)) if tiny else random_clip(where)
        label = f"winclip on random weights, {'small' if tiny else 'ViT-B-16-plus-240'}"
        yield from detector_rows("winclip", label, eyes, rate, tiny, done)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what is missing until the time is over; 0, also when something is left for the next run."""
    parser = argparse.ArgumentParser(description="Measure detectors on a GPU.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--device", metavar="NAME", help="default: GADKIT_DEVICE, else the best there is")
    parser.add_argument("--detectors", nargs="+", default=[*DETECTORS], choices=[*DETECTORS], metavar="NAME")
    parser.add_argument("--minutes", type=float, default=9.0, metavar="M", help="no row begins later (default: 9)")
    parser.add_argument("--tiny", action="store_true", help="small sizes, to try the command on any machine")
    given = parser.parse_args(argv)
    where, what = runtime.device(given.device), "speed, memory and changes of scores on a GPU"
    if where.type != "cuda" and not given.tiny:
        parser.error(f"--device: expected a GPU, got {where}; --tiny tries the command without one")
    merge(given.out, [], key, what)  # whether it can be written, before anything is measured
    about = provenance(where) | {"seed": SEED, "tiny": given.tiny}
    known = {key(row) for row in read(given.out)}
    start = last = time.monotonic()
    for row in all_rows(where, given.tiny, given.detectors, lambda row: key(row | about) in known):
        now = time.monotonic()
        merge(given.out, [row | about | {"seconds": round(now - last, 2)}], key, what)
        sys.stderr.write(f"{row['what']}, {row['name']}, {row['variant']}: {now - last:.1f} s\n")
        last = now
        if now - start > 60 * given.minutes:
            sys.stderr.write("the time is over; the same command measures the rest\n")
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
