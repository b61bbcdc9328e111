"""Every private operation of torch gives what its public counterpart gives, and every caller works without it."""

import ast
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import gadkit
from gadkit.nn import private
from gadkit.nn.ema import ema_update
from gadkit.search.neighbors import inner

PACKAGE = Path(gadkit.__file__).parent


@pytest.fixture(params=[True, False], ids=["private", "public"])
def allowed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(private, "ALLOWED", request.param)
    return request.param


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_products_are_those_of_the_public_call(allowed: bool) -> None:
    x, weight, bias = torch.randn(5, 7, 12), torch.randn(9, 12), torch.randn(9)
    for part in (x, x[0], x[:0]):
        for b in (bias, None):
            close(private.linear(part, weight, b), F.linear(part, weight, b))
    close(private.linear(x.double(), weight.double()), F.linear(x.double(), weight.double()))
    close(inner(x[0], weight, bias), x[0] @ weight.T + bias)


def test_gradients_go_through_where_something_learns(allowed: bool) -> None:
    x, weight = torch.randn(5, 12), torch.randn(9, 12, requires_grad=True)
    private.linear(x, weight).sum().backward()
    close(weight.grad, x.sum(0).expand(9, 12))


def test_packed_weights_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = torch.randn(3, 5, 64), torch.randn(32, 64) / 8, torch.randn(32)
    if private.can_pack(weight):  # elsewhere there is nothing to compare
        for b in (bias, None):
            plain = F.linear(x, weight, b)
            close(private.packed_linear(x, private.pack(weight), b), plain)
            close(private.packed_linear(x, private.pack(weight), b, gelu=True), F.gelu(plain))
    monkeypatch.setattr(private, "ALLOWED", False)
    assert not private.can_pack(weight)
    assert not private.can_pack(weight.to("meta"))


def test_a_torch_without_them_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*arguments: object) -> Tensor:
        raise AttributeError("no such operation")

    def wrong(x: Tensor, packed: Tensor, bias: Tensor | None, *rest: object) -> Tensor:
        return torch.zeros(*x.shape[:-1], len(bias))

    x, weight = torch.randn(4, 16), torch.randn(8, 16)
    for broken in (gone, wrong):
        private._trial.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(torch.ops.mkldnn, "_linear_pointwise", broken)
            close(private.linear(x, weight), F.linear(x, weight))
            assert not private.can_pack(weight)
    private._trial.cache_clear()


def test_the_image_tower_is_the_same_either_way(
    tiny_clip: Callable, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for allowed in (True, False):
        monkeypatch.setattr(private, "ALLOWED", allowed)
        clip = tiny_clip(width=64, layers=2)
        found.append(clip.encode_image(clip.preprocess(images[:2]), (0, -1)))
    close(found[0].pooled, found[1].pooled)
    for ours, theirs in zip(found[0].patches, found[1].patches, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_tower_follows_its_weights_either_way(tiny_clip: Callable, allowed: bool, images: Tensor) -> None:
    clip = tiny_clip(0, width=64, layers=1)
    x = clip.preprocess(images[:1])
    before = clip.encode_image(x).pooled
    assert (clip.tower() is clip.tower()) is allowed  # without the count a tower is built for every call
    clip.model.visual.transformer.resblocks[0].mlp.c_fc.weight.mul_(1.5)
    after = clip.encode_image(x).pooled
    assert not torch.allclose(after, before)
    torch.testing.assert_close(after, clip.model.visual(x), rtol=1e-5, atol=1e-5)


def test_weights_made_for_inference_are_followed_too(tiny_clip: Callable, images: Tensor) -> None:
    with torch.inference_mode():
        clip = tiny_clip(0, width=64, layers=1)
        x = clip.preprocess(images[:1])
        before = clip.encode_image(x).pooled
        clip.model.visual.transformer.resblocks[0].mlp.c_fc.weight.mul_(1.5)
        assert not torch.allclose(clip.encode_image(x).pooled, before)


def test_teachers_follow_either_way(allowed: bool) -> None:
    teacher, student = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    expected = 0.9 * teacher.weight.detach() + 0.1 * student.weight.detach()
    ema_update(teacher.requires_grad_(False), student, 0.9)
    close(teacher.weight, expected)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_file_uses_what_torch_keeps_to_itself(path: Path) -> None:
    if path == PACKAGE / "nn" / "private.py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node
            while isinstance(owner, ast.Attribute):
                owner = owner.value
            name = owner.id if isinstance(owner, ast.Name) else ""
            assert name not in ("torch", "F", "nn"), f"{ast.unparse(node)} in line {node.lineno}"
            assert node.attr != "_version", f"{ast.unparse(node)} in line {node.lineno}"


@pytest.mark.parametrize("stubborn", [False, True], ids=["light", "needs the compiler"])
def test_a_library_is_imported_without_the_compiler_if_it_can_be(stubborn: bool, tmp_path: Path) -> None:
    (tmp_path / "library.py").write_text(
        "import torch, torch._dynamo\nfrom torch._dynamo.utils import is_compile_supported\n"
        "@torch.compiler.disable\ndef one(): return 1\n@torch.compiler.disable(recursive=False)\ndef two(): return 2\n"
        + "torch._dynamo.config.suppress_errors\n"
        * stubborn
    )
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from gadkit.nn import private
with private.without_compiler():
    import library
assert (library.one(), library.two()) == (1, 2)
assert ("torch._dynamo" in sys.modules) == {stubborn}, "the compiler"
import torch
assert torch.compile(library.one, backend="eager")() == 1 and hasattr(torch._dynamo, "config")
with private.without_compiler():
    import timm
assert timm.list_models("tf_efficientnet_lite0")
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_eyes_load_without_the_compiler() -> None:
    code = """
import sys
from gadkit import zoo
zoo.load("clip"), zoo.load("efficientnet-lite0")
sys.exit("torch._dynamo" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
