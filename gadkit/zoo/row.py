"""What a row of the zoo's table is, and what a name can give.

Book: intro/run-it
"""

from dataclasses import dataclass
from typing import Any

from gadkit.weights import Weights

PRESETS = ("tiny", "paper")
IMAGE, TEXT, METHOD, HEADS = "image encoder", "text encoder", "method", "heads"  # what a name can give
OBJECTS = ("promptable segmenter", "open-vocabulary detector", "universal segmenter")  # and what object models give
PROMPTABLE, OPEN_VOCABULARY, UNIVERSAL = OBJECTS
READER = "reader"  # a model that answers in words: captions, answers, matches
HUB = "https://huggingface.co/"
REAL = "efficientnet-lite0"  # the eyes that the package ships


@dataclass(frozen=True)
class Row:
    """A name and what stands behind it.

    `gives` lists what `load` makes of it, first what it makes unless asked.  `tiny` and `paper` are its weights under
    the two presets, or the reason why there are none.  `trains`: whether `gadkit train NAME` makes the weights.
    """

    name: str
    gives: tuple[str, ...]
    tiny: Weights | str
    paper: Weights | str
    trains: bool = False

    def under(self, preset: str) -> Weights | str:
        """The weights under a preset, or the reason why there are none."""
        return {"tiny": self.tiny, "paper": self.paper}[preset]


def random_row(name: str, gives: tuple[str, ...], card: str, adapter: str, **options: Any) -> Row:
    """A network as it is before training: the control of every table, the same under every preset."""
    options |= {"random": True}
    blank = Weights("gadkit", "random weights, seed 0", "MIT", 0.0, card, "nothing", adapter, options)
    return Row(name, gives, blank, blank)
