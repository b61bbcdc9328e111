"""The decimal numbers in the prose and captions of a page, and where each may come from."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jupytext

ROOT = Path(__file__).parents[2]
NUMBER = re.compile(r"(?<![\w.,:/^-])[−-]?\d+\.\d+(?![\d.]*\d)(?!\w)")
SENTENCE = re.compile(r"(?<=[.?!:])\s+(?=[A-Z*`\[(])")
WORD = re.compile(r"[a-z]{3,}|\d+")
FENCE = re.compile(r"^(`{3,}|:{3,})(.*?)^\1[ ]*$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`]*`|\$\$.*?\$\$|\$[^$]+\$", re.DOTALL)
PLAIN = re.compile(r"[−-]?\d*\.?\d+(?:e-?\d+)?")


@dataclass(frozen=True)
class Mention:
    """A number as it is written, the sentence and the paragraph that it stands in."""

    text: str
    sentence: str
    paragraph: str

    @property
    def value(self) -> float:
        return float(self.text.replace("−", "-"))

    @property
    def step(self) -> float:
        """Half of the last digit's place: what rounding may change, with a hair for the binary representation."""
        return 0.5 * 10 ** -len(self.text.partition(".")[2]) + 1e-9


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


def leaves(tree: object, path: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a results file, with the keys and names above them."""
    if isinstance(tree, dict):
        named = " ".join(value for value in tree.values() if isinstance(value, str) and len(value) < 60)
        for key, value in tree.items():
            yield from leaves(value, f"{path} {named} {key}")
    elif isinstance(tree, list):
        for value in tree:
            yield from leaves(value, path)
    elif isinstance(tree, int | float) and not isinstance(tree, bool):
        yield path.lower(), float(tree)
