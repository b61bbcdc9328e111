"""The trained part of InCTRL: an adapter for image vectors, and two heads that turn residuals into scores.

Names and shapes are those of the published code, so that its checkpoints can be read.

Source: Zhu and Pang, Toward Generalist Anomaly Detection via In-context Residual Learning with Few-shot Sample
Prompts, CVPR 2024, sections 3.3 and 3.4.
Book: anomaly/inctrl
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from gadkit.checks import whole

TERMS = ("reference", "text")  # that can be added to the residual map
PARTS = ("adapter.", "diff_head.", "diff_head_ref.")  # how the names of the trained part begin


class Head(nn.Module):
    """Three linear layers to a probability; batch norm follows each ReLU."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.projection1 = nn.Linear(inputs, 128)
        self.projection2 = nn.Linear(128, 64)
        self.projection3 = nn.Linear(64, 1)
        self.bn2, self.bn3 = nn.BatchNorm1d(128), nn.BatchNorm1d(64)
        self.bn2.num_batches_tracked = self.bn3.num_batches_tracked = None  # counted, but nothing asks for it

    def forward(self, x: Float[Tensor, "b inputs"]) -> Float[Tensor, "b"]:
        """Probabilities of "anomalous"."""
        x = self.bn2(self.projection1(x).relu())
        x = self.bn3(self.projection2(x).relu())
        return self.projection3(x).sigmoid()[:, 0]


class ResidualHeads(nn.Module):
    """Adapter, reference head and holistic head for maps of `patches` residuals and image vectors of `width`.

    Raises ValueError for no patches and a width below 4.
    """

    def __init__(self, patches: int, width: int) -> None:
        super().__init__()
        whole("patches", patches), whole("width", width, 4)
        narrow = width // 4
        layers = nn.Linear(width, narrow, bias=False), nn.ReLU(), nn.Linear(narrow, width, bias=False), nn.ReLU()
        self.adapter = nn.ModuleDict({"fc": nn.Sequential(*layers)})
        self.diff_head, self.diff_head_ref = Head(patches), Head(width)

    def compare(
        self, queries: Float[Tensor, "b width"], prompts: Float[Tensor, "*c k width"]
    ) -> Float[Tensor, "b width"]:
        """The image residual: the mean of the k adapted normal vectors less the adapted query."""
        adapt = self.adapter["fc"]
        return adapt(prompts).mean(dim=-2) - adapt(queries)

    def forward(
        self,
        residual: Float[Tensor, "b patches"],
        adapter: Float[Tensor, "b width"],
        text: Float[Tensor, "b"] | None = None,
        reference: bool = True,
    ) -> dict[str, Tensor]:
        """Scores (b,) by name, and the `holistic_map` (b, patches): the residuals plus the scores that are asked for.

        `reference` is what the image residual's head says, `patch` the largest residual, `holistic` what the holistic
        head makes of the map, and `score` the mean of the last two.  `text` is None where no words are read.
        """
        image = self.diff_head_ref(adapter)
        total = residual if not reference else residual + image[:, None]
        total = total if text is None else total + text[:, None]
        holistic, patch = self.diff_head(total), residual.amax(dim=1)
        found = {"reference": image, "patch": patch, "holistic_map": total, "holistic": holistic}
        return found | {"score": (holistic + patch) / 2}


def untrained(patches: int, width: int, seed: int = 0) -> dict[str, Tensor]:
    """The tensors of heads before training, by name: torch's own initial values, drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResidualHeads(patches, width).state_dict()
