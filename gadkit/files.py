"""Files that are whole or not there, folders that one run has to itself, the facts of a result, and where results lie.

Book: intro/run-it
"""

import errno
import json
import os
import platform
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

LOCK = ".gadkit.lock"  # lies in a folder as long as a run has it
PROBE = bytes(2**20)  # what a disk that is not full still takes
PART, OLD = (
    ".*.????????.part",
    3600,
)  # what a kill leaves of a file, and seconds after which no run writes to it
PACKAGE = Path(__file__).parent
RESULTS = (  # where the book's figures lie: first what was measured anew, beside the notebook
    *("results", ".", "../results"),
    *(PACKAGE.parent / "book" / "results", PACKAGE.parent / "book" / "survey"),  # in a clone
    PACKAGE / "results",  # in an installed package
)
WORDS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the user's share of the disk is full",
    errno.EFBIG: "the file is larger than the file system or a limit of the system allows",
    errno.ENAMETOOLONG: "the name is longer than the file system allows",
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.EROFS: "the file system can only be read",
    errno.EIO: "the disk could not be read or written",
    errno.EMFILE: "too many files are open",
    errno.ENOENT: "no such file or folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "this is a folder, not a file",
    errno.ENOTEMPTY: "the folder is not empty",
    errno.EEXIST: "there is a file of this name",
}


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Give a path to write to; what was written takes the place of `path` when the block ends well, as a whole.

    After an error or a kill the old file is as it was, and after an error nothing is left beside it.  The new file has
    the rights that the user's umask gives, or those of the file that it replaces.  Several processes may write one
    file: each has a part of its own, and the last to end wins.  Raises OSError as writing does, with the name `path`,
    also where a library hides a full disk behind an error of its own; ValueError where `path` is no file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a rename would put a file in the place of /dev/null
        raise ValueError(f"{path}: expected a name for a file, got that of a folder or a device")
    part = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")  # at most 255 bytes, in any alphabet
    try:
        yield part
        part.chmod(_rights(path))  # some libraries write for the owner only
        os.replace(part, path)
    except OSError as error:
        if error.errno is None:
            _raise_if_full(part, path, error)
        elif error.errno in WORDS and error.filename in (None, part, str(part)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    except Exception as error:
        _raise_if_full(part, path, error)
        raise
    finally:
        with suppress(OSError):  # the error that counts is on its way
            part.unlink()


@contextmanager
def replacing_folder(path: Path | str) -> Iterator[Path]:
    """Give an empty folder to fill, beside `path`; it gets that name when the block ends well, as a whole.

    Nothing is left of it after an error; what a kill leaves is removed before the next try.  Raises OSError where
    `path` is a folder with content, or a file.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _raise_if_full(part: Path, path: Path, error: Exception) -> None:
    """Raise the system's error where a library has hidden it: safetensors quotes it, torch only says that it failed."""
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if os.strerror(number) in str(error):
            raise OSError(number, os.strerror(number), str(path)) from error
    if part.exists():
        try:
            with open(part, "ab") as file:
                file.write(PROBE)
        except OSError as full:
            raise OSError(full.errno, full.strerror, str(path)) from error


def _rights(path: Path) -> int:
    """The permissions that a file has, or that a new one would get."""
    if path.exists():
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def writable(folder: Path | str, what: str = "folder") -> Path:
    """Make a folder and try to write there, before any work is done for it; return its path.

    Raises ValueError, which calls the folder `what`, where it cannot be made or written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise ValueError(f"{what}: expected a folder that can be written to, got {folder} ({_words(error)})") from error
    return folder


@contextmanager
def claimed(folder: Path | str, what: str = "folder") -> Iterator[Path]:
    """Try a folder as `writable` does, and keep it for this process until the block ends, so that no runs mix files.

    Claims of one thread may be nested.  A kill gives the folder free, and the next claim takes away what the kill left
    of half-written files, once these are an hour old.  Raises ValueError, which calls the folder
    `what`, where it cannot be written to and where another run has it.
    """
    from filelock import FileLock, Timeout  # imported late: the ground floor needs torch only

    folder = writable(folder, what)
    file = folder.resolve() / LOCK
    lock = FileLock(file, timeout=1, is_singleton=True)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(
            f"{what}: expected a folder that no other run writes to, but one has {folder} at this moment "
            f"({file} is locked): wait for its end, or take another folder"
        ) from None
    try:
        _sweep(folder)
        yield folder
    finally:
        if lock.lock_counter == 1:
            with suppress(OSError):  # Windows keeps a file that is open
                file.unlink()
        lock.release()


def _sweep(folder: Path) -> None:
    """Remove the parts that killed runs have left in a folder."""
    for part in folder.glob(PART):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > OLD:
                part.unlink()


def explain(error: BaseException) -> str:
    """An error in words: for an error of the operating system the file's name, and no number."""
    if not isinstance(error, OSError) or error.errno is None:
        return str(error) or type(error).__name__
    name = error.filename2 or error.filename
    name = os.fsdecode(name) if isinstance(name, str | bytes | os.PathLike) else ""
    return f"{name}: {_words(error)}" if name else _words(error)


def _words(error: OSError) -> str:
    return WORDS.get(error.errno, error.strerror or str(error))


def write_json(path: Path | str, record: Any) -> None:
    """Write a record in which one can read; it takes the place of an old file as a whole.  Raises as `replacing`."""
    with replacing(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def provenance(device: torch.device | str) -> dict[str, Any]:
    """On what something was computed: device, processor, threads, versions; JSON takes it as it is."""
    where = torch.device(device)
    return {
        "device": torch.cuda.get_device_name(where) if where.type == "cuda" else str(where),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }


def find_results(name: str) -> Path:
    """The file of figures that a command has measured: beside the notebook, in a clone, or installed with the package.

    Raises ValueError for a name with a folder, FileNotFoundError for a file that is in none of these places.
    """
    if not isinstance(name, str) or name in ("", "..") or name != Path(name).name or "\0" in name:
        raise ValueError(f"expected the name of a results file without a folder, got {name!r}")
    for place in RESULTS:
        if (path := Path(place) / name).is_file():
            return path
    places = ", ".join(dict.fromkeys(str(Path(place).resolve()) for place in RESULTS))
    advice = "It comes with the book's repository (book/results), and with the installed package."
    raise FileNotFoundError(f"{name}: this results file is not here. {advice} Looked in {places}")
