"""Does curation help?  A long-tailed collection, curated without a look at its labels, against what it was made from.

    python -m experiments.curation --out book/results/curation.json

One method sees the same number of photographs from each of several collections and then answers the same questions.
The uncurated one is a web crawl in small: few categories are common and most are rare, popular products were
photographed again and again, and a share shows things that are of no use.

Book: selfsup/curation
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from gadkit import distributed, methods, runtime, zoo
from gadkit.backbones import Encoder
from gadkit.checks import one_of
from gadkit.curation import Curated, curate, waterfall
from gadkit.curation.likeness import line_between
from gadkit.curation.longtail import COLLECTIONS, Setting, long_tail, statistics
from gadkit.evaluation.features import encode
from gadkit.evaluation.probes import accuracy, fit_linear
from gadkit.evaluation.results import merge
from gadkit.evaluation.sets import parts
from gadkit.factory.pool import RANDOMISED, Pool
from gadkit.files import provenance, replacing
from gadkit.search.neighbors import knn_vote
from gadkit.train import learn

HEAD = 9  # a third of the categories is the head, and as many the tail
FULL = Setting()  # what the results file holds
SHAPING = ("photographs", "keep", "made_up", "again", "exponent", "eyes")  # what of a setting shapes the collections


def curated(images: UInt8[Tensor, "n 3 s s"], setting: Setting = FULL, seed: int = 0) -> Curated:
    """The curation that is measured, exactly as `gadkit curate` does it: by the images only."""
    eyes = zoo.load(setting.eyes)
    x, some = encode(eyes, images).pooled, slice(None, None, max(1, len(images) // 64))
    line = line_between(eyes, images[some], x[some], x)
    return curate(x, setting.keep, duplicates=line.cosine, generator=torch.Generator().manual_seed(seed))


@dataclass(frozen=True)
class World:
    """An uncurated collection, the product on each photograph, and the rows of it that every collection holds."""

    pool: Pool
    products: Int[Tensor, "n"]
    rows: Mapping[str, Int[Tensor, "_"]]
    seed: int


def world(setting: Setting = FULL, seed: int = 0, run: Path | None = None) -> World:
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
        with replacing(file) as part:
            torch.save(kept | {"products": products, "rows": rows}, part)
    return World(pool, products, rows, seed)


def subsets(pool: Pool, setting: Setting = FULL, seed: int = 0) -> dict[str, Int[Tensor, "_"]]:
    """The rows of every collection.

    "by labels" needs the labels that curation has to do without: all known categories alike, as far as they
    go, and nothing else.
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


def answers(encoder: Encoder, pool: Pool, setting: Setting, seed: int) -> Iterator[tuple[str, float]]:
    """Neighbours and linear probe over 27 categories of new products, and both by how common a category had been."""
    learnt, asked = parts(products=setting.products[0]), parts(seed, products=setting.products[1])
    x, y = (encode(encoder, s.images).pooled for s in (learnt, asked))
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
    one_of("collection", name, world.rows)
    began, rows = time.monotonic(), world.rows[name]
    runtime.seed_everything(world.seed)
    method = methods.build(setting.method).to(distributed.start() or runtime.device())
    plan = replace(methods.plan_of(setting.method, method), steps=setting.steps, warmup=max(1, setting.steps // 10))
    seconds = learn(
        method, {"images": world.pool.images[rows]}, replace(plan, save_every=8), run, world.seed, setting.method
    )
    eyes = Encoder(method.encoder.eval(), pool=method.pool)
    values = dict(answers(eyes, world.pool, setting, world.seed))
    return {
        "collection": name,
        "seed": world.seed,
        "values": {key: round(value, 5) for key, value in values.items()},
        "holds": statistics(world.pool, world.products, rows),
        "setting": asdict(setting),
        "training_seconds": round(seconds, 1),
        "seconds": round(time.monotonic() - began, 1),
    } | provenance(runtime.device())


def key(row: dict[str, Any]) -> tuple[str, int]:
    """The key of a row: its collection and its seed."""
    return row["collection"], row["seed"]


def main(argv: Sequence[str] | None = None, setting: Setting = FULL) -> int:
    """Train and ask, one collection after the other; each is in the file as soon as it is done."""
    parser = argparse.ArgumentParser(description="Measure what a curated collection is worth to a method.")
    parser.add_argument("names", nargs="*", default=COLLECTIONS, metavar="COLLECTION", help=", ".join(COLLECTIONS))
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--run", type=Path, metavar="DIR", help="keep progress there, and go on from it")
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,), metavar="N")
    parser.add_argument("--steps", type=int, default=setting.steps, metavar="N")
    given = parser.parse_args(argv)
    setting = replace(setting, steps=given.steps)
    what = "one method on a long-tailed collection and on parts of it"
    try:
        for name in given.names:
            one_of("COLLECTION", name, COLLECTIONS)
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
