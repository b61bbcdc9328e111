"""Objectives refuse what would give a wrong number: temperatures, unequal batches; and they never hide a NaN."""

import math
from collections.abc import Callable

import pytest
import torch

from gadkit import losses

N, K = 6, 4
ROW, OTHER = torch.randn(2, N, K, generator=torch.Generator().manual_seed(0))
PATCHES, MASK = ROW.expand(3, -1, -1), torch.tensor([[True, False, True, False, False, True]]).expand(3, -1)
TEMPERATURES: dict[str, Callable[[float], object]] = {
    "sinkhorn": lambda t: losses.sinkhorn(ROW, t),
    "swav_loss": lambda t: losses.swav_loss([ROW, OTHER], t),
    "swav_loss, epsilon": lambda t: losses.swav_loss([ROW, OTHER], epsilon=t),
    "dino_loss, teacher": lambda t: losses.dino_loss([ROW, OTHER], [ROW, OTHER], torch.zeros(K), t),
    "dino_loss, student": lambda t: losses.dino_loss([ROW, OTHER], [ROW, OTHER], torch.zeros(K), 0.04, t),
    "ibot_loss, teacher": lambda t: losses.ibot_loss(PATCHES, PATCHES, MASK, torch.zeros(K), t),
    "ibot_loss, student": lambda t: losses.ibot_loss(PATCHES, PATCHES, MASK, torch.zeros(K), 0.04, t),
    "nt_xent": lambda t: losses.nt_xent(ROW, OTHER, t),
    "info_nce": lambda t: losses.info_nce(ROW, OTHER, t),
    "clip_loss": lambda t: losses.clip_loss(ROW, OTHER, t),
    "siglip_loss": lambda t: losses.siglip_loss(ROW, OTHER, t, -10.0),
}
PAIRS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "nt_xent": losses.nt_xent,
    "info_nce": losses.info_nce,
    "clip_loss": lambda a, b: losses.clip_loss(a, b, 10.0),
    "siglip_loss": lambda a, b: losses.siglip_loss(a, b, 10.0, -10.0),
    "byol_loss": losses.byol_loss,
    "swav_loss": lambda a, b: losses.swav_loss([a, b]),
    "dino_loss": lambda a, b: losses.dino_loss([a, b], [a, b], torch.zeros(K)),
    "balanced_sigmoid": lambda a, b: losses.balanced_sigmoid(a, b > 0),
    "mae_loss": lambda a, b: losses.mae_loss(a[None], b[None], torch.ones(1, len(a))),
    "ibot_loss": lambda a, b: losses.ibot_loss(a[None], b[None], torch.ones(1, len(a)).bool(), torch.zeros(K)),
}


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("name", TEMPERATURES)
def test_a_temperature_is_a_positive_number(name: str, temperature: float) -> None:
    TEMPERATURES[name](0.1)
    with pytest.raises(ValueError, match="expected a number"):
        TEMPERATURES[name](temperature)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("other", [OTHER[:5], OTHER[:1], OTHER[:, :3], OTHER[:0]], ids=["rows", "one", "width", "none"])
def test_what_belongs_together_has_one_shape(name: str, other: torch.Tensor) -> None:
    assert PAIRS[name](ROW, OTHER).isfinite()
    with pytest.raises(ValueError, match="expected"):
        PAIRS[name](ROW, other)
    with pytest.raises(ValueError, match="expected"):
        PAIRS[name](other, ROW)


@pytest.mark.usefixtures("untyped")
@pytest.mark.parametrize("name", [n for n in PAIRS if n not in ("swav_loss", "dino_loss", "mae_loss", "ibot_loss")])
def test_an_empty_batch_has_no_loss(name: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        PAIRS[name](ROW[:0], ROW[:0])


@pytest.mark.parametrize("name", [*(n for n in PAIRS if n != "balanced_sigmoid"), "koleo"])
def test_a_nan_is_never_hidden(name: str) -> None:
    """The loop stops at a loss that is not finite, and names the step."""
    broken = ROW.clone()
    broken[2, 1] = math.nan
    loss = losses.koleo(broken) if name == "koleo" else PAIRS[name](broken, OTHER)
    assert loss.isnan()
