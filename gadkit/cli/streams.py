"""Lines on standard output and standard error, which may be missing, full, or no longer read by anybody.

Nothing here waits for torch.

Book: intro/run-it
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO


@contextmanager
def standard() -> Iterator[None]:
    """Give the program both streams where it was started without, as services are, and let them take any file name."""
    with ExitStack() as stack:
        for name, redirect in (("stdout", redirect_stdout), ("stderr", redirect_stderr)):
            stream = getattr(sys, name)
            if stream is None:
                stack.enter_context(redirect(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
            elif hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        yield


def results(*lines: str) -> bool:
    """Write lines to standard output; False, and no error, if the reader has gone (`gadkit detect ... | head`).

    Raises OSError, with a name for the stream, where it cannot be written to.
    """
    from tqdm import tqdm  # imported late, as all that --help need not wait for

    try:
        for line in lines:
            tqdm.write(line, file=sys.stdout)  # past the progress bar, if both meet on a terminal
        sys.stdout.flush()
    except OSError as error:
        return _broken(error)
    return True


def flush() -> bool:
    """Write out what standard output holds back, now that a full disk can still be named; else as `results`."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return _broken(error)
    return True


def _broken(error: OSError) -> bool:
    silence(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return False
    raise OSError(error.errno, error.strerror, "standard output") from error


def remark(*lines: str) -> None:
    """Write remarks to standard error.  The work goes on if their reader has gone, or if they cannot be written.

    Of several processes of a run (`accelerate launch`) only the first makes remarks.
    """
    from tqdm import tqdm

    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and int(os.environ.get("RANK", 0)) > 0:
        return

    try:
        for line in lines:
            tqdm.write(f"gadkit: {printable(line)}", file=sys.stderr)
    except OSError:
        silence(sys.stderr)


@contextmanager
def remarking() -> Iterator[None]:
    """Make remarks of what the package warns of; as with all warnings, the same words once a run."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: remark(str(message))
        yield


def loading(name: str, preset: str | None) -> None:
    """Say which published weights are about to be read, and how much there is to download."""
    from gadkit import zoo

    if zoo.preset(preset) != "tiny":
        published = zoo.find(name, preset)
        size = "size unknown" if published.size is None else f"{published.size:.0f} MB"
        remark(f"loading {published.id} ({size}, downloaded when first used)")


def silence(stream: TextIO) -> None:
    """Let what a broken stream still holds, and all that follows, go nowhere: Python would fail on it at its end."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # no real file: nothing is kept back
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), number)


def printable(text: str) -> str:
    """A file name as printable characters: none that would move the terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text)
