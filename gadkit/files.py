"""Files that are whole or not there, and the facts that every saved result carries.

Book: intro/run-it
"""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a path to write to; what was written takes the place of `path` when the block ends well, as a whole.

    After an error or a kill the old file is as it was, and after an error nothing is left beside it.  The new file has
    the rights that the user's umask gives, or those of the file that it replaces.  Several processes may write one
    file: each has a part of its own, and the last to end wins.  Raises OSError as writing does.
    """
    path = Path(path)
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")  # a name may have 255 bytes, the path's may be full
    try:
        yield part
        part.chmod(_rights(path))  # some libraries write for the owner only
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _rights(path: Path) -> int:
    """The permissions that a file has, or that a new one would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def provenance(device: torch.device | str) -> dict[str, Any]:
    """On what something was computed: device, processor, threads, versions; JSON takes it as it is."""
    where = torch.device(device)
    return {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else str(where),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
