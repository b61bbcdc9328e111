"""The decimal numbers in the prose and captions of a page, and where each may come from."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jupytext

from printed import step, value

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"(?<![\w.,:/^-])[−-]?\d+\.\d+(?![\d.]*\d)(?!\w)")
SENTENCE = re.compile(r"(?<=[.?!:])\s+(?=[A-Z*`\[(])")
FENCE = re.compile(r"^(`{3,}|:{3,})(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`]*`|\$\$.*?\$\$|\$[^$]+\$", re.DOTALL)
MACHINE = {"device", "processor", "threads", "versions", "preset", "protocol", "seeds", "what", "weights"}  # no names
PLAIN = re.compile(r"[−-]?\d*\.?\d+(?:e-?\d+)?")


@dataclass(frozen=True)
class Mention:
    """A number as it is written, the sentence and the paragraph that it stands in."""

    text: str
    sentence: str
    paragraph: str

    @property
    def value(self) -> float:
        return value(self.text)

    @property
    def step(self) -> float:
        """Half of the last digit's place: what rounding may change."""
        return step(self.text)


def paragraphs(source: str) -> Iterator[str]:
    """The texts of a Markdown cell: paragraphs, items, and those in exercises and captions; no tables, no code."""
    for match in FENCE.finditer(source):
        if match[2].startswith(("{exercise", "{solution", "{figure", "{note", "{dropdown", "{admonition")):
            yield from paragraphs(re.sub(r"^.*\n(:[\w-]+: .*\n)*", "", match[2]))
    for block in re.split(r"\n\s*\n", FENCE.sub("", source)):
        if not block.lstrip().startswith(("|", "#", "%", "<!--")):
            yield re.sub(r"\s+", " ", block)


@cache
def page(name: str) -> tuple[list[Mention], set[float], str]:
    """The numbers of a page's prose and captions, those of its code and formulas, and all of its code."""
    cells = jupytext.reads((ROOT / "book" / f"{name}.md").read_text(encoding="utf-8"), fmt="md:myst").cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    texts, written = [], [code]
    for cell in cells:
        if cell.cell_type == "code":
            caption = cell.metadata.get("mystnb", {}).get("figure", {}).get("caption")
            texts += [str(caption)] if caption else []
        else:
            texts += paragraphs(cell.source)
            written += CODE.findall(cell.source)
            written += [
                match[2] for match in FENCE.finditer(cell.source) if match[2].startswith(("{math", "\n", "python"))
            ]
    mentions = [
        Mention(number, sentence, text)
        for text in texts
        for sentence in SENTENCE.split(CODE.sub(" ", text))
        for number in NUMBER.findall(re.sub(r"\{[\w:]+\}`[^`]*`", "", sentence))
    ]
    known = {float(x.replace("−", "-")) for part in written for x in PLAIN.findall(part)}
    return mentions, known, code


@dataclass(frozen=True)
class Figure:
    """A value of a results file: the words that name it (its row's, its keys), and the mean over what was drawn."""

    names: tuple[str, ...]
    value: float


@cache
def figures(stem: str) -> tuple[Figure, ...]:
    """All values of a results file."""
    return tuple(_walk(json.loads((ROOT / "book" / "results" / f"{stem}.json").read_text(encoding="utf-8")), ()))


def _walk(tree: object, names: tuple[str, ...]) -> Iterator[Figure]:
    if isinstance(tree, dict):
        own = tuple(x for key, x in tree.items() if isinstance(x, str) and len(x) < 60 and key not in MACHINE)
        for key, value in tree.items():
            if key not in MACHINE:
                yield from _walk(value, (*names, *own, key))
    elif isinstance(tree, list) and tree and all(isinstance(x, int | float) for x in tree):
        yield Figure(names, sum(tree) / len(tree))
    elif isinstance(tree, list):
        for value in tree:
            yield from _walk(value, names)
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield Figure(names, float(tree))


def find(stem: str, *words: str) -> float:
    """The value of a results file that all these words name.  Raises ValueError unless it is one."""
    found = {figure.value for figure in figures(stem) if {*words} <= {*figure.names}}
    if len(found) != 1:
        raise ValueError(f"{stem}.json: expected one value for {', '.join(words)}, got {len(found)}")
    return found.pop()
