"""`gadkit kernel install`: a Jupyter kernel that computes on a chosen device and says so in its name.

Book: intro/run-it
"""

import argparse
import json
import re
import tempfile
from pathlib import Path

from gadkit.cli import parents, streams

NAME = re.compile(r"[a-z0-9._-]+")
DESCRIPTION = """Register a kernel, so that notebooks in Jupyter run with this Python, this package and one device.  The
kernel's name in Jupyter's menu says which.  A kernel that this command has made is replaced, any other stays.
`jupyter kernelspec list` and `jupyter kernelspec remove NAME` do the rest.
"""
EXAMPLES = """examples:
  gadkit kernel install                                 for this user, on the best device there is
  gadkit kernel install --device cuda:1 --name second   another one, on the second GPU
  gadkit kernel install --prefix .venv --offline        for one environment, and weights only from the cache
"""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `kernel` and its one command, `install`."""
    kernel = commands.add_parser("kernel", help="a Jupyter kernel with the device named", allow_abbrev=False)
    below = kernel.add_subparsers(title="commands", metavar="COMMAND", required=True)
    install = parents.command(below, "install", "register a kernel with Jupyter", DESCRIPTION, EXAMPLES)
    install.add_argument("--device", metavar="NAME", help="cpu, cuda, mps; default: as for every other command")
    install.add_argument("--name", metavar="NAME", help="Jupyter's name for it (default: gadkit-cuda, gadkit-cpu, ...)")
    where = install.add_mutually_exclusive_group()
    where.add_argument("--user", action="store_true", help="for this user (the default)")
    where.add_argument("--prefix", type=Path, metavar="DIR", help="for the environment in DIR: DIR/share/jupyter")
    install.add_argument("--offline", action="store_true", help="never look for weights in the network")
    install.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Register the kernel; 0 when Jupyter can start it."""
    from gadkit import runtime  # imported late: --help need not wait for torch

    try:
        from ipykernel.kernelspec import write_kernel_spec
        from jupyter_client.kernelspec import KernelSpecManager
    except ImportError as error:
        raise ValueError(
            f"kernel: expected ipykernel in this environment, got none ({error}): python -m pip install ipykernel"
        ) from error
    device, title = runtime.describe(runtime.device(arguments.device))
    name = arguments.name if arguments.name is not None else f"gadkit-{device.split(':')[0]}"
    if not NAME.fullmatch(name):
        raise ValueError(f"--name: expected small letters, digits, dots, dashes and underscores, got {name!r}")
    prefix = arguments.prefix and arguments.prefix.resolve()
    manager = KernelSpecManager()
    folder = prefix / "share" / "jupyter" / "kernels" if prefix else Path(manager.user_kernel_dir)
    manager.kernel_dirs = [str(folder), *manager.kernel_dirs]
    _check_free(name, folder / name, manager.find_kernel_specs().get(name))
    environment = {"GADKIT_DEVICE": device} | ({"HF_HUB_OFFLINE": "1"} if arguments.offline else {})
    own = {"display_name": f"gadkit ({title})", "env": environment, "metadata": {"debugger": True, "gadkit": device}}
    with tempfile.TemporaryDirectory() as made:
        spec = write_kernel_spec(Path(made) / "kernel", own)
        where = manager.install_kernel_spec(spec, name, user=prefix is None, prefix=prefix and str(prefix))
    streams.remark(f"{own['display_name']} is in {where}")
    return 0


def _check_free(name: str, place: Path, known: str | None) -> None:
    """Raise ValueError if a kernel of this name that `gadkit` has not made stands in the place, or would be hidden."""
    for there in {place} | ({Path(known)} if known else set()):
        if there.exists() and not _ours(there):
            raise ValueError(
                f"--name: expected one that is free, got {name!r}, a kernel of another program in {there}; "
                "nothing was written"
            )


def _ours(folder: Path) -> bool:
    try:
        return "gadkit" in json.loads((folder / "kernel.json").read_text(encoding="utf-8"))["metadata"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
