"""What a folder knows of a training: a checkpoint from which a killed run goes on unchanged, and a log.

Book: selfsup/simclr
"""

import io
import json
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gadkit import distributed

LOG = "log.jsonl"
logger = logging.getLogger(__name__)  # for a program without a terminal on which to see the bar


@dataclass
class Run:
    """What a folder knows of a training: the state of everything that moves, and whose it is."""

    folder: Path | None
    plan: Any  # a dataclass that holds how many steps there are, and all that may not change half-way
    what: str
    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer

    def resume(self) -> tuple[int, float, float]:
        """Take up the first process's state: the steps it has done, their seconds, and the smoothed loss.

        Only that process need see the folder, and only it need have begun with the right weights.
        """
        content = self._content() if distributed.rank() == 0 else None
        content = distributed.from_first(content)
        if content is None:
            return 0, 0.0, math.nan
        where = next(self.model.parameters()).device
        try:
            state = torch.load(io.BytesIO(content), weights_only=True, map_location=where)
            found, own = state["of"], self._identity()
        except Exception as error:  # torn, empty, or another program's: torch raises what its readers happen to
            raise ValueError(
                f"{self.folder}: expected the checkpoint of a training by this package, got {type(error).__name__}: "
                "delete it or take another folder"
            ) from error
        if different := [key for key in own if found.get(key) != own[key]]:
            expected, came = ({key: held.get(key) for key in different} for held in (own, found))
            raise ValueError(
                f"{self.folder}: expected the checkpoint of this training, {expected}, got one of another, {came}: "
                "delete it or take another folder"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.plan.average:
            self.average.load_state_dict(state["average"])
        if state["step"]:
            logger.info("%s: going on from step %d of %d", self.folder, state["step"], self.plan.steps)
        return state["step"], state["seconds"], state["smooth"]

    def _content(self) -> bytes | None:
        """The checkpoint's bytes; without one, for other processes, those that one of this moment would have."""
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (file := self.folder / "checkpoint.pt").is_file():
                return file.read_bytes()
        if distributed.world() == 1:
            return None
        content = io.BytesIO()
        torch.save(self._state(0, 0.0, math.nan), content)
        return content.getvalue()

    def forget(self, start: int) -> None:
        """Take out of the log what was written after the checkpoint, and a last line that was cut short."""
        if distributed.rank() or not self.folder or not (log := self.folder / LOG).is_file():
            return
        lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= start]
        part = log.with_suffix(".part")
        part.write_text("".join(kept), encoding="utf-8")
        part.replace(log)

    def save(self, step: int, seconds: float, smooth: float) -> None:
        """Write the checkpoint, whole or not at all."""
        part = self.folder / "checkpoint.part"
        torch.save(self._state(step, seconds, smooth), part)
        part.replace(self.folder / "checkpoint.pt")
        logger.info("step %d of %d, loss %.4f", step, self.plan.steps, smooth)

    def _state(self, step: int, seconds: float, smooth: float) -> dict[str, Any]:
        state = {"of": self._identity(), "step": step, "seconds": seconds, "smooth": smooth}
        state |= {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        return state | ({"average": self.average.state_dict()} if self.plan.average else {})

    def _identity(self) -> dict[str, Any]:
        """What a run may not change half-way: all but what is shown and how often it is saved."""
        plan = {key: value for key, value in asdict(self.plan).items() if key not in ("collapse", "save_every")}
        return {"what": self.what, **plan}
