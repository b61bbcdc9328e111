"""Pages that must be executed are executed side by side, before Sphinx reads them one after the other.

Sphinx executes a page when it reads it, and meanwhile all cores but one or two wait.  Here every page that is about to
be read goes into its cache (see `fingerprint`) first, one a core, and Sphinx then finds it there.  What cannot go this
way is left to Sphinx: a page with a configuration of its own, and a page that fails, which Sphinx runs again to report.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import zmq
from jupyter_cache import get_cache
from jupyter_client.manager import KernelManager
from myst_nb.core.config import NbParserConfig
from myst_nb.core.execute import ExecutionError, create_client
from myst_nb.core.read import create_nb_reader
from nbformat import NotebookNode
from sphinx.environment import BuildEnvironment
from sphinx.util.display import status_iterator

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
MOST = 4  # pages at a time, of up to 2 GB each
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


def encrypt() -> None:
    """Kernels that start from now on talk in cipher where pyzmq can; else each warns that others may listen.

    It is the default that changes, because neither jupyter-cache nor nbclient has a place for the setting.
    """
    if zmq.has("curve"):
        KernelManager.transport_encryption.default_value = "auto"


class Quiet:
    """A logger for pages whose troubles Sphinx reports when it reads them."""

    def info(self, message: str, **_: Any) -> None:
        """Nothing: the status line says how far it is."""

    debug = warning = error = info


def execute(env: BuildEnvironment, folders: Mapping[str, Path], cores: int = CORES) -> None:
    """Execute the pages that are not in their cache folders yet, one a core."""
    if env.mystnb_config.execution_mode != "cache":
        return
    waiting = []
    for page, folder in folders.items():
        config = env.mystnb_config.copy(execution_cache_path=str(folder))
        if found := read(env, page, config):
            waiting.append((page, *found, config))
    workers = min(MOST, cores, len(waiting))
    if workers < 2:
        return
    with threads(cores // workers):
        pool = ThreadPoolExecutor(workers)
        runs = {pool.submit(run, env.doc2path(page), *rest): page for page, *rest in waiting}
        try:
            done = (runs[future] for future in as_completed(runs))
            for _ in status_iterator(done, "executing pages ... ", "purple", len(runs)):
                pass
        finally:  # interrupted: what has not begun does not begin
            pool.shutdown(cancel_futures=True)


def read(env: BuildEnvironment, page: str, config: NbParserConfig) -> tuple[NotebookNode, dict | None] | None:
    """A page as Sphinx will read it, and its format; None if nothing is to be executed ahead."""
    path = env.doc2path(page)
    text = Path(path).read_text(encoding="utf-8")
    reader = create_nb_reader(path, env.myst_config, config, text)
    if reader is None:
        return None
    found = reader.read(text)
    if config.metadata_key in found.metadata or not any(cell.cell_type == "code" for cell in found.cells):
        return None
    with suppress(KeyError):
        get_cache(config.execution_cache_path).match_cache_notebook(found)
        return None
    return found, reader.read_fmt


def run(path: str, found: NotebookNode, fmt: dict | None, config: NbParserConfig) -> None:
    """Execute a page into its cache; one that fails leaves nothing there."""
    try:
        with create_client(found, path, config, Quiet(), fmt):
            pass
    except ExecutionError:
        pass
    finally:
        asyncio.get_event_loop().close()  # which the client opens for this thread, and leaves open


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Kernels that start in here compute with so many threads each, unless the caller's environment says otherwise."""
    new = {name: str(count) for name in THREADS if name not in os.environ}
    os.environ.update(new)
    try:
        yield
    finally:
        for name in new:
            del os.environ[name]
