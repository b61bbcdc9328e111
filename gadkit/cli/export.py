"""`gadkit export`: take a detector to where there is no Python, as an ONNX graph or as one page of HTML.

Book: intro/run-it
"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gadkit.anomaly.detectors import DETECTORS, default
from gadkit.cli import parents

if TYPE_CHECKING:  # --help does not wait for torch
    from gadkit.anomaly.fitted import Fitting
    from gadkit.protocols import Detector

DESCRIPTION = """Take a detector to where there is no Python.

FILE is one that `gadkit fit` has kept.  Without it the detector needs no good parts: it compares with sentences about
the part, if that has a name (--object, WinCLIP), else with descriptions that were learnt on others (AnomalyCLIP).

--out writes one page of HTML.  It opens from a disk in any newer browser, without a server and without a network;
photographs are dropped on it, chosen, or taken with the camera, and never leave the machine.  --onnx writes the bare
graph for other runtimes; its metadata, JSON under the key gadkit, say how a photograph becomes its input.
"""

EXAMPLES = """examples:
  gadkit fit --normal good/ --object bolt --out bolt.gad
  gadkit export bolt.gad --out inspector.html
  gadkit export bolt.gad --onnx bolt.onnx
  gadkit export --object bolt --out inspector.html

Detectors on patches have such a form (subspace, the default of `gadkit fit`, and patch-knn) on networks of timm, such
as the default one, and so have those that read: winclip, with good parts or without, and anomalyclip.  A page has about
13 MB, and 19 MB with one that reads.  Needs the extra: pip install "gadkit[export]".  A file that this command wrote is
replaced by a new one, any other file is left alone.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `export`."""
    line = "take a detector along, as a page that needs no Python, or as ONNX"
    words, mute = default(normal=False), default(normal=False, named=False)
    usual = parents.question(f"without FILE: {words} or {mute} (default: {words} with --object, else {mute})")
    command = parents.command(commands, "export", line, DESCRIPTION, EXAMPLES, usual, parents.preset())
    command.add_argument(
        "fitted", type=Path, nargs="?", metavar="FILE", help="a detector that `gadkit fit` has kept, NAME.gad"
    )
    command.add_argument("--out", type=Path, metavar="PAGE", help="the page to write, NAME.html")
    command.add_argument("--onnx", type=Path, metavar="GRAPH", help="the graph to write, NAME.onnx")
    command.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="call images above X anomalous (default: the highest of the good parts' held-out scores)",
    )
    some = dict.fromkeys(("normal", "prompts", "finder", "segmenter", "bank"))  # what nothing here can be given
    command.set_defaults(run=run, device="cpu", **some)


def run(arguments: argparse.Namespace) -> int:
    """Write the page, the graph, or both; 0 when that is done."""
    from gadkit import inspector  # imported late: --help need not wait for torch
    from gadkit.anomaly import export
    from gadkit.cli import good_parts, streams
    from gadkit.files import replacing
    from gadkit.nn.graphs import check_installed

    check_installed()
    outs = _outs(arguments)
    good_parts.check_weights(arguments.weights)
    if arguments.threshold is not None and not math.isfinite(arguments.threshold):
        raise ValueError(f"--threshold: expected a finite number, got {arguments.threshold}")
    detector, fitting = _untaught(arguments) if arguments.fitted is None else _kept(arguments)
    facts = _facts(detector, fitting, arguments.threshold)
    graph = export.to_onnx(detector, facts)
    for path in outs:
        content = graph if path == arguments.onnx else inspector.page(graph).encode()
        with replacing(path) as part:
            part.write_bytes(content)
        streams.remark(f"{path} ({len(content) / 1e6:.1f} MB)")
    if facts["threshold"] is None:
        why = "a single good part has no others to be compared with" if fitting.parts else "no good parts were seen"
        streams.remark(f"no threshold: {why}; draw one in the page")
    return 0


def _kept(arguments: argparse.Namespace) -> "tuple[Detector, Fitting]":
    """The detector of a file.  Raises ValueError for options that the file answers, and for what can't be exported."""
    from gadkit import zoo
    from gadkit.anomaly import export, fitted
    from gadkit.cli.inspection import EXCLUDED

    if given := [f"--{name}" for name in EXCLUDED if getattr(arguments, name) is not None]:
        raise ValueError(f"FILE: expected it without {given[0]}: the file says that already")
    state, fitting = fitted.read(arguments.fitted)
    if fitting.weights is not None and arguments.weights is None:
        raise ValueError(f"--weights: expected the checkpoint that it was fitted with, {fitting.weights}, got nothing")
    export.check(fitting.detector)
    if arguments.out is not None and fitting.bits is not None:
        raise ValueError(f"--out: expected good parts of 8 bits, as browsers read them, got {fitting.bits}; try --onnx")
    backbone = zoo.load(fitting.backbone, fitting.preset, "cpu", file=arguments.weights)
    return fitted.restore(state, fitting, backbone), fitting


def _untaught(arguments: argparse.Namespace) -> "tuple[Detector, Fitting]":
    """A detector that has seen no good parts.  Raises ValueError for one that needs some, or can't be exported."""
    from gadkit.anomaly import export
    from gadkit.cli import good_parts, streams

    if (name := arguments.detector) in DETECTORS:
        export.check(name)
        if not DETECTORS[name].zero_shot:
            raise ValueError(f"FILE: expected one that `gadkit fit` wrote, for {name} has to see good parts, got none")
    question = good_parts.asked(arguments)
    detector = question.build(question.load(), ()).fit()
    streams.remark(*detector.remarks())
    return detector, question.fitting(parts=0, copies=0, sizes=(), bits=None, floats=1.0)


def _outs(arguments: argparse.Namespace) -> list[Path]:
    """What to write.  Raises ValueError for nothing, for another ending, and for somebody else's file."""
    from gadkit import inspector
    from gadkit.anomaly import export
    from gadkit.files import writable

    kinds = {"--out": (arguments.out, ".html", inspector.is_page), "--onnx": (arguments.onnx, ".onnx", export.is_graph)}
    wanted = {option: kind for option, kind in kinds.items() if kind[0] is not None}
    if not wanted:
        raise ValueError("export: expected --out PAGE.html, --onnx GRAPH.onnx or both, got neither")
    for option, (path, ending, own) in wanted.items():
        if path.suffix != ending:
            raise ValueError(f"{option}: expected a name that ends in {ending}, got {str(path)!r}")
        if path.exists() and not (path.is_file() and own(path.read_bytes())):
            raise ValueError(f"{option}: expected a new name, or that of an earlier export, got another file, {path}")
        writable(path.parent, option)
    return [path for path, *_ in wanted.values()]


def _facts(detector: "Detector", fitting: "Fitting", threshold: float | None) -> dict[str, Any]:
    """What an answer needs beside the graph: its threshold, the good parts' scores, the colours, and words."""
    import gadkit
    from gadkit.cli import words
    from gadkit.report import colours_of
    from gadkit.viz import Scale

    if threshold is None and fitting.scores:
        threshold = max(fitting.scores)
    return {
        "gadkit": gadkit.__version__,
        "object": fitting.object_name,
        "how": words.how(fitting),
        "explained": detector.explain(),
        "threshold": threshold,
        "parts": fitting.parts,
        "normal": list(fitting.scores),
        "scale": colours_of(fitting.usual, Scale(*detector.map_range))._asdict(),
        "on_normal": fitting.usual is not None,
    }
