"""A module as an ONNX graph, for runtimes that know no torch.  Needs the extra `gadkit[export]`.

Book: intro/run-it
"""

import json
import warnings
from collections.abc import Collection, Mapping
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

KEY = "gadkit"  # of the metadata, JSON
NEEDED = ("onnx", "onnxscript", "onnxruntime")


def traced(
    module: nn.Module,
    given: Mapping[str, Tensor],
    outputs: Collection[str],
    free: Mapping[str, int],
    about: Mapping[str, Any],
) -> bytes:
    """The graph of what `module` does with the tensors `given` by the names of its arguments.

    `free` names axes of any length: of an input of that name.  `about` goes into the metadata, as JSON.  Raises
    ValueError where a package of the extra is missing.
    """
    check_installed()
    axes = {name: {free[name]: torch.export.Dim(f"n_{name}")} if name in free else None for name in given}
    with warnings.catch_warnings():  # the exporter's, about itself
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            kwargs=dict(given),
            dynamo=True,
            dynamic_shapes=axes,
            input_names=[*given],
            output_names=[*outputs],
            external_data=False,
            optimize=False,  # see `_tidy`
            verbose=False,
        )
        _tidy(program)
        model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(dict(about))
    return model.SerializeToString()


def about_of(content: bytes) -> dict[str, Any]:
    """The metadata of a graph.  Raises ValueError for bytes that `traced` did not make."""
    check_installed()
    import onnx

    try:
        entries = {entry.key: entry.value for entry in onnx.load_from_string(content).metadata_props}
        return json.loads(entries[KEY])
    except Exception as error:  # protobuf's own, of which every version has others
        raise ValueError("onnx: expected a graph that `gadkit export` wrote, got something else") from error


def check_installed() -> None:
    """Raise ValueError where a package of the extra is missing."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise ValueError(f'export: expected {", ".join(missing)} to be installed: pip install "gadkit[export]"')


def _tidy(program: torch.onnx.ONNXProgram) -> None:
    """Compute what is constant, and drop what is not used; norms stay beside the weights.

    The exporter's own optimiser would fold norms into weights.  Shipped weights are halves, and a float that was one
    has 13 empty bits: a file of them is half as large when it is packed.  A runtime folds norms when it loads them.
    """
    from onnxscript import optimizer

    optimizer.fold_constants(program.model)
    optimizer.remove_unused_nodes(program.model)
    optimizer.remove_unused_functions(program.model)
