"""Results as a Parquet file: one row a measurement, and where they come from in the file's metadata.

Every row has its own device and versions; the metadata lists what is different among them, each once, so that one look
at the head of the file says how it was made.

    >>> import pyarrow.parquet                                        # doctest: +SKIP
    >>> pyarrow.parquet.read_schema("results.parquet").metadata[b"gadkit"]

Book: anomaly/benchmark
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gadkit
from gadkit.checks import checked

NAME = b"gadkit"  # of the entry in the file's metadata
SOURCE = ("gadkit", "preset", "device", "processor", "threads", "versions")  # the fields of a row that say how it came


@checked
def write(path: Path, rows: Sequence[dict[str, Any]], what: str) -> None:
    """Write rows; a field that one row lacks is None there.  `what` says what the file is about."""
    import pyarrow
    from pyarrow import parquet

    names = [*dict.fromkeys(name for row in rows for name in row)]
    table = pyarrow.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    about = {"what": what, "gadkit": gadkit.__version__, "pyarrow": pyarrow.__version__, "sources": sources(rows)}
    parquet.write_table(table.replace_schema_metadata({NAME: json.dumps(about)}), path)


@checked
def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file that `write` has written.

    Raises ValueError for a file that is torn or of another origin.
    """
    return _opened(path)[1]


@checked
def about(path: Path) -> dict[str, Any]:
    """What the file says of itself: `what` it is about, `sources`, and the versions that wrote it; errors as `read`."""
    return _opened(path)[0]


def _opened(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    import pyarrow
    from pyarrow import parquet

    try:
        table = parquet.read_table(path, partitioning=None)
    except (pyarrow.ArrowException, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path}: expected a results file in Parquet, got something else ({reason})") from error
    held = (table.schema.metadata or {}).get(NAME)
    if held is None:
        raise ValueError(f"{path}: expected a results file of gadkit, got a table of something else")
    return json.loads(held), table.to_pylist()


@checked
def sources(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The different ways in which rows were made: device, processor, threads, versions; each once, in order."""
    found = [{name: row[name] for name in SOURCE if row.get(name) is not None} for row in rows]
    return [source for i, source in enumerate(found) if source not in found[:i]]
