"""InCTRL's speed on the published architecture, against doing the same as the published loop does it.

The plain way encodes the normal images and the texts again with every image, keeps attention's weights, pads texts to
the context length, and compares patch by patch in a loop, normalising the normal patches each time.  Both have the same
random weights, heads, texts and images.

Book: anomaly/inctrl
"""

import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from benchmarks import Timing, best
from benchmarks.neighbors import peak
from benchmarks.winclip import NAME, SHOTS, random_clip
from gadkit.anomaly.detectors import InCTRL
from gadkit.anomaly.detectors.residual_heads import ResidualHeads, untrained
from gadkit.backbones.openclip import OpenCLIP
from gadkit.runtime import device, has_bf16


class Plain:
    """InCTRL by the paper's text, one image after the other, on open_clip's own modules."""

    def __init__(self, like: InCTRL, net: ResidualHeads, normal: Tensor) -> None:
        self.clip, self.like, self.net = like.backbone, like, net
        self.normal = self.clip.preprocess(normal.to(self.clip.device))

    def encode(self, prepared: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Image vectors, and patch tokens after each of the blocks."""
        visual = self.clip.model.visual
        x, found = visual.ln_pre(self.clip.embed_patches(prepared)), []
        for i, block in enumerate(visual.transformer.resblocks):
            y = block.ln_1(x)
            x = x + block.ls_1(block.attn(y, y, y, need_weights=True)[0])
            x = x + block.ls_2(block.mlp(block.ln_2(x)))
            if i in self.like.layers:
                found.append(x[:, 1:])
        return visual.ln_post(x[:, 0]) @ visual.proj, found

    def text(self, vector: Tensor) -> Tensor:
        """The probability of "anomalous", from padded prompts."""
        clip, sides = self.clip, []
        for texts in self.like.prompts.texts(NAME):
            vectors = clip.model.encode_text(clip.tokenizer(texts).to(clip.device))
            sides.append(F.normalize(F.normalize(vectors, dim=-1).mean(0), dim=0))
        cosines = F.normalize(vector, dim=-1) @ torch.stack(sides).T
        return (cosines / self.like.temperature).softmax(-1)[:, 1]

    @torch.no_grad()
    def score(self, images: Tensor) -> Float[Tensor, "b"]:
        """Scores."""
        found = []
        for image in self.clip.preprocess(images).split(1):
            vector, patches = self.encode(image)
            prompts, known = self.encode(self.normal)
            maps = [self.nearest(x[0], y.flatten(0, 1)) for x, y in zip(patches, known, strict=True)]
            residual = torch.stack(maps).mean(0)[None]
            found.append(self.net(residual, self.net.compare(vector, prompts), self.text(vector))["score"])
        return torch.cat(found)

    @staticmethod
    def nearest(queries: Float[Tensor, "n e"], known: Float[Tensor, "m e"]) -> Float[Tensor, "n"]:
        """Patch by patch, the distance from the nearest known one."""
        near = []
        for patch in queries:
            cosines = patch / patch.norm() @ (known / known.norm(dim=-1, keepdim=True)).T
            near.append((0.5 * (1 - cosines)).min())
        return torch.stack(near)


def rows(
    make: Callable[[], OpenCLIP] = lambda: random_clip(device()),
    rounds: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Seconds an image and most memory of both, how many times as fast ours is, and the largest change of a score."""
    clip, draw = make(), torch.Generator().manual_seed(0)
    heads, side = untrained(clip.grid[0] * clip.grid[1], clip.embed_dim), clip.image_size
    images = torch.randint(0, 256, (1 + SHOTS, 3, side, side), dtype=torch.uint8, generator=draw).to(clip.device)
    image, normal = images[:1], images[1:]
    precisions = ["float32"] + ["bfloat16"] * has_bf16(clip.device)
    ours = {f"gadkit {p}": InCTRL(clip, NAME, heads, precision=p).fit(normal) for p in precisions}
    plain = Plain(ours["gadkit float32"], _net(clip, heads), normal)
    runs = {"plain": lambda: plain.score(image)}
    runs |= {name: lambda detector=detector: detector.score(image).scores for name, detector in ours.items()}
    seconds = best(runs, rounds, clock)
    label, expected = f"{SHOTS}-shot", plain.score(image)
    for name, took in seconds.items():
        yield f"{label}, {name}", took, f"s/image, {clip.device}, {torch.get_num_threads()} threads"
    for name in ours:
        yield f"{label}, {name} against plain", seconds["plain"] / seconds[name], "times faster"
        change = (runs[name]() - expected).abs().max()
        yield f"{label}, {name}: largest change of a score", float(change), ""
    for name, run in runs.items():
        yield f"{label}, {name}: most memory at once", peak(run, clip.device) / 1e6, "MB beyond the weights"


def _net(clip: OpenCLIP, heads: dict[str, Tensor]) -> ResidualHeads:
    net = ResidualHeads(clip.grid[0] * clip.grid[1], clip.embed_dim)
    net.load_state_dict(heads, strict=False)
    return net.eval().to(clip.device)
