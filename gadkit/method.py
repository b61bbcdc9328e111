"""The base of every method of the book, self-supervised, pretext or supervised: the contract's defaults.

Book: selfsup/comparison
"""

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from gadkit.checks import checked, describe
from gadkit.protocols import Recipe


class MethodBase(nn.Module):
    """A `gadkit.protocols.Method` but for `encoder`, `views`, `loss` and `collapse`, which a method adds.

    The default recipe, AdamW with a second moment of 0.98, clipping at 1 and a decay of 0.05, is the house's own for
    runs of some thousand steps.  A method that follows its paper's optimiser more closely says so.
    """

    needs: tuple[str, ...] = ("images",)
    pool: str = "mean"
    recipe = Recipe()
    transient: tuple[str, ...] = ()

    @property
    def encoder(self) -> nn.Module:
        """What is trained and kept; `self.encoder = ...` registers it, as for any module.

        It stands on the class because, from Python 3.12 on, protocols are asked without `__getattr__`.
        """
        if "encoder" not in self._modules:
            raise AttributeError(f"{type(self).__name__} has no encoder yet")
        return self._modules["encoder"]

    def __init_subclass__(cls) -> None:
        """Every method answers arguments that its annotations exclude by a ValueError."""
        if "__init__" in cls.__dict__:
            cls.__init__ = checked(cls.__init__)

    @property
    def lr(self) -> float:
        """The peak learning rate of the recipe, at the recipe's batch."""
        return self.recipe.lr

    def columns(self, batch: Mapping[str, Tensor]) -> list[Tensor]:
        """The tensors that the method `needs`, in that order.  Raises ValueError where one is missing."""
        return columns(batch, self.needs)

    def collapse(self, batch_size: int) -> float:
        """The loss of a network that maps all inputs to one point, at so many samples a step."""
        raise NotImplementedError(f"{type(self).__name__} does not define its loss where all inputs have one code")

    def loss(self, views: list[Tensor]) -> Float[Tensor, ""]:
        """The objective of one step."""
        raise NotImplementedError(f"{type(self).__name__} has no loss")

    def after_step(self, progress: float) -> Sequence[nn.Parameter] | None:
        """Nothing follows a step, except where a method says so."""


def columns(batch: Mapping[str, Tensor], needs: Sequence[str]) -> list[Tensor]:
    """Named tensors of a batch.  Raises ValueError, with what came, for anything but a mapping that holds them all."""
    held = batch if isinstance(batch, Mapping) else {}
    if any(not isinstance(held.get(name), Tensor) for name in needs):
        came = ", ".join(map(str, batch)) or "none" if isinstance(batch, Mapping) else describe(batch)
        raise ValueError(f"batch: expected a mapping of tensors with the columns {', '.join(needs)}, got {came}")
    return [held[name] for name in needs]
