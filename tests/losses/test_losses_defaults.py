"""What the objectives assume where nothing is said: the constants of their papers."""

from collections.abc import Callable

import pytest

from gadkit import losses

DEFAULTS = {  # by function, with where they come from
    "sinkhorn": {"epsilon": 0.05, "iterations": 3},  # Caron et al. 2020, appendix A
    "swav_loss": {"temperature": 0.1, "epsilon": 0.05, "iterations": 3, "queue": ()},  # the same
    "dino_loss": {"teacher_temperature": 0.04, "student_temperature": 0.1},  # Caron et al. 2021, section 3.1
    "next_centre": {"momentum": 0.9},  # the official code
    "ibot_loss": {"teacher_temperature": 0.04, "student_temperature": 0.1},  # as DINO's
    "nt_xent": {"temperature": 0.5},  # Chen et al. 2020, appendix B.9
    "info_nce": {"temperature": 0.2},  # Chen, Xie and He 2021, algorithm 1 and section 4
    "mae_loss": {"norm_pix": True},  # He et al. 2022, table 1d
}


@pytest.mark.parametrize("name", losses.__all__)
def test_the_defaults_are_the_papers(name: str, defaults: Callable) -> None:
    assert defaults(getattr(losses, name)) == DEFAULTS.get(name, {})
