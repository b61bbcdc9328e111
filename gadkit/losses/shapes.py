"""Rows that belong together must be as many on both sides: what would broadcast instead is refused.

Book: selfsup/simclr
"""

from torch import Tensor


def check_alike(what: str, **tensors: Tensor) -> None:
    """Raise ValueError, naming all shapes, unless all tensors have one shape and a row."""
    shapes = {name: tuple(x.shape) for name, x in tensors.items()}
    if len({*shapes.values()}) > 1 or 0 in next(iter(shapes.values()))[:1]:
        came = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"{what}: expected tensors of one shape with at least one row, got {came}")
