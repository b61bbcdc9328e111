"""Encoding texts in batches that are cut behind the last word, against open_clip's own way: padded to the context.

Book: multimodal/embeddings
"""

import time
from collections.abc import Callable, Iterator

import torch

from benchmarks import Timing, best
from gadkit import factory, zoo
from gadkit.backbones.openclip import OpenCLIP

STATES = ("flawless", "damaged", "scratched", "bent", "stained", "broken")


def prompts(count: int) -> list[str]:
    """Prompts of every part in every state, over and over."""
    nouns = dict.fromkeys(category.nouns[0] for category in factory.CATEGORIES.values())
    every = [f"a photo of a {state} {noun}" for noun in nouns for state in STATES]
    return [every[i % len(every)] for i in range(count)]


def rows(
    make: Callable[[], OpenCLIP] = lambda: zoo.load("clip-scratch", "tiny"),
    count: int = 256,
    rounds: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Iterator[Timing]:
    """Texts a second: ours at once, ours one by one, and open_clip's `encode_text`, at once; and the largest gap."""
    clip, texts = make(), prompts(count)

    @torch.no_grad()
    def theirs() -> torch.Tensor:
        return clip.model.encode_text(clip.tokenizer(texts).to(clip.device))

    sides = {
        "gadkit, at once": lambda: clip.encode_text(texts),
        "gadkit, one by one": lambda: torch.cat([clip.encode_text([text]) for text in texts]),
        "open_clip, at once": theirs,
    }
    seconds = best(sides, rounds, clock)
    for side, took in seconds.items():
        yield side, count / took, f"texts/s, {count} texts, {clip.device}, {torch.get_num_threads()} threads"
    yield "gadkit / open_clip", seconds["open_clip, at once"] / seconds["gadkit, at once"], "times as fast"
    yield "at once / one by one", seconds["gadkit, one by one"] / seconds["gadkit, at once"], "times as fast"
    yield "largest gap", (clip.encode_text(texts) - theirs()).abs().max().item(), ""
