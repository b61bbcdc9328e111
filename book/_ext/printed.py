"""Hold the numbers of a built page's prose against what the page's own cells print.

    python book/_ext/printed.py _build/html

`tests/book/number_sources.yml` lists, as `cells`, the numbers in prose and captions that a cell prints.  The suite does
not execute pages, so this reads the outputs from the built ones.  Each number that no output of its page rounds to is a
line.  Those that are only drawn, or reckoned from what is printed, are listed there as `drawn`, for eyes.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import yaml
from bs4 import BeautifulSoup

SOURCES = Path(__file__).parents[2] / "tests" / "book" / "number_sources.yml"
NUMBER = re.compile(r"[−-]?\d[\d,]*(?:\.\d+)?(?:e[−+-]?\d+)?|[−-]?\.\d+")


def printed(html: str) -> list[float]:
    """The numbers in the outputs of a page's cells, without the captions of figures, which are prose."""
    outputs = BeautifulSoup(html, "html.parser").select("div.cell_output")
    for caption in (caption for output in outputs for caption in output.select("figcaption")):
        caption.extract()
    return [value(number) for output in outputs for number in NUMBER.findall(output.get_text(" "))]


def missing(numbers: Iterable[str], found: Sequence[float]) -> list[str]:
    """The numbers, as they are written, that none of those found rounds to, whatever the sign."""
    sizes = [abs(number) for number in found]
    return [text for text in numbers if not any(abs(size - abs(value(text))) <= step(text) for size in sizes)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the numbers that no output has; the status is 1 if there are any, 2 if the book is missing."""
    parser = argparse.ArgumentParser(description="Hold numbers in prose against what the cells of built pages print.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the built book, such as _build/html")
    folder = parser.parse_args(arguments).folder
    listed = {name: given["cells"].split() for name, given in _sources().items() if given.get("cells")}
    count = 0
    for name, numbers in listed.items():
        path = folder / "book" / f"{name}.html"
        if not path.is_file():
            sys.stderr.write(f"{path}: expected a built page; `make book` builds it\n")
            return 2
        if lost := missing(numbers, printed(path.read_text(encoding="utf-8"))):
            count += len(lost)
            sys.stdout.write(f"book/{name}: no cell prints {', '.join(lost)}\n")
    total = sum(map(len, listed.values()))
    sys.stdout.write(f"{total - count} of {total} numbers are printed by a cell of their page\n")
    return 1 if count else 0


def _sources() -> dict[str, dict[str, str]]:
    return yaml.safe_load(SOURCES.read_text(encoding="utf-8"))


def value(text: str) -> float:
    """A number as it is written in prose or printed."""
    return float(text.replace("−", "-").replace(",", ""))


def step(text: str) -> float:
    """Half of the last digit's place, with a hair for the binary representation."""
    return 0.5 * 10 ** -len(text.partition(".")[2]) + 1e-9


if __name__ == "__main__":
    sys.exit(main())
