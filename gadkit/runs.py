"""The folder of a training: a checkpoint from which a killed run goes on unchanged, and a log.

Book: selfsup/simclr
"""

import io
import json
import logging
import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gadkit import distributed
from gadkit.files import claimed, replacing

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
KEYS = {"step", "seconds", "loss"}  # of a row of the log before anything is measured
logger = logging.getLogger(__name__)  # for a program without a terminal on which to see the bar


@dataclass
class Run:
    """The state of everything that moves in a training, and the folder that keeps it, if there is one.

    While the block `with run:` lasts, the first process has the folder to itself.  Entering it raises ValueError where
    the folder cannot be written to or another run has it.  A full disk is an OSError with the name of the file, and
    leaves what was there before.
    """

    folder: Path | None
    plan: Any  # a dataclass that holds how many steps there are, and all that may not change half-way
    what: str
    model: nn.Module
    average: nn.Module
    optimiser: torch.optim.Optimizer
    watch: Callable[[nn.Module, int], dict[str, float]] | None = None
    watch_every: int = 1000
    _held: ExitStack = field(default_factory=ExitStack, init=False)

    def __enter__(self) -> "Run":
        """Try the folder, and keep other runs out of it."""
        if self._writes():
            self._held.enter_context(claimed(self.folder, "run"))
        return self

    def __exit__(self, *_: object) -> None:
        """Let other runs in."""
        self._held.close()

    def _writes(self) -> bool:
        return self.folder is not None and distributed.rank() == 0

    def resume(self) -> tuple[int, float, float]:
        """Take up the first process's state: the steps it has done, their seconds, and the smoothed loss.

        Only that process need see the folder, and only it need have begun with the right weights.
        """
        content = self._content() if distributed.rank() == 0 else None
        content = distributed.from_first(content)
        if content is None:
            self._forget(0)
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
        self._forget(state["step"])
        return state["step"], state["seconds"], state["smooth"]

    def record(self, step: int, seconds: float, smooth: float) -> None:
        """After a step: write the checkpoint and the log's row where they are due.

        The row is written before the average is measured and takes up what was measured afterwards.  A run that is
        killed meanwhile measures when it goes on.
        """
        if not self._writes():
            return
        due = self.watch is not None and (step % self.watch_every == 0 or step == self.plan.steps)
        row = {"step": step, "seconds": round(seconds, 1), "loss": round(smooth, 4)}
        if due:
            self._write([*self._rows(), row])
        if step % self.plan.save_every == 0 or step == self.plan.steps:
            with replacing(self.folder / CHECKPOINT) as part:
                torch.save(self._state(step, seconds, smooth), part)
            logger.info("step %d of %d, loss %.4f", step, self.plan.steps, smooth)
        if due:
            self._measure(row)

    def _measure(self, row: dict[str, Any]) -> None:
        values = self.watch(self.average, row["step"])
        self._write([row | values if one["step"] == row["step"] else one for one in self._rows()])

    def _rows(self) -> list[dict[str, Any]]:
        """The log, without a last line that was cut short.  Raises ValueError for one that no run has written."""
        file = self.folder / LOG
        content = file.read_bytes() if file.is_file() else b""
        try:
            rows = [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
            own = all(row.keys() >= KEYS for row in rows) and (bool(rows) or content[:1] in (b"", b"{"))
        except (ValueError, AttributeError):  # no JSON, or rows that are no mappings
            own = False
        if not own:
            raise ValueError(f"run: expected a folder without {LOG}, or with that of a training, got yours: {file}")
        return rows

    def _write(self, rows: list[dict[str, Any]]) -> None:
        with replacing(self.folder / LOG) as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def _forget(self, start: int) -> None:
        """Take out of the log what was written after the checkpoint, and measure what a kill left unmeasured."""
        if not self._writes() or not (self.folder / LOG).is_file():
            return
        rows = [row for row in self._rows() if row["step"] <= start]
        self._write(rows)
        unmeasured = rows and rows[-1]["step"] == start and rows[-1].keys() == KEYS
        if self.watch is not None and unmeasured:
            self._measure(rows[-1])

    def _content(self) -> bytes | None:
        """The checkpoint's bytes; without one, for other processes, those that one of this moment would have."""
        if self.folder and (file := self.folder / CHECKPOINT).is_file():
            return file.read_bytes()
        if distributed.world() == 1:
            return None
        content = io.BytesIO()
        torch.save(self._state(0, 0.0, math.nan), content)
        return content.getvalue()

    def _state(self, step: int, seconds: float, smooth: float) -> dict[str, Any]:
        state = {"of": self._identity(), "step": step, "seconds": seconds, "smooth": smooth}
        state |= {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        return state | ({"average": self.average.state_dict()} if self.plan.average else {})

    def _identity(self) -> dict[str, Any]:
        """The settings that a run may not change half-way: all but what is shown and how often it is saved."""
        plan = {key: value for key, value in asdict(self.plan).items() if key not in ("collapse", "save_every")}
        return {"what": self.what, **plan}
