"""The parsers that commands share: how their help is laid out, and the options that mean the same in each.

Nothing here waits for torch: `--help` answers at once.

Book: intro/run-it
"""

import argparse
from pathlib import Path

KINDS = "PNG, JPEG, BMP, TIFF, WebP"
GROUP = "the detector"  # the heading of its options
# the end of the help of commands that read photographs
FILES = """Exit codes are those of `gadkit --help`; 1 means that some files could not be read or written, each named on
standard error.  Pictures of another kind (HEIC, GIF, camera raw, SVG, PDF, ...) are no such files: they are counted on
standard error, in one line, and left out.
"""


def command(
    commands: argparse._SubParsersAction,
    name: str,
    line: str,
    description: str,
    examples: str,
    *parents: argparse.ArgumentParser,
) -> argparse.ArgumentParser:
    """Add a command: `line` says in the list of commands what it does; `parents` are its shared options."""
    return commands.add_parser(
        name,
        help=line,
        description=description,
        epilog=examples,
        parents=parents,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _options(*parents: argparse.ArgumentParser) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(add_help=False, allow_abbrev=False, parents=parents)


def images(metavar: str, folders: str = "folders and files") -> argparse.ArgumentParser:
    """The photographs to work on, `arguments.images`."""
    options = _options()
    options.add_argument("images", type=Path, nargs="+", metavar=metavar, help=f"{folders}: {KINDS}")
    return options


def bits() -> argparse.ArgumentParser:
    """How many bits a grey value has, for commands that read photographs: `--bits`."""
    options = _options()
    group = options.add_argument_group("images of more than 8 bits")
    group.add_argument(
        "--bits",
        type=lambda text: _whole(text, 8, 16),
        metavar="N",
        help="2^N - 1 is white, as for a camera of N bits whose files have 16 (default: 8, 10, 12, 14 or 16, as all "
        "images of the run need; give the same number to runs whose scores are compared)",
    )
    return options


def pixels() -> argparse.ArgumentParser:
    """How large a photograph may be: `--max-pixels`."""
    options = _options()
    options.add_argument(
        "--max-pixels",
        type=lambda text: _whole(text, 4, 2**40),
        metavar="N",
        help="pass over photographs of more than N pixels, by name (default: what Pillow takes for a trap, some 179 "
        "million)",
    )
    return options


def question(detectors: str) -> argparse.ArgumentParser:
    """The detector, its backbone and its tiles; `detectors` lists the former and says which is the default."""
    options = _options()
    group = options.add_argument_group(GROUP)
    group.add_argument("--detector", metavar="NAME", help=detectors)
    group.add_argument("--object", metavar="NAME", help='what the images show, as in "metal nut"')
    group.add_argument("--backbone", metavar="NAME", help="its representation (default: the detector's own)")
    group.add_argument(
        "--weights", type=Path, metavar="FILE", help="a checkpoint to read in place of the backbone's own"
    )
    group.add_argument(
        "--heads", type=Path, metavar="FILE", help="a checkpoint to read in place of the detector's own trained part"
    )
    group.add_argument(
        "--tiles",
        type=_tiles,
        metavar="N",
        help="cut photographs into overlapping tiles of N x N pixels, and score each; none: squash photographs; auto, "
        "the default: tiles of the network's input where the shorter side of all good parts (without any, of all "
        "images) is over twice that",
    )
    return options


def detector(detectors: str) -> argparse.ArgumentParser:
    """`question`, and what only some detectors take: prompts, models that see objects, a memory of good parts."""
    options = _options(question(detectors))
    group = options.add_argument_group(GROUP)
    group.add_argument(
        "--prompts",
        type=Path,
        metavar="FILE",
        help="what is known of the part, a file of `gadkit prompts` (saa, saa+)",
    )
    group.add_argument(
        "--finder", metavar="NAME", help="what finds the boxes that words name (saa, saa+; default: the detector's own)"
    )
    group.add_argument(
        "--segmenter", metavar="NAME", help="what outlines the boxes (saa, saa+; default: the detector's own)"
    )
    group.add_argument(
        "--bank",
        type=_megabytes,
        metavar="MB",
        help="megabytes that the memory of good parts may take; beyond them it is thinned (default: 32)",
    )
    return options


def _tiles(text: str) -> str | int:
    return text if text in ("auto", "none") else _whole(text, 8, 2**16)


def _megabytes(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of megabytes above 0, got {text!r}")
    return value


def preset() -> argparse.ArgumentParser:
    """Which weights compute: `--preset`."""
    options = _options()
    options.add_argument(
        "--preset",
        metavar="NAME",
        help="tiny (shipped) or paper (published weights); default: GADKIT_PRESET, else tiny",
    )
    return options


def model() -> argparse.ArgumentParser:
    """Which weights compute, and where: `--preset` and `--device`."""
    options = _options(preset())
    options.add_argument(
        "--device", metavar="NAME", help="cpu, cuda, mps; default: GADKIT_DEVICE, else the best there is"
    )
    return options


def seed(what: str = "of everything that is drawn by lot") -> argparse.ArgumentParser:
    """`--seed`."""
    options = _options()
    options.add_argument(
        "--seed", type=lambda text: _whole(text, 0, 2**32 - 1), default=0, metavar="N", help=f"{what} (default: 0)"
    )
    return options


def _whole(text: str, low: int, high: int) -> int:
    """A whole number within limits; argparse names the option where it is none."""
    if not text.isdecimal() or not low <= int(text) <= high:
        raise argparse.ArgumentTypeError(f"expected a whole number from {low} to {high}, got {text!r}")
    return int(text)


def out(what: str, default: Path | None = None) -> argparse.ArgumentParser:
    """`--out`, the folder that is written to."""
    options = _options()
    options.add_argument("--out", type=Path, default=default, metavar="DIR", help=what)
    return options
