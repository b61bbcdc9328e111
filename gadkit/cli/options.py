"""Options that several commands share.  Nothing here loads a library, so that `--help` is quick.

Book: intro/run-it
"""

import argparse


def image_options() -> argparse.ArgumentParser:
    """A parent parser with the options of commands that read photographs: how many bits a grey value has."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("images of more than 8 bits")
    group.add_argument(
        "--bits",
        type=_bits,
        metavar="N",
        help="2^N - 1 is white, as for a camera of N bits whose files have 16 (default: 8, 10, 12, 14 or 16, as all "
        "images of the run need; give the same number to runs whose scores are compared)",
    )
    return parser


def _bits(text: str) -> int:
    if not text.isdecimal() or not 8 <= int(text) <= 16:
        raise argparse.ArgumentTypeError(f"expected a whole number from 8 to 16, got {text!r}")
    return int(text)
