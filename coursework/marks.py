"""What a person judged: a small table beside a submission.

`submissions/STUDENT/9-project.csv` has the columns `line`, `points` and `comment`, a row for each line of the rubric
that is judged by hand.

Book: coursework/teachers
"""

import csv
from pathlib import Path

from coursework.source import Assignment


def read_marks(path: Path, assignment: Assignment) -> dict[str, tuple[float, str]]:
    """Points and comment of each line that was judged; none if there is no table.

    Raises ValueError for a line that the rubric does not have or a test checks, and for points that it does not give.
    """
    if not path.is_file():
        return {}
    lines = {line.id: line for line in assignment.rubric if line.by_hand}
    found = {}
    with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a mark before UTF-8
        for row in csv.DictReader(file):
            name = (row.get("line") or "").strip()
            if name not in lines or name in found:
                raise ValueError(f"{path}: expected each of {', '.join(lines)} once, got {name!r}")
            try:
                points = float(row.get("points") or "")
            except ValueError:
                points = -1.0
            if not 0 <= points <= lines[name].points:
                most, came = lines[name].points, row.get("points")
                raise ValueError(f"{path}: expected 0 to {most} points for {name}, got {came!r}")
            found[name] = points, (row.get("comment") or "").strip()
    return found
