"""The fused search is the plain one: on CUDA as it is, elsewhere in Triton's interpreter.

The kernel runs in a process of its own: Triton reads TRITON_INTERPRET when it is imported, and the hook that checks
types would stand between Triton and the kernel's source.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gadkit.anomaly.maps import association
from gadkit.search import neighbors
from gadkit.search.neighbors import can_fuse, topk

pytest.importorskip("triton", reason="torch brings Triton where it computes on a GPU")
WHERE = os.environ["GADKIT_DEVICE"]
SMALL = (16, 16, 16)
# queries, keys, width, dtype, blocks, shares: odd sizes, one row or column too many or too few, one of everything
CASES = {
    "one of everything": (1, 1, 1, torch.float32, SMALL, 1),
    "fewer than a block": (5, 7, 3, torch.float32, SMALL, 0),
    "whole blocks": (32, 48, 32, torch.float32, SMALL, 3),
    "odd sizes": (37, 83, 19, torch.float32, (16, 32, 16), 2),
    "more shares than keys": (17, 5, 16, torch.float32, SMALL, 9),
    "the defaults": (70, 130, 65, torch.float32, (64, 64, 64), 0),
    "half precision": (19, 65, 33, torch.float16, SMALL, 2),
    "bfloat16": (19, 65, 33, torch.bfloat16, SMALL, 2),
    "no queries": (0, 4, 8, torch.float32, SMALL, 1),
}


def features(case: str) -> tuple[Tensor, Tensor]:
    """Queries and keys of different lengths, which cosines must not see."""
    n, m, d, dtype, *_ = CASES[case]
    draw = torch.Generator().manual_seed(n + m + d)
    q, k = torch.randn(n, d, generator=draw), torch.randn(m, d, generator=draw)
    return (q * 3).to(WHERE, dtype), (k * torch.linspace(0.1, 9, m)[:, None]).to(WHERE, dtype)


def ties() -> tuple[Tensor, Tensor]:
    """Every key of 40 comes three times, and rows of zeros are equally far from everything."""
    q, k = (x.clone() for x in features("whole blocks"))
    q[3] = 0
    return q, torch.cat([k[:40], k[:40], k[:40]])


def main(folder: str) -> None:
    """Run the kernel on all cases; called in a process of its own."""
    from gadkit.search import fused

    found = {}
    for case, (*_, blocks, shares) in CASES.items():
        found[case] = fused.nearest(*features(case), blocks, shares)
    for shares in (1, 4):
        found[f"ties {shares}"] = fused.nearest(*ties(), SMALL, shares)
    q, k = features("odd sizes")
    found["not contiguous"] = fused.nearest(q[::2, 1:], k[1::3, 1:], SMALL)
    found["zeros"] = fused.nearest(q, torch.zeros_like(k), SMALL)
    errors = {}
    for name, (queries, keys) in bad().items():
        try:
            fused.nearest(queries, keys)
        except ValueError as error:
            errors[name] = str(error)
    neighbors.can_fuse.__globals__["can_fuse"] = lambda *_: True  # on a CPU the choice is made by hand
    found["topk"] = tuple(x.squeeze(1) for x in topk(q, k, 1))
    association.__globals__["can_fuse"] = lambda *_: True
    found["association"] = (association(F.normalize(q, dim=1)[None], F.normalize(k, dim=1)),)
    torch.save({"found": found, "errors": errors}, Path(folder) / "found.pt")


def bad() -> dict[str, tuple[Tensor, Tensor]]:
    x = torch.ones(3, 4, device=WHERE)
    return {
        "no keys": (x, x[:0]),
        "widths": (x, x[:, 1:]),
        "dtypes": (x, x.half()),
        "double": (x.double(), x.double()),
        "one axis": (x, x[0]),
    }


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """What the kernel found."""
    folder = tmp_path_factory.mktemp("fused")
    here = Path(__file__)
    script = f"import sys; sys.path.insert(0, {str(here.parent)!r}); import {here.stem} as it; it.main({str(folder)!r})"
    mode = {} if WHERE.startswith("cuda") else {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, "-c", script], env=os.environ | mode, check=True, cwd=here.parents[2])
    return torch.load(folder / "found.pt", weights_only=True)


@pytest.mark.parametrize("case", CASES)
def test_the_kernel_finds_what_a_full_matrix_holds(kernel: dict, case: str) -> None:
    queries, keys = features(case)
    cosines = F.normalize(queries.double(), dim=1) @ F.normalize(keys.double(), dim=1).T
    found, rows = kernel["found"][case]
    assert (found.dtype, rows.dtype) == (torch.float32, torch.long)
    assert len(found) == len(queries)
    if len(queries):
        expected = cosines.max(1)
        assert torch.allclose(found.double(), expected.values, rtol=0, atol=2e-6)
        assert torch.equal(rows, expected.indices)


@pytest.mark.parametrize("shares", [1, 4])
def test_of_equal_keys_the_first_is_taken(kernel: dict, shares: int) -> None:
    queries, keys = ties()
    found, rows = kernel["found"][f"ties {shares}"]
    assert rows.max() < 40
    others = torch.arange(len(queries)) != 3
    best = (F.normalize(queries, dim=1) @ F.normalize(keys[:40], dim=1).T).max(1)
    assert torch.equal(rows[others], best.indices[others])
    assert (found[3], rows[3]) == (0, 0)


def test_slices_and_zeros_are_as_good_as_any(kernel: dict) -> None:
    q, k = features("odd sizes")
    best = (F.normalize(q[::2, 1:], dim=1) @ F.normalize(k[1::3, 1:], dim=1).T).max(1)
    found, rows = kernel["found"]["not contiguous"]
    assert torch.allclose(found, best.values, atol=2e-6)
    assert torch.equal(rows, best.indices)
    assert not kernel["found"]["zeros"][0].any()


def test_search_and_association_with_the_kernel_are_those_without(kernel: dict) -> None:
    q, k = features("odd sizes")
    expected, which = topk(q, k, 1)
    found, rows = kernel["found"]["topk"]
    assert torch.allclose(found, expected[:, 0], atol=2e-6)
    assert torch.equal(rows, which[:, 0])
    plain = association(F.normalize(q, dim=1)[None], F.normalize(k, dim=1))
    assert torch.allclose(kernel["found"]["association"][0], plain, atol=2e-6)


def test_what_does_not_fit_is_named(kernel: dict) -> None:
    assert kernel["errors"].keys() == bad().keys()
    assert "got torch.float32 on" in kernel["errors"]["dtypes"]
    assert "got (3, 4), (3, 3)" in kernel["errors"]["widths"]


def test_a_cpu_keeps_the_plain_search() -> None:
    x = torch.ones(2, 3)
    assert not can_fuse(x, x)


COMPILES = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from gadkit.search import fused

for chip, kind, product in ((80, "fp32", "fma"), (90, "bf16", "mma")):
    given = {"queries": f"*{kind}", "keys": f"*{kind}", "cosines": "*fp32", "rows": "*i32"}
    given |= dict.fromkeys(("n", "m", "share", "d"), "i32") | dict.fromkeys("QKD", "constexpr") | {"WIDE": "constexpr"}
    source = ASTSource(fused._kernel, given, {**dict(zip("QKD", fused.BLOCKS)), "WIDE": False})
    made = triton.compile(source, target=GPUTarget("cuda", chip, 32))
    assert product in made.asm["ptx"] and made.asm["cubin"], made.asm.keys()
    assert made.metadata.shared <= 99 * 1024, made.metadata.shared
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Triton brings its assembler for Linux")
def test_the_kernel_compiles_for_two_generations_of_chips(tmp_path: Path) -> None:
    """No GPU is needed for that; 99 KB is what a block may have on the smaller chips of the first."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment |= {"TRITON_CACHE_DIR": str(tmp_path), "PYTHONWARNINGS": "ignore"}
    (tmp_path / "compiles.py").write_text(COMPILES)  # Triton reads its functions' source from files
    command = [sys.executable, str(tmp_path / "compiles.py")]
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    subprocess.run(command, env=environment, check=True)
