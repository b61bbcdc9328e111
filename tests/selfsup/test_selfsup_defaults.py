"""What the methods assume where nothing is said: the papers' constants, and those for runs of minutes."""

from collections.abc import Callable

import pytest
import torch

from gadkit import selfsup

DEFAULTS = {  # by method; where nothing else is said, for a small transformer and runs of minutes
    "SimCLR": {"temperature": 0.2, "width": 256, "out": 128, "strength": 1.0},  # strength: appendix A, on ImageNet
    "MoCoV3": {
        "temperature": 0.2,
        "width": 256,
        "out": 128,
        "momentum": 0.99,  # temperature: section 4
        "fixed_patches": True,  # section 4, the remedy for unstable training
    },
    "BYOL": {"width": 256, "out": 128, "momentum": 0.95, "predictor": True},
    "SwAV": {
        "prototypes": 128,
        "temperature": 0.1,
        "epsilon": 0.05,
        "small": 4,  # the last three: appendix A
        "width": 256,
        "out": 64,
        "frozen": 0.05,
        "queue": 0,
        "queue_from": 0.05,
    },
    "DINO": {
        "prototypes": 256,
        "small": 4,
        "momentum": 0.9,
        "teacher_temperature": 0.04,
        "student_temperature": 0.1,  # Caron et al. 2021, section 3.1
        "warmup": 0.3,
        "frozen": 0.0,
        "balance": "centre",  # 30 of 100 epochs
        "ibot": 0.0,
        "masked": (0.1, 0.5),
        "koleo": 0.0,
        "registers": 0,  # masked: DINOv2's code
    },
    "MAE": {"ratio": 0.75, "norm_pix": True, "width": 64, "depth": 2, "heads": 4},  # He et al. 2022, table 1
}
RATES = {"SimCLR": 1e-3, "MoCoV3": 1e-3, "BYOL": 2e-3, "SwAV": 1e-3, "DINO": 2e-3, "MAE": 1.5e-3}


@pytest.mark.parametrize("name", selfsup.__all__)
def test_the_defaults_are_what_is_written(name: str, defaults: Callable) -> None:
    method = getattr(selfsup, name)
    assert defaults(method) == DEFAULTS[name]
    assert method.recipe.lr == RATES[name]


def test_registers_are_the_default_encoder_s() -> None:
    method = selfsup.DINO(registers=3)
    assert method.encoder.registers.shape[1] == 3
    assert torch.equal(method.mask_token, torch.zeros(method.encoder.width)), "as in DINOv2's code"
