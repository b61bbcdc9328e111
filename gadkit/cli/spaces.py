"""Where `gadkit search` compares photographs with what is asked for: ConSE, or any network of the zoo that sees.

Book: multimodal/embeddings
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from gadkit import weights, zoo
from gadkit.backbones import sentences
from gadkit.checks import one_of
from gadkit.cli.streams import loading
from gadkit.multimodal.conse import ConSE

CONSE = "conse"  # a classifier's answers, read by a sentence encoder: what photographs are searched by words with
EYES, READER = zoo.REAL, "minilm"


@dataclass(frozen=True)
class Space:
    """Unit vectors of photographs, and of texts where the network reads.

    `image_size` is the side that photographs may be squashed to before; None for a space that wants them whole.
    `full` counts the texts that are too long to be read to their ends.
    """

    name: str
    encode_image: Callable[[UInt8[Tensor, "b 3 h w"]], Float[Tensor, "b d"]]
    encode_text: Callable[[Sequence[str]], Float[Tensor, "n d"]] | None
    full: Callable[[Sequence[str]], int]
    image_size: int | None


def default(texts: bool) -> str:
    """The space that is taken where none is named: for texts ConSE, without any the network that saw most."""
    return CONSE if texts else EYES


def check(name: str, preset: str | None, texts: bool, what: str = "--model") -> None:
    """Whether there is such a space, and weights for it, without loading any; `texts` asks for one that reads.

    Raises ValueError for an unknown name or preset, and for one that does not read where it has to;
    `WeightsUnavailable` for a name that has no weights under the preset.
    """
    one_of(what, name, (CONSE, *zoo.list(zoo.IMAGE)))
    reading = [CONSE, *(one for one in zoo.list(zoo.IMAGE) if zoo.TEXT in zoo.row(one).gives)]
    if texts and name not in reading:
        raise ValueError(
            f"QUERY: expected a model that reads texts ({', '.join(reading)}), got {name}, which sees images only: "
            "ask it with --like PHOTO"
        )
    zoo.check([EYES if name == CONSE else name], preset, what)
    if name == CONSE:
        sentences.packaged(zoo.find(READER, preset))


def weights_of(name: str, preset: str) -> str:
    """The weights of a space by their names, each with the first digits of its sum where it is shipped."""
    found = []
    for one in (EYES, READER) if name == CONSE else (name,):
        source = zoo.find(one, preset)
        digits = _sums().get(f"{source.id}.safetensors", "")[:12]
        found.append(source.id + f" {digits}" * bool(digits))
    return ", ".join(found)


def _sums() -> dict[str, str]:
    """The sums of the files that are shipped, by name."""
    lines = (weights.ASSETS / weights.SUMS).read_text(encoding="utf-8").splitlines()
    return {name: digits for digits, name in (line.split("  ", 1) for line in lines)}


def load(name: str, preset: str, device: str) -> Space:
    """The space of this name, ready for use; raises as `zoo.load` does."""
    if name == CONSE:
        loading(EYES, preset)
        eyes, reader = (zoo.load(one, preset, device) for one in (EYES, READER))
        conse = ConSE(eyes, reader)
        return Space(name, conse.encode_image, conse.encode_text, reader.full, None)
    loading(name, preset)
    network = zoo.load(name, preset, device)

    @torch.no_grad()
    def encode_image(images: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b d"]:
        prepared = network.preprocess(images.to(network.device))
        return F.normalize(network.encode_image(prepared, ()).pooled.float(), dim=1).cpu()

    def encode_text(texts: Sequence[str]) -> Float[Tensor, "n d"]:
        return F.normalize(network.encode_text(texts).float(), dim=1).cpu()

    reads = zoo.TEXT in zoo.row(name).gives
    full = network.full if reads else lambda texts: 0
    return Space(name, encode_image, encode_text if reads else None, full, network.image_size)
