"""`gadkit export`: take a fitted detector to where there is no Python, as an ONNX graph or as one page of HTML.

Book: intro/run-it
"""

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gadkit.cli import parents

if TYPE_CHECKING:  # --help does not wait for torch
    from gadkit.anomaly.fitted import Fitting
    from gadkit.protocols import Detector

DESCRIPTION = """Take a detector that `gadkit fit` has kept to where there is no Python.

--out writes one page of HTML.  It opens from a disk in any newer browser, without a server and without a network;
photographs are dropped on it, chosen, or taken with the camera, and never leave the machine.  --onnx writes the bare
graph for other runtimes; its metadata, JSON under the key gadkit, say how a photograph becomes its input.
"""

EXAMPLES = """examples:
  gadkit fit --normal good/ --object bolt --out bolt.gad
  gadkit export bolt.gad --out inspector.html
  gadkit export bolt.gad --onnx bolt.onnx

Detectors on patches have such a form (subspace, the default, and patch-knn) on networks of timm, such as the default
one.  Needs the extra: pip install "gadkit[export]".  A file that this command wrote is replaced by a new one, any other
file is left alone.
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `export`."""
    line = "take a fitted detector along, as a page that needs no Python, or as ONNX"
    command = parents.command(commands, "export", line, DESCRIPTION, EXAMPLES)
    command.add_argument("fitted", type=Path, metavar="FILE", help="a detector that `gadkit fit` has kept, NAME.gad")
    command.add_argument("--out", type=Path, metavar="PAGE", help="the page to write, NAME.html")
    command.add_argument("--onnx", type=Path, metavar="GRAPH", help="the graph to write, NAME.onnx")
    command.add_argument(
        "--threshold",
        type=float,
        metavar="X",
        help="call images above X anomalous (default: the highest of the good parts' held-out scores)",
    )
    command.add_argument(
        "--weights", type=Path, metavar="FILE", help="the checkpoint that it was fitted with, if it was one"
    )
    command.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page, the graph, or both; 0 when that is done."""
    from gadkit import inspector, zoo  # imported late: --help need not wait for torch
    from gadkit.anomaly import export, fitted
    from gadkit.cli import good_parts, streams
    from gadkit.files import replacing
    from gadkit.nn.graphs import check_installed

    check_installed()
    outs = _outs(arguments)
    good_parts.check_weights(arguments.weights)
    if arguments.threshold is not None and not math.isfinite(arguments.threshold):
        raise ValueError(f"--threshold: expected a finite number, got {arguments.threshold}")
    state, fitting = fitted.read(arguments.fitted)
    if fitting.weights is not None and arguments.weights is None:
        raise ValueError(f"--weights: expected the checkpoint that it was fitted with, {fitting.weights}, got nothing")
    export.check(fitting.detector)
    if arguments.out is not None and fitting.bits is not None:
        raise ValueError(f"--out: expected good parts of 8 bits, as browsers read them, got {fitting.bits}; try --onnx")
    backbone = zoo.load(fitting.backbone, fitting.preset, "cpu", file=arguments.weights)
    detector = fitted.restore(state, fitting, backbone)
    facts = _facts(detector, fitting, arguments.threshold)
    graph = export.to_onnx(detector, facts)
    for path in outs:
        content = graph if path == arguments.onnx else inspector.page(graph).encode()
        with replacing(path) as part:
            part.write_bytes(content)
        streams.remark(f"{path} ({len(content) / 1e6:.1f} MB)")
    if facts["threshold"] is None:
        streams.remark("no threshold: a single good part has no others to be compared with; draw one in the page")
    return 0


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
        "normal": list(fitting.scores),
        "scale": colours_of(fitting.usual, Scale(*detector.map_range))._asdict(),
        "on_normal": fitting.usual is not None,
    }
