"""What the command is tried on, and how it is run."""

from pathlib import Path

import pytest
from photographs import Run, photograph


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; its exit code, standard output and standard error."""
    from gadkit.cli import main  # not while this file loads: the type-checking import hook must come first

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return call


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder of four good parts, two of them larger."""
    for i in range(4):
        photograph(tmp_path / "good" / f"{i}.png", *((40, 56) if i % 2 else (60, 84)), seed=i)
    return tmp_path / "good"


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Three good parts and one with a hole, in two folders that hold the same file name."""
    for i in range(3):
        photograph(tmp_path / "parts" / "a" / f"{i}.png", seed=10 + i)
    photograph(tmp_path / "parts" / "b" / "0.png", spot=14, seed=20)
    return tmp_path / "parts"
