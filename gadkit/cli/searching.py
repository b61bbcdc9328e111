"""What `gadkit search` finds out before it works: whether the question can be answered, and by which vectors.

Book: multimodal/embeddings
"""

import argparse
from pathlib import Path

import gadkit
from gadkit import runtime, zoo
from gadkit.checks import whole
from gadkit.cli import gallery, outputs, sources, spaces
from gadkit.cli.finding import HEADER, SHEET, TABLE, UNFINISHED, Finding
from gadkit.cli.streams import remark
from gadkit.data.folders import Depth, FileRun
from gadkit.data.folders.photographs import read_image
from gadkit.search import approximate, index

SUFFIX = ".parquet"


def planned(arguments: argparse.Namespace) -> Finding:
    """Everything that can be found wrong before any work is done.  Raises ValueError and WeightsUnavailable."""
    number = whole("--count", arguments.count, 1, 10**9)
    queries = [query.strip() for query in arguments.queries]
    if not all(queries):
        raise ValueError('QUERY: expected a text such as "a cup of coffee", got an empty one')
    if not queries and not arguments.like and arguments.index is None:
        raise ValueError("QUERY: expected a text, or a photograph with --like, or an --index to keep, got none of them")
    if arguments.export is not None:
        check_export(arguments.index, arguments.export)
    if arguments.faiss and (arguments.index is None or not approximate.available()):
        raise ValueError(
            "--faiss: expected an --index to search"
            if arguments.index is None
            else f"--faiss: expected faiss to be installed, got none: {approximate.INSTALL}"
        )
    held = None if arguments.index is None or not index.exists(arguments.index) else index.opened(arguments.index)
    model = arguments.model or (spaces.default(bool(queries)) if held is None else held.origin.model)
    spaces.check(model, arguments.preset, bool(queries))
    files, _ = sources.files_below([arguments.folder], arguments.folder)
    if arguments.out is not None:
        outputs.check_own(arguments.out, HEADER, (TABLE, UNFINISHED), SHEET)
    run, held = _shared(arguments, files, model, held)
    for path in arguments.like:
        read_image(path, run.depth)
    return Finding(
        folder=arguments.folder,
        queries=queries,
        like=arguments.like,
        count=number,
        model=model,
        preset=zoo.preset(arguments.preset),
        device=str(runtime.device(arguments.device)),
        files=files,
        run=run,
        gallery=gallery.InMemory() if held is None else gallery.OnDisk(held, arguments.folder, arguments.faiss or None),
        out=arguments.out,
        json=arguments.json,
    )


def _shared(
    arguments: argparse.Namespace, files: list[Path], model: str, held: index.Index | None
) -> tuple[FileRun, index.Index | None]:
    """What the photographs have in common, and the index; one that is there decides what is white.

    Raises ValueError where the index was made by something else.
    """
    if held is None:
        run = sources.run_of(files, arguments.bits)
        if arguments.index is None:
            return run, None
        return run, index.Index(arguments.index, origin(model, arguments.preset, run.depth))
    depth = _depth(held.origin.depth)
    asked = depth if arguments.bits is None else Depth(arguments.bits, depth.floats)
    if other := held.origin.differences(origin(model, arguments.preset, asked)):
        raise ValueError(
            f"--index: expected one made by what is asked for, got {held.folder}, made by {'; '.join(other)}.  Nothing "
            "was changed: ask as it was made, or name another folder"
        )
    known = held.rows()
    run = sources.run_of([path for path in files if str(path.absolute()) not in known])
    if run.depth.bits is not None and run.depth != depth:
        remark(f"new photographs would have another white ({_words(run.depth)}); the index keeps {_words(depth)}")
    run.depth = depth
    return run, held


def origin(model: str, preset: str | None, depth: Depth) -> index.Origin:
    """Everything that vectors made now would depend on."""
    preset = zoo.preset(preset)
    return index.Origin(model, preset, spaces.weights_of(model, preset), gadkit.__version__, _words(depth))


def _words(depth: Depth) -> str:
    return f"{'own' if depth.bits is None else depth.bits} bits, floats to {depth.floats:g}"


def _depth(words: str) -> Depth:
    bits, _, _, _, floats = words.split()
    return Depth(None if bits == "own" else int(bits), float(floats))


def check_export(folder: Path | None, out: Path) -> None:
    """Raise ValueError where there is no index to write, or the file is not to be Parquet."""
    if folder is None:
        raise ValueError("--export: expected an --index to write, got none")
    if out.suffix != SUFFIX:
        raise ValueError(f"--export: expected a file that ends in {SUFFIX}, got {out}")


def export(folder: Path | None, out: Path) -> int:
    """Write an index for a vector database; the number of photographs in it.  Raises as `check_export`, and OSError."""
    check_export(folder, out)
    return gallery.export(index.opened(folder), out)
