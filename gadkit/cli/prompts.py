"""`gadkit prompts`: what is known of a part, as a file for `gadkit detect --prompts`.

Book: anomaly/saa
"""

import argparse
from pathlib import Path

from gadkit.cli import parents

DESCRIPTION = """Write down what is known of a part, for detectors that look for what words name (saa, saa+).

The file is JSON, to be read and changed by hand: what the part is called and how many an image shows, what its defects
are called and how large they can be, and how many candidates to believe.  What is not given is as in a file for a part
of which nothing is known.  Without --out the file goes to standard output.
"""

EXAMPLES = """examples:
  gadkit prompts --object "metal nut" --defect scratch --defect "bent edge" --area 0.3 --out nut.json
  gadkit detect parts/ --detector saa+ --prompts nut.json
  gadkit prompts --object pill --count 12 --keep 3

A defect is named as one would name it to somebody who has never seen the part: by its colour or shape ("black hole",
"white thread"), not by its cause.  A {} in a text stands for the part: "dent on {}".
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `prompts`."""
    line = "write down what is known of a part, for saa and saa+"
    command = parents.command(commands, "prompts", line, DESCRIPTION, EXAMPLES)
    command.add_argument("--object", metavar="NAME", required=True, help='what the part is called, as in "metal nut"')
    command.add_argument(
        "--defect", action="append", default=[], metavar="TEXT", help="what a defect is called; may be repeated"
    )
    command.add_argument(
        "--general", action="append", metavar="TEXT", help="in place of defect, damage and flaw on {}; may be repeated"
    )
    command.add_argument("--count", type=int, metavar="N", help="parts that an image shows (default: 1)")
    command.add_argument(
        "--area", type=float, metavar="SHARE", help="of the part's area, that a defect stays below (default: 0.9)"
    )
    command.add_argument(
        "--inside", type=float, metavar="SHARE", help="of a defect's box, that lies within the part's (default: 0)"
    )
    command.add_argument("--keep", type=int, metavar="K", help="candidates of an image that count (default: 5)")
    command.add_argument("--out", type=Path, metavar="FILE", help="the file to write, NAME.json")
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file, or print it; 0 when that is done."""
    from gadkit.anomaly.hybrid import HybridPrompts, is_prompts  # imported late: --help need not wait for torch
    from gadkit.cli import streams
    from gadkit.files import writable

    general = None if arguments.general is None else tuple(arguments.general)
    given = {"general": general, "specific": tuple(arguments.defect), "noun": arguments.object}
    given |= {name: getattr(arguments, name) for name in ("count", "area", "inside", "keep")}
    prompts = HybridPrompts(**{name: value for name, value in given.items() if value is not None})
    out = arguments.out
    if out is None:
        streams.results(prompts.json().rstrip("\n"))
    else:
        if out.suffix != ".json":
            raise ValueError(f"--out: expected a name that ends in .json, got {str(out)!r}")
        if out.exists() and not (out.is_file() and is_prompts(out)):
            raise ValueError(f"--out: expected a new name, or that of a file of prompts, got another file, {out}")
        writable(out.parent, "--out")
        prompts.write(out)
        streams.remark(f"prompts: {out}")
    streams.remark("saa+ will look for " + ", ".join(prompts.texts(arguments.object)))
    return 0
