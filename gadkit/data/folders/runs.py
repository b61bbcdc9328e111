"""Properties that the files of one run share, and files that differ: depth, pages, bands, transparency.

Book: intro/run-it
"""

import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from gadkit.data.folders.depth import FLOATS, STEPS, Depth
from gadkit.data.folders.photographs import read_deep, read_header, shows_through

MOST = 0.9  # of the files with more than eight bits: so many have to fit into the depth of the run
DARK = 4  # bits below the run's depth from which on a file is remarked on: a sixteenth of the light
NAMES = 5  # files that a remark names
Number = TypeVar("Number", int, float)


@dataclass
class FileRun:
    """The files that are compared with one another: one `depth` for all, and `remarks` on what is not as it seems.

    Of each file that can be opened, as it is stored, `sizes` has height and width and `pixels` their product.
    """

    depth: Depth
    remarks: list[str] = field(default_factory=list)
    pixels: dict[Path, int] = field(default_factory=dict)
    sizes: dict[Path, tuple[int, int]] = field(default_factory=dict)


def examine(files: Iterable[Path], bits: int | None = None, most: int | None = None) -> FileRun:
    """Look at all files of a run before it: at their headers, and at the pixels of those with more than eight bits.

    Of these, white is the highest value of 8, 10, 12, 14 or 16 bits that holds nine in ten files, each but for one
    pixel in a thousand, unless `bits` says it.  Files that cannot be read are passed over: reading names them.  Of
    those with more than `most` pixels only the header is read.  Raises ValueError for `bits` outside 8 to 16.
    """
    run = FileRun(Depth(bits))
    whole: dict[Path, int] = {}
    floats: dict[Path, float] = {}
    odd: dict[str, list[Path]] = {"frames": [], "bands": [], "transparent": []}
    for path in files:
        try:
            header = read_header(path)
            run.sizes[path], run.pixels[path] = header.size, math.prod(header.size)
            if most is not None and run.pixels[path] > most:
                continue
            if header.deep:
                deep = read_deep(path)
                (floats if deep.floats else whole)[path] = deep.white() if deep.floats else deep.bits()
                see_through = deep.alpha is not None and bool((deep.alpha < 2**deep.room - 1).any())
            else:
                see_through = header.alpha and shows_through(path)
        except ValueError:
            continue
        for kind, found in (("frames", header.frames > 1), ("bands", header.dropped), ("transparent", see_through)):
            odd[kind] += [path] * bool(found)
    run.depth = Depth(bits or _holds_most(whole.values(), (*STEPS, 15, 16)), _white(floats, bits))
    run.remarks += [*_of_depth(run.depth, whole, bits), *_of_floats(run.depth, floats), *_of_kind(odd)]
    return run


def _holds_most(needed: Iterable[Number], steps: Sequence[Number]) -> Number | None:
    """The lowest step that holds nine of ten; None for nothing."""
    needed = sorted(needed)
    if not needed:
        return None
    return next((step for step in sorted(steps) if sum(n <= step for n in needed) >= MOST * len(needed)), max(steps))


def _white(floats: dict[Path, float], bits: int | None) -> float:
    white = _holds_most(floats.values(), FLOATS) or 1.0
    return white if bits is None or white == 1 else 2.0**bits - 1


def _of_depth(depth: Depth, needed: dict[Path, int], asked: int | None) -> Iterator[str]:
    if not needed:
        return
    if asked is None and depth.bits < 16:
        yield (
            f"{_files(needed)} of more than 8 bits, of which the values need {depth.bits}: white is "
            f"{2**depth.bits - 1} in all of them; give --bits {depth.bits} to every run that is compared with this one"
        )
    if over := [path for path, bits in needed.items() if bits > depth.bits]:
        most = max(needed[path] for path in over)
        cut = f"{_files(over)} brighter than {depth.bits} bits, cut off at white"
        yield f"{cut}: {_named(over)}; they need --bits {most}"
    if dark := [path for path, bits in needed.items() if bits <= depth.bits - DARK]:
        least = max(needed[path] for path in dark)
        yield (
            f"{_files(dark)} that would fit into {least} of the {depth.bits} bits, so read as dark: {_named(dark)}; if "
            "they come from another camera, give them a run of their own"
        )


def _of_floats(depth: Depth, needed: dict[Path, float]) -> Iterator[str]:
    if needed and depth.floats != 1:
        yield f"{_files(needed)} of floats: white is {depth.floats:g} in all of them"
    if dark := [path for path, white in needed.items() if white * 2**DARK <= depth.floats]:
        most = max(needed[path] for path in dark)
        yield f"{_files(dark)} of floats that are at most {most:g}, so read as dark: {_named(dark)}"


def _of_kind(odd: dict[str, list[Path]]) -> Iterator[str]:
    """Remarks on what is not read of files that are."""
    words = {
        "frames": "with several pages or frames, of which only the first is read",
        "bands": "with bands beside colour and transparency, which are not read",
        "transparent": "with transparent parts, which are put on white",
    }
    for kind, text in words.items():
        if odd[kind]:
            yield f"{_files(odd[kind])} {text}: {_named(odd[kind])}"


def _files(paths: Collection[Path]) -> str:
    return f"{len(paths)} file" + "s" * (len(paths) != 1)


def _named(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:NAMES])) + (f" and {len(paths) - NAMES} more" if len(paths) > NAMES else "")
