"""WinCLIP's speed on the published architecture, against doing the same plainly.

The plain way sends every window of a scale through open_clip's own tower, unshared and in one batch; texts are padded
to the context length, patches aggregated in a loop, references normalised with every image.  Where anomalib is
installed, its model takes part, mended where it hands the transformer tokens sequence-first: open_clip has been
batch-first since 2.26.1, and all windows come out alike.  All contestants have the same random weights and texts, see
the same image, keep the last LayerNorm on patches as anomalib does, and take turns.

Book: anomaly/winclip
"""

import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from gadkit import zoo
from gadkit.anomaly.detectors import WinCLIP
from gadkit.anomaly.maps import window_indices
from gadkit.backbones.openclip import OpenCLIP
from gadkit.protocols import AnomalyResult
from gadkit.runtime import device, has_bf16

NAME, SHOTS, ROUNDS = "metal nut", 4, 2
Score = Callable[[Tensor], AnomalyResult]


class Plain:
    """WinCLIP and WinCLIP+ by the paper's text, one step after the other, on open_clip's own modules."""

    def __init__(self, clip: OpenCLIP, like: WinCLIP) -> None:
        self.clip, self.like = clip, like
        self.windows = {s: window_indices(clip.grid, s).to(clip.device) for s in like.scales}
        self.references: tuple[Tensor, dict[int, Tensor]] | None = None

    @torch.no_grad()
    def encode_text(self) -> Tensor:
        """The two text vectors, from padded prompts."""
        clip, groups = self.clip, self.like.prompts.texts(NAME)
        vectors = [clip.model.encode_text(clip.tokenizer(texts).to(clip.device)).mean(0) for texts in groups]
        return F.normalize(torch.stack(vectors), dim=-1)

    @torch.no_grad()
    def see(self, images: Tensor) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """Features of images, patches and windows, as they come."""
        visual = self.clip.model.visual
        x0 = self.clip.embed_patches(self.clip.preprocess(images))
        last = visual.ln_post(visual.transformer(visual.ln_pre(x0)))
        windows = {}
        for scale, index in self.windows.items():
            cls = x0[:, None, :1].expand(-1, len(index), -1, -1)
            x = torch.cat([cls, x0[:, 1:][:, index]], dim=2).flatten(0, 1)  # (b w, 1 + k, width)
            x = visual.ln_post(visual.transformer(visual.ln_pre(x)))[:, 0] @ visual.proj
            windows[scale] = x.unflatten(0, (len(images), -1))
        return last[:, 0] @ visual.proj, last[:, 1:], windows

    def probability(self, features: Tensor) -> Tensor:
        """The probability of "anomalous"."""
        return (F.normalize(features, dim=-1) @ self.like.text_vectors_.T / self.like.temperature).softmax(-1)[..., 1]

    def spread(self, scores: Tensor, scale: int) -> Tensor:
        """Each patch's harmonic mean over the windows that cover it, patch by patch."""
        rows, columns = self.clip.grid
        covers = [(self.windows[scale] == i).any(1) for i in range(rows * columns)]
        return torch.stack([1 / (1 / scores[:, c]).mean(1) for c in covers], 1).view(-1, rows, columns)

    @torch.no_grad()
    def score(self, images: Tensor) -> AnomalyResult:
        """Maps and scores."""
        vectors, patches, windows = self.see(images)
        score = self.probability(vectors)
        inverse = 1 / score[:, None, None] + sum(1 / self.spread(self.probability(w), s) for s, w in windows.items())
        grid = (1 + len(windows)) / inverse
        if self.references is not None:
            maps = [_away(patches, self.references[0]).unflatten(1, self.clip.grid)]
            maps += [self.spread(_away(w, self.references[1][s]), s) for s, w in windows.items()]
            few = sum(maps) / len(maps)
            score, grid = (score + few.amax((1, 2))) / 2, (grid + few) / 2
        size = tuple(images.shape[2:])
        return AnomalyResult(F.interpolate(grid[:, None], size, mode="bilinear", align_corners=False)[:, 0], score)


def _away(features: Tensor, references: Tensor) -> Tensor:
    cosine = F.normalize(features, dim=-1) @ F.normalize(references.flatten(0, 1), dim=-1).T
    return (1 - cosine.amax(-1)) / 2


def anomalib(clip: OpenCLIP, like: WinCLIP, normal: Tensor | None) -> Score | None:
    """anomalib's WinCLIP with the weights of `clip`, mended; None where it is not installed."""
    try:
        from anomalib.models.image.winclip import torch_model
    except ImportError:
        return None

    class Mended(torch_model.WinClipModel):
        def _get_window_embeddings(self, *args: Tensor) -> Tensor:
            self.clip.visual.transformer.batch_first = False  # what it is about to be given
            try:
                return super()._get_window_embeddings(*args)
            finally:
                self.clip.visual.transformer.batch_first = True

    torch_model.PRETRAINED = None  # random weights first, then ours
    model = Mended().to(clip.device).eval()
    model.clip.load_state_dict(clip.model.state_dict())
    model._text_embeddings = like.text_vectors_
    if normal is not None:
        model.setup(reference_images=clip.preprocess(normal))

    def score(images: Tensor) -> AnomalyResult:
        answer = model(clip.preprocess(images))
        return AnomalyResult(answer.anomaly_map, answer.pred_score)

    return score


def _timed(run: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    answer = run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start, answer


def random_clip(where: torch.device, name: str = "clip", blocks: int | None = None) -> OpenCLIP:
    """The published architecture of a name with random weights: as fast as the trained one, and nothing to download.

    `blocks` cuts the image tower down to so many.
    """
    import open_clip

    architecture = zoo.find(name, "paper").id.split("/")[0]
    vision = open_clip.get_model_config(architecture)["vision_cfg"]
    vision |= {} if blocks is None else {"layers": blocks}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.create_model(architecture, load_weights=False, vision_cfg=vision, device=where)
    return OpenCLIP(model, open_clip.get_tokenizer(architecture))


def _contest(label: str, contestants: dict[str, Score], image: Tensor) -> Iterator[tuple[str, float, str]]:
    """Best seconds of each, in turns so that a busy moment of the machine hits all alike; ratios; changes of scores."""
    seconds, answers = dict.fromkeys(contestants, float("inf")), {}
    for i in range(ROUNDS + 1):
        for name, score in contestants.items():
            took, answers[name] = _timed(lambda score=score: score(image))
            seconds[name] = min(seconds[name], took) if i else seconds[name]  # the first round warms up
    plain = answers["plain"]
    for name, took in seconds.items():
        yield f"{label}, {name}", took, "s/image"
    for name, answer in answers.items():
        for other in ("plain", "anomalib, mended"):
            if name.startswith("gadkit") and other in answers:
                yield f"{label}, {name} against {other}", seconds[other] / seconds[name], "times faster"
        if name != "plain":
            change = max((answer.maps - plain.maps).abs().max(), (answer.scores - plain.scores).abs().max())
            yield f"{label}, {name}: largest change of a score", float(change), ""


def rows() -> Iterator[tuple[str, float, str]]:
    """(name, value, unit): seconds, how many times faster than others, and the largest change of any score."""
    clip = random_clip(device())
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1 + SHOTS, 3, 240, 240), dtype=torch.uint8, generator=draw).to(clip.device)
    image, normal = images[:1], images[1:]
    precisions = ["float32"] + ["bfloat16"] * has_bf16(clip.device)
    ours = {f"gadkit {p}": WinCLIP(clip, NAME, patch_norm=True, precision=p) for p in precisions}
    plain = Plain(clip, ours["gadkit float32"])
    padded, truncated = _timed(plain.encode_text)[0], _timed(ours["gadkit float32"].fit)[0]
    yield "text of a category, padded", padded, "s"
    yield "text of a category, gadkit", truncated, "s"
    yield "text of a category, gadkit against padded", padded / truncated, "times faster"
    for label, references in (("zero-shot", None), (f"{SHOTS}-shot", normal)):
        for detector in ours.values():
            detector.fit(references)
        plain.references = None if references is None else plain.see(references)[1:]
        contestants = {"plain": plain.score, **{name: detector.score for name, detector in ours.items()}}
        if (other := anomalib(clip, plain.like, references)) is not None:
            contestants["anomalib, mended"] = other
        yield from _contest(label, contestants, image)
