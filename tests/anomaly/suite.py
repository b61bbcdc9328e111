"""What the tests of detectors have in common: pictures, comparisons of results, and the way through a file."""

import json

import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor

from gadkit.protocols import AnomalyResult, DetectorState


def textured(count: int, height: int = 40, width: int = 56) -> Tensor:
    """Pictures with structure of every size, as a rule not square: uint8 (count, 3, height, width)."""
    draw = torch.Generator().manual_seed(3)
    coarse, fine = (torch.rand(count, 3, *s, generator=draw) for s in ((height // 8, width // 8), (height, width)))
    coarse = F.interpolate(coarse, (height, width), mode="bilinear")
    return (255 * (0.7 * coarse + 0.3 * fine)).round().to(torch.uint8)


def same(ours: AnomalyResult, theirs: AnomalyResult, atol: float = 1e-5, rtol: float = 0.0) -> None:
    """Maps and scores differ by no more than rounding does."""
    torch.testing.assert_close(ours.maps, theirs.maps, atol=atol, rtol=rtol)
    torch.testing.assert_close(ours.scores, theirs.scores, atol=atol, rtol=rtol)


def joined(results: list[AnomalyResult]) -> AnomalyResult:
    """The results of several calls as one."""
    return AnomalyResult(torch.cat([r.maps for r in results]), torch.cat([r.scores for r in results]))


def identical(a: AnomalyResult, b: AnomalyResult) -> bool:
    """To the last bit."""
    return torch.equal(a.maps, b.maps) and torch.equal(a.scores, b.scores)


def through_files(state: DetectorState) -> DetectorState:
    """A state as it comes back from a file: tensors by safetensors, the rest by JSON."""
    words = json.loads(json.dumps({"d": state.detector, "v": state.version, "p": state.parameters}))
    return DetectorState(words["d"], words["v"], words["p"], load(save(dict(state.tensors))))
