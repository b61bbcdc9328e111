"""Short trainings and probes of pages of Part I that would make a page wait for minutes, with the pages' own seeds.

    python -m experiments.short_runs --out book/results/short_runs.json

A row belongs to a page and a question of it, and is written as soon as it is answered; a run that begins again answers
what is not in the file.  The pages hold the same code, train some of these themselves and read the others.

Book: selfsup/supervised, selfsup/simclr, selfsup/mocov3, selfsup/byol
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from gadkit import zoo
from gadkit.anomaly.metrics import auroc
from gadkit.backbones import Encoder, Timm
from gadkit.backbones.timm_models import TINY
from gadkit.checks import one_of
from gadkit.data.views import normalise, resize
from gadkit.evaluation.features import encode
from gadkit.evaluation.probes import fit_linear, knn_accuracy, linear_probe
from gadkit.evaluation.representation import effective_rank
from gadkit.evaluation.results import merge, read
from gadkit.evaluation.sets import parts
from gadkit.factory.pool import unlabelled
from gadkit.files import provenance
from gadkit.method import MethodBase
from gadkit.nn import ViT, mlp, teacher_of
from gadkit.protocols import Backbone
from gadkit.selfsup import BYOL, MoCoV3, SimCLR
from gadkit.supervised import Supervised
from gadkit.train import Plan, learn

POOL = 1024  # photographs to learn from
ASKED = 8, 4  # products of a category to learn from and to be asked about, two photographs each
FEW = (1, 2, 4, 8, 16)  # labelled photographs of a category
NETWORKS = ("random", "vit", "convnext", "swin", "simclr")
SOUND = ("random", "vit", "simclr")  # that are asked whether a part is sound
Values = dict[str, Any]
Steps = int | None  # None: as many as on the page
_pool = cache(unlabelled)


def recorded(method: MethodBase) -> list[Tensor]:
    """The losses of a method, written down from now on."""
    losses, loss = [], method.loss

    def kept(views: list[Tensor]) -> Tensor:
        value = loss(views)
        losses.append(value.detach())
        return value

    method.loss = kept
    return losses


def few_labels(x: Tensor, labels: Tensor, y: Tensor, truth: Tensor) -> list[float]:
    """Accuracy of a linear layer by how many photographs of a category have a label, new products first."""
    classes = int(labels.max()) + 1
    places = torch.arange(len(x)).view(classes, -1, 2).transpose(1, 2).reshape(classes, -1)
    rows = [places[:, :n].flatten() for n in FEW if n <= places.shape[1]]
    return [linear_probe(x[r], labels[r], y, truth) for r in rows]


def within(x: Float[Tensor, "n d"], labels: Int[Tensor, "n"]) -> float:
    """The share of the variance that lies within categories."""
    x = x - x.mean(0)
    means = torch.stack([x[labels == c].mean(0) for c in labels.unique()])
    return float((x - means[labels]).square().sum() / x.square().sum())


def tells_sound(backbone: Backbone, count: int = 512) -> list[float]:
    """AUROC of a linear layer that tells defective photographs, learnt on one half of them and asked on the other."""
    pool, half = _pool(POOL), count // 2
    x, sound, found = encode(backbone, pool.images[:count]).pooled, pool.defects[:count] < 0, []
    for a, b in ((slice(0, half), slice(half, count)), (slice(half, count), slice(0, half))):
        logits = fit_linear(x[a], sound[a].long(), 2).logits(x[b])
        found.append(auroc((logits[:, 0] - logits[:, 1]).numpy(), (~sound[b]).numpy()))
    return found


def network(name: str, asked: tuple[int, int] = ASKED, count: int = 512) -> Values:
    """What a shipped network knows of the 27 categories and, some of them, of defects."""
    backbone, sets = zoo.load(name), (parts(products=asked[0]), parts(0, asked[1]))
    x, y = (encode(backbone, s.images).pooled for s in sets)
    rows = x, sets[0].labels, y, sets[1].labels
    values = {"knn": knn_accuracy(*rows), "linear": linear_probe(*rows), "few": few_labels(*rows)}
    return values | {"within": within(x, rows[1])} | ({"sound": tells_sound(backbone, count)} if name in SOUND else {})


def painted(steps: Steps = None, asked: tuple[int, int] = ASKED) -> Values:
    """A supervised training in which the border of a photograph tells its category."""
    pool, steps = _pool(POOL), steps or 40
    frame = torch.ones(96, 96, dtype=torch.bool)
    frame[8:-8, 8:-8] = False
    torch.manual_seed(0)
    paint = torch.randint(0, 256, (len(pool.classes), 3, 1, 1), dtype=torch.uint8)
    images = torch.where(frame, paint[pool.labels], pool.images)
    method = Supervised("convnext")
    losses = recorded(method)
    learn(method, {"images": images, "labels": pool.labels}, Plan(steps=steps, lr=method.lr, warmup=4, batch=64))
    eyes, sets = Timm(method.encoder.eval(), TINY, patch_size=8), (parts(products=asked[0]), parts(0, asked[1]))
    x, y = (encode(eyes, s.images).pooled for s in sets)
    probe = linear_probe(x, sets[0].labels, y, sets[1].labels)
    return {"loss": float(torch.stack(losses[-10:]).mean()), "probe": probe}


def probed(method: MethodBase, asked: tuple[int, int] = ASKED) -> float:
    """A linear probe on a small network that learnt from views of 32 pixels."""
    eyes, sets = Encoder(method.encoder.eval(), image_size=32), (parts(products=asked[0]), parts(0, asked[1]))
    x, y = (encode(eyes, s.images).pooled for s in sets)
    return linear_probe(x, sets[0].labels, y, sets[1].labels)


def colours(strength: float, steps: Steps = None, asked: tuple[int, int] = ASKED) -> Values:
    """A small SimCLR whose views shake colours by `strength`: its loss over all photographs, and its probe."""
    images = _pool(POOL).images
    torch.manual_seed(0)
    method = SimCLR(ViT(image_size=32, depth=3), strength=strength)
    learn(method, {"images": images}, Plan(steps=steps or 40, lr=method.lr, warmup=4, batch=64))
    with torch.no_grad():  # in batches, each with its own statistics
        loss = torch.stack([method.loss(method.views({"images": batch})) for batch in images.split(64)])
    return {"loss": float(loss.mean()), "probe": probed(method, asked)}


class Queue(MoCoV3):
    """MoCo v3 with the queue put back: the keys of the last four batches are further negatives."""

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """InfoNCE of both directions, over the batch's keys and those of the queue."""
        q = [self.predictor(self.head(self.represent(v))) for v in views]
        with torch.no_grad():
            k = [F.normalize(self.teacher[1](self.teacher[0](v)[:, 0]), dim=1) for v in views]
        old = getattr(self, "old", k[0][:0])
        self.old = torch.cat([k[0], old])[: 4 * len(k[0])]
        keys = [torch.cat([one, old]) for one in reversed(k)]  # (5 n, d)
        logits = [F.normalize(a, dim=1) @ b.T / 0.2 for a, b in zip(q, keys, strict=True)]
        return 0.4 * sum(F.cross_entropy(x, torch.arange(len(x))) for x in logits)


def queue(kind: type[MoCoV3], steps: Steps = None, asked: tuple[int, int] = ASKED) -> Values:
    """A small MoCo v3 with or without a queue: its last loss, and its probe."""
    torch.manual_seed(0)
    method = kind(ViT(image_size=32, depth=3), momentum=0.9)
    losses = recorded(method)
    learn(method, {"images": _pool(POOL).images}, Plan(steps=steps or 32, lr=1e-3, warmup=4, batch=48))
    return {"loss": float(losses[-1]), "probe": probed(method, asked)}


def patches(fixed: bool, steps: Steps = None) -> Values:
    """A small MoCo v3 at ten times its rate, its patch embedding trained or fixed: losses, and norms of gradients."""
    torch.manual_seed(2)
    method = MoCoV3(ViT(image_size=32, depth=3), fixed_patches=fixed)
    layers = {"patch embedding": method.encoder.patch, "last block": method.encoder.blocks[-1]}
    losses, after, norms = recorded(method), method.after_step, {name: [] for name in layers}

    def record(progress: float) -> None:
        for name, layer in layers.items():
            held = [p.grad for p in layer.parameters() if p.requires_grad]
            norms[name].append(sum(float(g.norm()) ** 2 for g in held) ** 0.5)
        after(progress)

    method.after_step = record
    plan = Plan(steps=steps or 60, lr=1e-2, warmup=6, batch=48, clip=math.inf)
    learn(method, {"images": _pool(POOL).images}, plan, seed=2)
    return {"losses": [float(loss) for loss in losses]} | norms


def little(norms: Mapping[str, bool] | None = None, **options: Any) -> BYOL:
    """A little BYOL, its head normalised where the paper's is; with `norms`, a head that is drawn anew."""
    torch.manual_seed(0)
    method = BYOL(ViT(image_size=32, depth=2), **options)
    method.head = mlp((128, 256, 128))
    if norms is not None:
        method.head = mlp((128, 256, 128), **norms)
    method.teacher = teacher_of(torch.nn.Sequential(method.encoder, method.head))
    return method


@torch.no_grad()
def state(method: BYOL, still: Tensor) -> tuple[float, float]:
    """Effective rank of the projections, and their spread: 1 for an even covering of the sphere."""
    z = method.head(method.represent(still))
    spread = F.normalize(z, dim=1).std(0).mean() * z.shape[1] ** 0.5
    return effective_rank(z), spread.item()


def collapses(norms: Mapping[str, bool] | None = None, steps: Steps = None, **options: Any) -> Values:
    """Losses, ranks and spreads of a little BYOL, step by step."""
    method, images, seen = little(norms, **options), _pool(POOL).images, []
    losses, after, still = recorded(method), method.after_step, normalise(resize(images[:128], 32))

    def watch(progress: float) -> None:
        after(progress)
        seen.append(state(method, still))

    method.after_step = watch
    learn(method, {"images": images}, Plan(steps=steps or 30, lr=2e-3, warmup=3, batch=32))
    ranks, spreads = zip(*seen, strict=True)
    return {"losses": [float(loss) for loss in losses], "ranks": ranks, "spreads": spreads}


def questions() -> Iterator[tuple[str, str, Callable[..., Values]]]:
    """Pages, what each of them asks, and what answers it."""
    for name in NETWORKS:
        yield "selfsup/supervised", name, partial(network, name)
    yield "selfsup/supervised", "painted", painted
    for strength in (0.0, 1.0):
        yield "selfsup/simclr", f"strength {strength}", partial(colours, strength)
    for fixed in (False, True):
        yield "selfsup/mocov3", f"patch embedding {'fixed' if fixed else 'trained'}", partial(patches, fixed)
    for kind in (MoCoV3, Queue):
        yield "selfsup/mocov3", kind.__name__, partial(queue, kind)
    bare = {"predictor": False, "momentum": 0.0}
    variants = {"no predictor": {"predictor": False}, "no slow teacher": {"momentum": 0.0}}
    for name, options in (variants | {"fixed teacher": {"momentum": 1.0}}).items():
        yield "selfsup/byol", name, partial(collapses, **options)
    for where, norms in {"none": {"norm": False}, "middle": {}, "end, too": {"last_norm": True}}.items():
        for name, options in {"BYOL": {}, "neither": bare}.items():
            yield "selfsup/byol", f"{where}: {name}", partial(collapses, norms, **options)
    for m in (0.5, 0.9, 0.99, 0.999):
        yield "selfsup/byol", f"m {m}", partial(collapses, momentum=m)


def rounded(value: Any) -> Any:
    """Numbers to five digits after the point, also within lists."""
    return [rounded(one) for one in value] if isinstance(value, (list, tuple)) else round(float(value), 5)


def key(row: Mapping[str, Any]) -> tuple[str, str]:
    """What tells one row from another."""
    return row["page"], row["what"]


def main(argv: Sequence[str] | None = None) -> int:
    """Answer what is not in the file."""
    pages = tuple(dict.fromkeys(page for page, *_ in questions()))
    parser = argparse.ArgumentParser(description="Short trainings and probes of pages of Part I.")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="results file to merge into")
    parser.add_argument("--pages", nargs="+", default=pages, metavar="PAGE", help=f"(default: all) {', '.join(pages)}")
    given = parser.parse_args(argv)
    about = "short trainings and probes of pages of Part I, with the pages' seeds"
    try:
        for page in given.pages:
            one_of("PAGE", page, pages)
        merge(given.out, [], key, about)  # whether it can be written, before anything is trained
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for page, what, answer in questions():
        if page not in given.pages or (page, what) in map(key, read(given.out)):
            continue
        start = time.process_time()
        values = {name: rounded(value) for name, value in answer().items()}
        row = {"page": page, "what": what, "values": values, "cpu_seconds": round(time.process_time() - start, 1)}
        merge(given.out, [row | provenance(torch.device("cpu"))], key, about)
        sys.stderr.write(f"{page}, {what}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
