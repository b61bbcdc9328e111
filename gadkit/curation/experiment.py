"""Does curation help?  A long-tailed collection, curated without a look at its labels, against what it was made from.

    python -m gadkit.curation.experiment --out book/results/curation.json

One method sees the same number of photographs from each of several collections and then answers the same questions.
The uncurated one is a web crawl in small: few categories are common and most are rare, popular products were
photographed again and again, and a share shows things that nobody asks about.

Book: selfsup/curation
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from gadkit import distributed, factory, methods, runtime
from gadkit.backbones import Encoder, load_encoder
from gadkit.curation import Curated, curate, waterfall
from gadkit.curation.likeness import line_between
from gadkit.evaluation.features import look
from gadkit.evaluation.probes import accuracy, fit_linear
from gadkit.evaluation.results import merge
from gadkit.evaluation.sets import parts
from gadkit.factory.pool import RANDOMISED, Pool
from gadkit.factory.seeds import FIRST_COLLECTION
from gadkit.search.neighbors import knn_vote
from gadkit.train import learn

AGAIN = (0.985, 0.97, 0.955, 0.94)  # nuisance of a repeat: the same pose and light, very slightly less of both
HEAD = 9  # a third of the categories is the head, and as many the tail
COLLECTIONS = ("uncurated", "random subset", "curated", "by labels")
SHAPING = ("photographs", "keep", "made_up", "again", "exponent", "eyes")  # what of a setting shapes the collections


@dataclass(frozen=True)
class Setting:
    """The size of things."""

    photographs: int = 4096  # in the uncurated collection
    keep: int = 1024  # in each subset
    steps: int = 128  # of 128 photographs, for every collection alike
    made_up: float = 0.2  # share of parts that do not exist
    again: float = 0.3  # share of a category's photographs that repeat another
    exponent: float = 1.0  # of Zipf's law: the r-th category has 1 / r^exponent of the first one's photographs
    products: tuple[int, int] = (24, 8)  # a category to learn from and to be tested on, two photographs each
    method: str = "simclr"
    eyes: str = "simclr"  # the representation that the curation sees with


def long_tail(setting: Setting = Setting(), seed: int = 0, size: int = 96) -> tuple[Pool, Int[Tensor, "n"]]:
    """The uncurated collection, shuffled, and a number for every product; its classes are in falling order of count.

    The same seed gives the same photographs.
    """
    counts = _counts(setting, seed)
    images, labels, products = [], [], []
    for label, (category, count) in enumerate(counts.items()):
        first = FIRST_COLLECTION + (seed << 24) + (label << 18)
        known = category not in RANDOMISED
        originals = max(1, round(count * (1 - setting.again))) if known else count
        draw = torch.Generator().manual_seed(first)
        repeats = torch.randint(originals, (count - originals,), generator=draw)
        shots = [(1.0, torch.arange(originals)), *((n, repeats[i :: len(AGAIN)]) for i, n in enumerate(AGAIN))]
        for nuisance, numbers in shots:
            if len(numbers):
                seeds = first + numbers
                images.append(factory.render(category, seeds, seeds, size=size, nuisance=nuisance).images)
                products.append(seeds - FIRST_COLLECTION)
        labels.append(torch.full((count,), label))
    order = torch.randperm(sum(counts.values()), generator=torch.Generator().manual_seed(seed))
    every = Pool(torch.cat(images)[order], torch.cat(labels)[order], torch.full_like(order, -1), tuple(counts))
    return every, torch.cat(products)[order]


def _counts(setting: Setting, seed: int) -> dict[str, int]:
    """Photographs of each category; which ones are common is drawn by the seed."""
    names = factory.split("seen")
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    weights = (1 + torch.arange(len(names), dtype=torch.float64)) ** -setting.exponent
    odd = round(setting.made_up * setting.photographs)
    borders = (weights.cumsum(0) / weights.sum() * (setting.photographs - odd)).round().long()
    shares = sorted(borders.diff(prepend=borders.new_zeros(1)).tolist(), reverse=True)  # rounding may have swapped some
    thirds = [odd * (i + 1) // len(RANDOMISED) - odd * i // len(RANDOMISED) for i in range(len(RANDOMISED))]
    return {names[i]: share for i, share in zip(order, shares, strict=True)} | dict(
        zip(RANDOMISED, thirds, strict=True)
    )


def curated(images: UInt8[Tensor, "n 3 s s"], setting: Setting = Setting(), seed: int = 0) -> Curated:
    """The curation that is measured, exactly as `gadkit curate` does it: by the images only."""
    eyes = load_encoder(setting.eyes)
    x, some = look(eyes, images).pooled, slice(None, None, max(1, len(images) // 64))
    line = line_between(eyes, images[some], x[some], x)
    return curate(x, setting.keep, duplicates=line.cosine, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class World:
    """An uncurated collection, the product on each photograph, and the rows of it that every collection holds."""

    pool: Pool
    products: Int[Tensor, "n"]
    rows: Mapping[str, Int[Tensor, "_"]]
    seed: int


def world(setting: Setting = Setting(), seed: int = 0, run: Path | None = None) -> World:
    """Everything that is compared for a seed; kept in the folder `run` and taken from there.

    Raises ValueError where another setting made what is kept: networks in that folder have learnt from it.
    """
    file, made = run and run / f"world-{seed}.pt", {name: getattr(setting, name) for name in SHAPING}
    if file and file.is_file():
        kept = torch.load(file, weights_only=True)
        before = dict.fromkeys(made, "unknown") | kept.get("setting", {})
        if other := ", ".join(
            f"{name} {before[name]} (now {now})" for name, now in made.items() if before[name] != now
        ):
            raise ValueError(f"run: {file} was made with {other}; choose another folder, or remove this one")
        pool = Pool(kept["images"], kept["labels"], torch.full_like(kept["labels"], -1), tuple(kept["classes"]))
        return World(pool, kept["products"], kept["rows"], seed)
    pool, products = long_tail(setting, seed)
    rows = subsets(pool, setting, seed)
    if file:
        run.mkdir(parents=True, exist_ok=True)
        kept = {"images": pool.images, "labels": pool.labels, "classes": list(pool.classes), "setting": made}
        torch.save(kept | {"products": products, "rows": rows}, part := file.with_suffix(f".{os.getpid()}.part"))
        part.replace(file)
    return World(pool, products, rows, seed)


def subsets(pool: Pool, setting: Setting = Setting(), seed: int = 0) -> dict[str, Int[Tensor, "_"]]:
    """The rows of every collection.

    "by labels" is what nobody has who has to curate: all known categories alike, as far as they go, and nothing else.
    """
    draw = torch.Generator().manual_seed(seed)
    known = [(pool.labels == i).nonzero()[:, 0] for i, c in enumerate(pool.classes) if c not in RANDOMISED]
    shares = waterfall(torch.tensor([len(rows) for rows in known]), setting.keep, draw)
    ideal = [rows[torch.randperm(len(rows), generator=draw)[:share]] for rows, share in zip(known, shares, strict=True)]
    return {
        "uncurated": torch.arange(len(pool.images)),
        "random subset": torch.randperm(len(pool.images), generator=draw)[: setting.keep],
        "curated": curated(pool.images, setting, seed).kept,
        "by labels": torch.cat(ideal),
    }


def facts(pool: Pool, products: Int[Tensor, "n"], rows: Int[Tensor, "_"]) -> dict[str, Any]:
    """What a collection holds, by the labels that no curation has seen."""
    counts = pool.labels[rows].bincount(minlength=len(pool.classes)).tolist()
    known = torch.tensor([n for c, n in zip(pool.classes, counts, strict=True) if c not in RANDOMISED]).double()
    shares = known / known.sum()
    return {
        "photographs": len(rows),
        "products": len(products[rows].unique()),
        "counts": dict(zip(pool.classes, counts, strict=True)),
        "entropy": float(-(shares * shares.clamp(min=1e-12).log()).sum()),
        "most": len(known) * float(shares.max()),  # the commonest category, against an equal share
    }


def answers(encoder: Encoder, pool: Pool, setting: Setting, seed: int) -> Iterator[tuple[str, float]]:
    """Neighbours and linear probe over 27 categories of new products, and both by how common a category had been."""
    learnt, asked = parts(products=setting.products[0]), parts(seed, products=setting.products[1])
    x, y = (look(encoder, s.images).pooled for s in (learnt, asked))
    rank = torch.tensor([pool.classes.index(c) for c in asked.classes])[asked.labels]
    groups = {"": rank >= 0, "/head": rank < HEAD, "/middle": (rank >= HEAD) & (rank < 2 * HEAD)}
    groups["/tail"] = (rank >= 2 * HEAD) & (rank < 3 * HEAD)
    votes = {
        "knn": knn_vote(y, x, learnt.labels, k=10),
        "linear": fit_linear(x, learnt.labels, len(learnt.classes)).logits(y),
    }
    for name, vote in votes.items():
        for group, rows in groups.items():
            yield name + group, accuracy(vote[rows], asked.labels[rows])


def measure(name: str, world: World, setting: Setting, run: Path | None = None) -> dict[str, Any]:
    """Train on one collection, or go on training in the folder `run`, and ask; a row of the results file.

    Raises ValueError for an unknown collection.
    """
    if name not in world.rows:
        raise ValueError(f"collection: expected one of {', '.join(world.rows)}, got {name!r}")
    began, rows = time.monotonic(), world.rows[name]
    runtime.seed_everything(world.seed)
    method = methods.build(setting.method).to(distributed.start() or runtime.device())
    plan = replace(methods.plan_of(setting.method, method), steps=setting.steps, warmup=max(1, setting.steps // 10))
    seconds = learn(method, world.pool.images[rows], replace(plan, save_every=8), run, world.seed, setting.method)
    eyes = Encoder(method.encoder.eval(), pool=getattr(method, "pool", "cls"))
    values = dict(answers(eyes, world.pool, setting, world.seed))
    return {
        "collection": name,
        "seed": world.seed,
        "values": {key: round(value, 5) for key, value in values.items()},
        "holds": facts(world.pool, world.products, rows),
        "setting": asdict(setting),
        "training_seconds": round(seconds, 1),
        "seconds": round(time.monotonic() - began, 1),
        "device": str(runtime.device()),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def key(row: dict[str, Any]) -> tuple[str, int]:
    """What tells a row from the others: its collection and its seed."""
    return row["collection"], row["seed"]


def main(argv: Sequence[str] | None = None, setting: Setting = Setting()) -> int:
    """Train and ask, one collection after the other; each is in the file as soon as it is done."""
    parser = argparse.ArgumentParser(description="Measure what a curated collection is worth to a method.")
    parser.add_argument("names", nargs="*", default=COLLECTIONS, metavar="COLLECTION", help=", ".join(COLLECTIONS))
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--run", type=Path, metavar="DIR", help="keep progress there, and go on from it")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,), metavar="N")
    parser.add_argument("--steps", type=int, default=setting.steps, metavar="N")
    given = parser.parse_args(argv)
    setting = replace(setting, steps=given.steps)
    if unknown := set(given.names) - set(COLLECTIONS):
        parser.error(f"COLLECTION: expected one of {', '.join(COLLECTIONS)}, got {sorted(unknown)[0]!r}")
    what = "one method on a long-tailed collection and on parts of it"
    try:
        merge(given.out, [], key, what)  # whether it can be written, before anything is trained for it
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for seed in given.seeds:
        try:
            compared = world(setting, seed, given.run)
        except ValueError as error:
            parser.error(str(error))
        for name in given.names:
            run = given.run and given.run / f"{name.replace(' ', '-')}-{seed}"
            row = measure(name, compared, setting, run)
            if distributed.rank() == 0:
                merge(given.out, [row], key, what)
            sys.stderr.write(f"{name}, seed {seed}: {row['values']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
