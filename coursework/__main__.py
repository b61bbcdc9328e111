"""`python -m coursework`: builds the course's notebooks, and grades a folder of submissions.

Book: coursework/teachers
"""

import argparse
import logging
import sys
from pathlib import Path

from coursework import contain, source

OUT = Path("_build/course")


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    made = argparse.ArgumentParser(prog="python -m coursework", description=__doc__.split("\n")[0])
    made.add_argument("--out", type=Path, default=OUT, help="where everything is written (%(default)s)")
    made.add_argument("--only", nargs="+", metavar="NAME", help="of the assignments these")
    made.add_argument("--submissions", type=Path, metavar="FOLDER", help="grade FOLDER/STUDENT/NAME.ipynb")
    limits = contain.Limits()
    made.add_argument(
        "--cell-seconds", type=float, default=limits.cell_seconds, help="of the processor a cell (%(default)s)"
    )
    made.add_argument("--seconds", type=float, default=limits.seconds, help="of a submission (%(default)s)")
    made.add_argument(
        "--uncontained", action="store_true", help="grade where submissions can't be contained: only what you have read"
    )
    return made


def roster(folder: Path) -> list[str]:
    """The students: the folders in a folder.  Raises ValueError for none, and for a name that is no plain one."""
    if not folder.is_dir():
        raise ValueError(f"submissions: expected a folder, got {folder}")
    found = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not found:
        raise ValueError(f"submissions: expected a folder for each student in {folder}, got none")
    if odd := [name for name in found if not all(c.isalnum() or c in "-_" for c in name)]:
        raise ValueError(f"submissions: expected names of letters, digits, - and _, got {', '.join(odd)}")
    return found


def run(arguments: argparse.Namespace) -> None:
    """What the command does.  Raises ValueError for what can't be done."""
    names = source.names()
    assignments = [source.read(name) for name in arguments.only or names]
    students = roster(arguments.submissions) if arguments.submissions else []
    if students and not arguments.uncontained and (lacks := contain.missing()):
        raise ValueError(
            f"this machine can't contain a submission: it lacks {' and '.join(lacks)}; grade on one that can, "
            "or read the submissions and give --uncontained"
        )
    from coursework import course  # imported late: nbgrader takes a second, and --help has none to lose

    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    course.build(out, assignments)
    logging.info("for teachers: %s\nfor students: %s", out / "teacher", out / "student")
    if students:
        limits = contain.Limits(arguments.cell_seconds, arguments.seconds)
        config = course.settings(out, limits, not arguments.uncontained)
        course.grade(out, assignments, arguments.submissions.resolve(), students, config)
        logging.info("feedback: %s\ngrades: %s", out / "feedback", out / "grades.csv")


def main(given: list[str] | None = None) -> int:
    """Run the command: 0, or 2 with the reason on one line."""
    arguments = parser().parse_args(given)
    logging.basicConfig(format="%(message)s", level=logging.INFO, stream=sys.stderr)
    for name in ("traitlets", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        run(arguments)
    except ValueError as error:
        logging.error("%s", error)  # one line: a teacher is no reader of tracebacks
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
