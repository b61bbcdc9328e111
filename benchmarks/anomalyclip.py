"""AnomalyCLIP's speed and memory on the published architecture, against the loop of its authors' test script.

That loop encodes the two prompts once, padded to the context length; the image one at a time, with both attentions
written out, every token of every block; and smooths the enlarged map by SciPy.  Both sides have the same random
weights, see the same image of 518 pixels and take turns.  On a CPU seconds are those of the processor, so that what
other programs take does not count.  `GADKIT_BENCH_BLOCKS` shortens the tower for a trial.

Book: anomaly/anomalyclip
"""

import os
import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from benchmarks import best
from benchmarks.neighbors import peak
from benchmarks.winclip import random_clip
from gadkit.anomaly.detectors.anomalyclip import AnomalyCLIP, untrained
from gadkit.backbones.openclip import OpenCLIP
from gadkit.protocols import AnomalyResult
from gadkit.runtime import device, has_bf16

SIDE, ROUNDS = 518, 1


class Plain:
    """The authors' loop by its steps, on open_clip's own modules."""

    def __init__(self, clip: OpenCLIP, like: AnomalyCLIP) -> None:
        self.clip, self.like = clip, like

    @torch.no_grad()
    def encode_text(self) -> Tensor:
        """The two text vectors, from prompts padded to the context length."""
        text, vectors = self.clip.text, []
        for name, words in zip(("normal", "anomalous"), self.like.words, strict=True):
            context, tokens = self.like.heads[name], self.clip.tokenizer([words]).to(self.clip.device)
            x = torch.cat([text.token_embedding(tokens)[:, :1], context[None], text.token_embedding(tokens)[:, 1:]], 1)
            x = x[:, : self.clip.context_length] + text.positional_embedding
            for number, block in enumerate(text.transformer.resblocks):
                if 0 < number <= len(self.like.heads["deep"]):
                    deep = self.like.heads["deep"][number - 1]
                    x = torch.cat([x[:, :1], deep[None], x[:, 1 + len(deep) :]], 1)
                x = block(x, attn_mask=text.attn_mask)
            x = text.ln_final(x)[0, int(tokens.argmax()) + len(context)]
            vectors.append(x @ text.text_projection)
        return F.normalize(torch.stack(vectors), dim=-1)

    def attention(self, block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the values find, and what the queries find, with all weights written out."""
        qkv = F.linear(x, block.attn.in_proj_weight, block.attn.in_proj_bias)
        q, k, v = (part.unflatten(-1, (block.attn.num_heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
        found = []
        for a, b in ((v, v), (q, k)):
            weights = (a @ b.transpose(-2, -1) * a.shape[-1] ** -0.5).softmax(-1)  # (b, heads, t, t)
            found.append(block.attn.out_proj((weights @ v).transpose(1, 2).flatten(2)))
        return found[0], found[1]

    @torch.no_grad()
    def score(self, images: Tensor) -> AnomalyResult:
        """Maps and scores, image by image."""
        found = [self._one(image[None]) for image in images]
        return AnomalyResult(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _one(self, image: Tensor) -> tuple[Tensor, Tensor]:
        clip, visual, text = self.clip, self.clip.model.visual, self.like.text_vectors_
        x, stream = visual.ln_pre(clip.embed_patches(clip.preprocess(image))), None
        blocks = visual.transformer.resblocks
        for number, block in enumerate(blocks):
            if number < len(blocks) - self.like.blocks:
                x = block(x)
                continue
            by_value, ordinary = self.attention(block, block.ln_1(x))
            stream = (x if stream is None else stream) + by_value
            x = x + ordinary
            x = x + block.mlp(block.ln_2(x))
        vector = F.normalize(x[:, 0] @ visual.proj, dim=-1)
        patches = F.normalize(visual.ln_post(stream) @ visual.proj, dim=-1)[:, 1:]
        cosines = (patches[:, :, None] * text[None, None]).sum(-1)  # (1, n, 2)
        grid = (cosines / self.like.temperature).softmax(-1).transpose(1, 2).unflatten(2, clip.grid)
        both = F.interpolate(grid, tuple(image.shape[2:]), mode="bilinear", align_corners=False)
        maps = (both[:, 1] + 1 - both[:, 0]) / 2
        smooth = gaussian_filter(maps[0].cpu().numpy(), self.like.sigma * image.shape[2])
        return torch.from_numpy(smooth)[None], (vector @ text.T / self.like.temperature).softmax(-1)[:, 1].cpu()


def rows() -> Iterator[tuple[str, float, str]]:
    """(name, value, unit): seconds, how many times faster than the plain loop, memory, and the largest change."""
    blocks = int(os.environ.get("GADKIT_BENCH_BLOCKS", 24))
    clip = random_clip(device(), "clip-large", blocks).at(SIDE)
    heads = {name: value.to(clip.device) for name, value in untrained(clip).items()}
    draw = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, SIDE, SIDE), dtype=torch.uint8, generator=draw).to(clip.device)
    precisions = ["float32"] + ["bfloat16"] * has_bf16(clip.device)
    ours = {f"gadkit {p}": AnomalyCLIP(clip, heads, precision=p).fit() for p in precisions}
    plain = Plain(clip, ours["gadkit float32"])
    clock = time.perf_counter if clip.device.type == "cuda" else time.process_time
    texts = best({"padded": plain.encode_text, "gadkit": ours["gadkit float32"].text}, clock=clock)
    for name, took in texts.items():
        yield f"two prompts, {name}", took, "s"
    yield "two prompts, gadkit against padded", texts["padded"] / texts["gadkit"], "times faster"
    contestants = {"plain": plain.score, **{name: detector.score for name, detector in ours.items()}}
    answers = {name: score(image) for name, score in contestants.items()}
    seconds = best({name: lambda score=score: score(image) for name, score in contestants.items()}, ROUNDS, clock)
    for name, took in seconds.items():
        yield name, took, "s/image"
        yield (
            f"{name}, memory beyond the weights",
            peak(lambda name=name: contestants[name](image), clip.device) / 1e6,
            "MB",
        )
    for name in ours:
        yield f"{name} against plain", seconds["plain"] / seconds[name], "times faster"
        yield f"{name}: largest change of a score", change(answers[name], answers["plain"]), ""


def change(a: AnomalyResult, b: AnomalyResult) -> float:
    """The largest difference of a pixel or a score."""
    return max(float((x.cpu() - y.cpu()).abs().max()) for x, y in ((a.maps, b.maps), (a.scores, b.scores)))
