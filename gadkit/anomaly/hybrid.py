"""Hybrid prompts: what SAA+ is told about a part, as data that can be written to a file and read back.

They are of several kinds.  Texts say what a defect is called, in general and for this part.  Properties say how many
parts an image shows, and how large a defect can be.  A number says how many candidates to believe.

    >>> HybridPrompts(specific=("scratch", "bent edge")).texts("metal nut")[-2:]
    ['scratch', 'bent edge']

Source: Cao et al., Segment Any Anomaly without Training via Hybrid Prompt Regularization, 2023, section 4.
Book: anomaly/saa
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from gadkit.checks import describe, share, whole
from gadkit.files import replacing

GENERAL = ("defect on {}", "damage on {}", "flaw on {}")
KIND, FORMAT = "hybrid prompts", 1  # in a file: what it is, and which layout it has


@dataclass(frozen=True)
class HybridPrompts:
    """What is known of a part before any image of it is seen.

    `general`   what any defect is called; a `{}` stands for the part.
    `specific`  what the defects of this part are called, likewise.
    `noun`      what the part is called where it is looked for; None: by the detector's object name.
    `count`     how many such parts an image shows.  A part is smaller than its share of the image, and if there are
                several, they are compared with each other.
    `area`      a defect is smaller than this share of the largest part's area.
    `inside`    at least this share of a candidate's box lies within the part's box.
    `keep`      how many candidates of an image count: those with the highest scores.

    Raises ValueError for anything else: a text in place of a tuple of texts, for example, or no text at all.
    """

    general: tuple[str, ...] = GENERAL
    specific: tuple[str, ...] = ()
    noun: str | None = None
    count: int = 1
    area: float = 0.9
    inside: float = 0.0
    keep: int = 5

    def __post_init__(self) -> None:
        for name in ("general", "specific"):
            texts = getattr(self, name)
            if isinstance(texts, str) or not isinstance(texts, tuple | list):  # a text is a sequence of letters, too
                raise ValueError(f"{name}: expected a tuple of texts, got {describe(texts)}")
            for text in texts:
                if not isinstance(text, str) or not text.strip() or text.count("{}") > 1:
                    raise ValueError(f"{name}: expected texts with at most one {{}} for the part, got {text!r}")
            object.__setattr__(self, name, tuple(text.strip() for text in texts))
        if not self.general + self.specific:
            raise ValueError("general, specific: expected at least one text of either kind, got none")
        if self.noun is not None and (not isinstance(self.noun, str) or not self.noun.strip()):
            raise ValueError(f'noun: expected a text such as "metal nut", or None, got {self.noun!r}')
        numbers = {"count": whole("count", self.count), "keep": whole("keep", self.keep)}
        numbers |= {"area": share("area", self.area), "inside": share("inside", self.inside, zero=True)}
        for name, value in numbers.items():
            object.__setattr__(self, name, value)

    def texts(self, object_name: str, specific: bool = True) -> list[str]:
        """The texts about defects of an object, the general ones first; each once.

        Raises ValueError for a blank name, and where `specific` ones are left out and there are no others.
        """
        name = self.named(object_name)
        if not specific and not self.general:
            raise ValueError("general: expected at least one text where the specific ones are left out, got none")
        chosen = self.general + (self.specific if specific else ())
        return [*dict.fromkeys(text.replace("{}", name) for text in chosen)]

    def named(self, object_name: str) -> str:
        """What the part is called: the prompts' own noun, else the object's name; ValueError for a blank one."""
        if not isinstance(object_name, str) or not object_name.strip():
            raise ValueError(f'object name: expected a text such as "metal nut", got {object_name!r}')
        return (self.noun or object_name).strip()

    @classmethod
    def of(cls, values: Mapping[str, Any], what: str = "prompts") -> "HybridPrompts":
        """Prompts from plain values, as JSON has them.  Raises ValueError for unknown names, and as the class does."""
        known = [field.name for field in fields(cls)]
        if not isinstance(values, Mapping) or (unknown := [name for name in values if name not in known]):
            came = ", ".join(map(str, unknown)) if isinstance(values, Mapping) else describe(values)
            raise ValueError(f"{what}: expected the fields {', '.join(known)}, got {came}")
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})

    def json(self) -> str:
        """The content of a file of prompts."""
        return json.dumps({"gadkit": KIND, "format": FORMAT, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> None:
        """Write them to a file, which is whole or not there.  Raises OSError as writing does."""
        with replacing(path) as part:
            part.write_text(self.json(), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "HybridPrompts":
        """Prompts from a file that `write` or `gadkit prompts` made, changed by hand or not.

        Raises ValueError for a file that is missing, of another kind, or with other fields.
        """
        path = Path(path)
        if not path.is_file():
            raise ValueError(f"prompts: expected a file that `gadkit prompts` wrote, got {str(path)!r}: no such file")
        values = _parsed(path)
        if values is None:
            raise ValueError(f"prompts: expected a file that `gadkit prompts` wrote, got another file, {path}")
        if values.get("format") != FORMAT:
            raise ValueError(f"prompts: expected format {FORMAT} in {path}, got {values.get('format')!r}")
        plain = {name: value for name, value in values.items() if name not in ("gadkit", "format")}
        return cls.of(plain, f"prompts in {path}")


PLAIN = HybridPrompts()  # nothing is known of the part


def is_prompts(path: Path) -> bool:
    """Whether a file is one of prompts, of whatever format."""
    return _parsed(path) is not None


def _parsed(path: Path) -> dict[str, Any] | None:
    """What a file of prompts says; None for any other file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):  # no text, or no JSON, or not to be read
        return None
    return values if isinstance(values, dict) and values.get("gadkit") == KIND else None
