"""Train everything that the package ships on one machine, side by side, until a time is over; resumable.

    python -m experiments.train_all --out runs --minutes 9 --jobs 15
    python -m experiments.train_all simclr dino --seeds 0 1 2 --photographs 400000 --out runs

Each training is `gadkit train NAME` in a process of its own with one thread, so a GPU's idle moments in one of them
serve another.  What is not done when the time is over goes on from its last checkpoint the next time.  A training's
folder is OUT/NAME for seed 0 and OUT/NAME-SEED for others; what it says is in its log.txt.

Book: selfsup/comparison
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gadkit import files, zoo
from gadkit.checks import one_of, whole

COMMAND = (sys.executable, "-m", "gadkit", "train")
LONGEST = ("dinov2", "dino", "swav", "mocov3", "byol", "deepcluster", "simclr", "swin")  # of what --photographs counts
GRACE = 5.0  # seconds that a training has to end in when it is told to


@dataclass(frozen=True)
class Job:
    """One training: what is asked for, and its folder."""

    name: str
    seed: int
    more: tuple[str, ...]
    folder: Path

    @property
    def weights(self) -> Path:
        """The file that is there when it is done."""
        return self.folder / f"{self.name}.safetensors"

    def start(self) -> subprocess.Popen:
        """The training as a process; what it says goes to its log."""
        self.folder.mkdir(parents=True, exist_ok=True)
        line = [*COMMAND, self.name, "--seed", str(self.seed), "--out", str(self.folder), *self.more]
        alone = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with (self.folder / "log.txt").open("ab") as log:
            return subprocess.Popen(line, stdout=log, stderr=log, env=os.environ | alone)


def jobs(names: Sequence[str], seeds: Sequence[int], out: Path, photographs: int | None) -> list[Job]:
    """The trainings, the longest first; only methods of Parts I and II are trained with more seeds than the first."""
    found = []
    for name in names:
        counted = zoo.METHOD in zoo.row(name).gives
        given = () if photographs is None else ("--photographs", str(photographs))
        more = (*given, "--data", str(out / "data")) if counted else ()
        for seed in seeds if counted else seeds[:1]:
            folder = out / (name if seed == 0 else f"{name}-{seed}")
            found.append(Job(name, seed, more, folder))
    return sorted(found, key=lambda job: _place(job.name))


def _place(name: str) -> int:
    """Steps of models that see objects or read cost most; then come the methods with most views."""
    if zoo.METHOD not in zoo.row(name).gives:
        return -1
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def run(todo: Sequence[Job], side_by_side: int, seconds: float) -> list[Job]:
    """Run trainings until all are done or the time is over; those that are not done, or failed."""
    end, waiting, running = time.monotonic() + seconds, [*todo], {}
    failed: list[Job] = []
    try:
        while (waiting or running) and time.monotonic() < end:
            while waiting and len(running) < side_by_side:
                job = waiting.pop(0)
                running[job] = job.start(), time.monotonic()
            for job, (process, began) in [*running.items()]:
                if process.poll() is not None:
                    del running[job]
                    failed += [job] if process.returncode else []
                    state = f"failed, see {job.folder / 'log.txt'}" if process.returncode else "done"
                    sys.stderr.write(f"{job.folder.name}: {state}, {time.monotonic() - began:.0f} s\n")
            time.sleep(0.2)
    finally:
        for process, _ in running.values():
            process.terminate()
        for process, _ in running.values():
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
    return [*failed, *running, *waiting]


def main(argv: Sequence[str] | None = None) -> int:
    """Train; 0 when everything is done, 1 when something failed or is left for the next run."""
    trains = [row.name for row in zoo.ROWS if row.trains]
    parser = argparse.ArgumentParser(description="Train everything that the package ships, side by side.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="what to train (default: everything)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="one folder a training below it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N", help="default: 0")
    parser.add_argument("--photographs", type=int, metavar="N", help="for each method (default: the recipe's)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="default: one a core")
    parser.add_argument("--minutes", type=float, default=9.0, metavar="M", help="default: 9")
    given = parser.parse_args(argv)
    try:
        for name in given.names:
            one_of("NAME", name, trains)
        whole("--jobs", given.jobs)
        files.writable(given.out, "--out")
    except ValueError as error:
        parser.error(str(error))
    todo = jobs(given.names or trains, given.seeds, given.out, given.photographs)
    left = run([job for job in todo if not job.weights.exists()], given.jobs, 60 * given.minutes)
    for job in left:
        sys.stderr.write(f"{job.folder.name}: not done; the same command goes on\n")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
