"""Is InCTRL WinCLIP+?  From the one to the other a step at a time, on eyes that are real and on some that are not.

    python -m experiments.inctrl --out book/results/inctrl.json

A cell is one product of one category under one CLIP: every step at 2, 4 and 8 shots, by 5 seeds.  A seed trains heads
of its own and draws the shots among 8 good parts, so that at 8 shots only the training differs.  Heads are kept in a
folder; a run that was killed goes on with the cell that it was at.  Choices were made on development; the held-out
categories are measured by `--split held-out`.

Book: anomaly/inctrl
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from gadkit import factory, runtime, weights, zoo
from gadkit.anomaly.detectors import InCTRL, WinCLIP
from gadkit.anomaly.detectors.residual_heads import ResidualHeads, untrained
from gadkit.anomaly.maps import upsample
from gadkit.anomaly.metrics import auroc
from gadkit.anomaly.training.inctrl import Product, compared, learn, products
from gadkit.backbones import OpenCLIP
from gadkit.evaluation.results import merge, read
from gadkit.files import provenance
from gadkit.protocols import TestSet

SHOTS, SEEDS, CLIPS, PIXELS_AT = (2, 4, 8), (0, 1, 2, 3, 4), ("clip", "clip-scratch"), 4
HEADS = {  # by what is added to the residual map, and by the kind of category that they are trained on
    "residuals": ((), None),
    "reference": (("reference",), None),
    "words": (("text",), None),
    "all": (("reference", "text"), None),
    "textures": (("reference", "text"), "texture"),
    "objects": (("reference", "text"), "object"),
}
STEPS = {  # in the order of the way; what is trained is a name of HEADS
    "WinCLIP+": None,
    "without windows": None,
    "residuals of three blocks": None,
    "CLIP's own temperature": None,
    "without words": None,
    "holistic head": "residuals",
    "and reference head": "reference",
    "and words: InCTRL": "all",
    "InCTRL, heads untrained": None,
    "InCTRL without reference head": "words",
    "InCTRL, trained on textures": "textures",
    "InCTRL, trained on objects": "objects",
    "reference head alone": "all",
    "holistic head alone": "all",
}
Heads = Mapping[tuple[str, int], ResidualHeads]  # by name and seed


def trained(name: str, clip: OpenCLIP, folder: Path, seeds: Sequence[int]) -> dict[tuple[str, int], ResidualHeads]:
    """All heads for a CLIP, from the folder or trained and put there."""
    held, found = None, {}
    for kind, (terms, only) in HEADS.items():
        for seed in seeds:
            path = folder / f"{name}-{kind}-{seed}.safetensors"
            if not path.exists():
                held = held or products(clip, factory.split("seen"))
                some = [one for one in held if only in (None, factory.CATEGORIES[one.category].kind)]
                weights.write(learn(some, seed=seed, terms=terms), path, {"terms": " ".join(terms)})
                sys.stderr.write(f"{path}\n")
            found[kind, seed] = _net(clip, weights.read(path))
    return found


def _net(clip: OpenCLIP, state: Mapping[str, Tensor]) -> ResidualHeads:
    rows, columns = clip.grid
    net = ResidualHeads(rows * columns, clip.embed_dim)
    weights.fill(net, state, "InCTRL")
    return net.eval().requires_grad_(False)


def draw(seed: int, shots: int, among: int = SHOTS[-1]) -> Tensor:
    """Which of the good parts are shown."""
    return torch.randperm(among, generator=torch.Generator().manual_seed(seed))[:shots]


def scores(
    one: Product, warm: Float[Tensor, "b"], shots: Tensor, nets: Mapping[str, ResidualHeads]
) -> Iterator[tuple[str, Float[Tensor, "b"]]]:
    """Yield every step's scores but WinCLIP+'s, of the images after the good parts; `warm` is what words say there."""
    new, among = slice(one.normal, None), one.distances[one.normal :, shots].amin(1)  # (b, l, n)
    last, residual, text = among[:, -1], among.mean(1), one.text[new]
    yield "without windows", (warm + last.amax(1)) / 2
    yield "residuals of three blocks", (warm + residual.amax(1)) / 2
    yield "CLIP's own temperature", (text + residual.amax(1)) / 2
    yield "without words", residual.amax(1)
    for kind, net in nets.items():
        terms = HEADS[kind][0] if kind in HEADS else HEADS["all"][0]
        adapter = net.compare(one.vectors[new], one.vectors[shots])
        found = net(residual, adapter, text if "text" in terms else None, "reference" in terms)
        for step, name in {**STEPS, "InCTRL, heads untrained": "untrained"}.items():
            if name == kind:
                part = {"reference head alone": "reference", "holistic head alone": "holistic"}.get(step, "score")
                yield step, found[part]


@torch.no_grad()
def cell(clip: OpenCLIP, data: TestSet, heads: Heads, seeds: Sequence[int]) -> dict[str, dict[str, list[float]]]:
    """Image AUROC of all steps by "step, shots", and pixel AUROC of the maps at 4 shots: a value a seed."""
    good, images, size = data.references, data.images, tuple(data.images.shape[2:])
    winclip = WinCLIP(clip, data.object_name).fit(good)
    seen, windows = winclip.encode(images), winclip.reference_windows_
    patches = winclip.reference_patches_.unflatten(0, (len(good), -1))
    warm = winclip.fit().score(seen).scores
    blank = untrained(clip.grid[0] * clip.grid[1], clip.embed_dim)
    one = compared(InCTRL(clip, data.object_name, blank), data.category, good, images)
    found: dict[str, dict[str, list[float]]] = {"image_auroc": {}, "pixel_auroc": {}}
    for shots in SHOTS:
        for seed in seeds:
            rows = draw(seed, shots, len(good))
            known = {s: bank.unflatten(0, (len(good), -1))[rows].flatten(0, 1) for s, bank in windows.items()}
            plus = winclip._with(
                reference_patches_=patches[rows].flatten(0, 1), reference_windows_=known, shots_=shots
            ).score(seen)
            nets = {kind: heads[kind, seed] for kind in HEADS} | {"untrained": _net(clip, _blank(clip, seed))}
            for step, values in [("WinCLIP+", plus.scores), *scores(one, warm, rows, nets)]:
                _note(found["image_auroc"], f"{step}, {shots}", auroc(values, data.labels))
            if shots == PIXELS_AT:
                near = one.distances[one.normal :, rows].amin(1)
                maps = {"WinCLIP+": plus.maps, "without windows": near[:, -1], "InCTRL": near.mean(1)}
                for what, values in maps.items():
                    full = values if values.ndim == 3 else upsample(values.unflatten(1, clip.grid), size)
                    _note(found["pixel_auroc"], what, auroc(full, data.masks))
    return found


def _blank(clip: OpenCLIP, seed: int) -> dict[str, Tensor]:
    return untrained(clip.grid[0] * clip.grid[1], clip.embed_dim, 1000 + seed)


def _note(found: dict[str, list[float]], name: str, value: float) -> None:
    found.setdefault(name, []).append(round(value, 4))


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return row["clip"], row["split"], row["category"]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure every category of a split under both CLIPs; each cell is in the results file as soon as it is done."""
    parser = argparse.ArgumentParser(description="Measure the steps from WinCLIP+ to InCTRL.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument(
        "--heads", type=Path, default=Path("runs/inctrl"), metavar="FOLDER", help="where heads are kept"
    )
    parser.add_argument("--split", choices=("development", "held-out"), default="development")
    parser.add_argument("--clips", nargs="+", default=CLIPS, metavar="NAME", help="(default: both)")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, metavar="N")
    given = parser.parse_args(argv)
    device, what = runtime.device("cpu"), "from WinCLIP+ to InCTRL a step at a time; a value a seed"
    merge(given.out, [], key, what)  # whether it can be written, before anything is measured
    given.heads.mkdir(parents=True, exist_ok=True)
    done = {key(row) for row in read(given.out)}
    for name in given.clips:
        todo = [c for c in factory.split(given.split) if (name, given.split, c) not in done]
        if not todo:
            continue
        clip = zoo.load(name, "tiny", str(device))
        heads = trained(name, clip, given.heads, given.seeds)
        for category in todo:
            start, about = time.monotonic(), {"clip": name, "split": given.split, "category": category}
            data = factory.test_set(category, normal=16, per_defect=2, references=SHOTS[-1])
            row = about | {"seeds": [*given.seeds], "values": cell(clip, data, heads, given.seeds)}
            row |= {"images": len(data.images), "seconds": round(time.monotonic() - start), **provenance(device)}
            merge(given.out, [row], key, what)
            sys.stderr.write(f"{name}, {category}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
