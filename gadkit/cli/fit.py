"""`gadkit fit`: show a detector good parts once, and keep it in a file for `gadkit detect --fitted`.

Book: intro/run-it
"""

import argparse
from pathlib import Path

from gadkit.anomaly.detectors import DETECTORS, default
from gadkit.cli import parents

DESCRIPTION = """Show a detector photographs of good parts, and keep what it has learnt in one file.

`gadkit detect --fitted FILE` then gives the same scores, the same threshold and the same report as `gadkit detect
--normal` with the same good parts, without the time and without the photographs.
"""

EXAMPLES = """examples:
  gadkit fit --normal good/ --object bolt --out bolt.gad
  gadkit fit --normal good/ --out bolt.gad
  gadkit detect new/ --fitted bolt.gad --out report

The file is safetensors with a header in JSON; nothing in it is code.  It holds no photographs, and no backbone: it
names that one, and refuses another.  A file of this kind is replaced by a new one, any other file is left alone.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `fit`."""
    command = parents.command(
        commands,
        "fit",
        "show a detector good parts, and keep it in a file",
        DESCRIPTION,
        EXAMPLES,
        parents.bits(),
        parents.pixels(),
        parents.detector(f"one of {', '.join(DETECTORS)} (default: {default(normal=True)})"),
        parents.model(),
    )
    command.add_argument("--normal", type=Path, metavar="DIR", required=True, help="images of good parts")
    command.add_argument("--out", type=Path, metavar="FILE", required=True, help="the file to write, NAME.gad")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fit, and write the file; 0 when it is written, 1 when some photographs could not be read."""
    from gadkit.anomaly import fitted  # imported late: --help need not wait for torch
    from gadkit.cli import good_parts, sources, streams, words

    out = _free(arguments.out)
    question = good_parts.asked(arguments)
    files = sources.normal_files(arguments.normal)
    run = sources.run_of(files, arguments.bits, arguments.max_pixels)
    streams.remark(*sources.remarks([], arguments.normal), *run.remarks)
    skipped = good_parts.Skipped(run, arguments.max_pixels)
    with sources.up_to(arguments.max_pixels):
        detector, fitting = good_parts.fit(question, question.load(), files, run, skipped)
    streams.remark(*detector.remarks(), *words.of_good_parts(fitting))
    fitted.write(out, detector, fitting)
    streams.remark(*words.of_fitting(fitting, out))
    return 1 if skipped.lines else 0


def _free(out: Path) -> Path:
    """Where the file can be written.  Raises ValueError for another ending, and for somebody else's file."""
    from gadkit.anomaly import fitted
    from gadkit.files import writable

    if out.suffix != fitted.SUFFIX:
        raise ValueError(f"--out: expected a name that ends in {fitted.SUFFIX}, got {str(out)!r}")
    if out.exists() and not (out.is_file() and fitted.is_fitted(out)):
        raise ValueError(f"--out: expected a new name, or that of a fitted detector, got another file, {out}")
    writable(out.parent, "--out")
    return out
