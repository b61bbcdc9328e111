"""The laws of all pretext tasks: they start where a network that knows nothing is, and they learn."""

import pytest
import torch

from gadkit import pretext
from gadkit.pretext.base import unexplained_variance

TASKS = {
    "Rotation": {"size": 32},
    "Jigsaw": {"permutations": 4},
    "RelativePosition": {},
    "DeepCluster": {"clusters": 4, "components": 8, "bank": 512, "size": 32},
    "Colourisation": {"size": 32},
    "Inpainting": {"size": 32},
    "Autoencoder": {"code": 32, "size": 32},
    "FreeLabels": {"size": 32},
}
every_task = pytest.mark.parametrize("name", TASKS)


@every_task
def test_a_task_starts_at_its_collapse_value_and_leaves_it(name: str, small, surveyed, learn) -> None:
    method = getattr(pretext, name)(small(), **TASKS[name])
    assert method.needs == (("images", "height", "materials") if name == "FreeLabels" else ("images",))
    method.scale = (1.0, 1.0)  # four whole photographs, to be learnt by heart
    data = {k: v[::16] for k, v in surveyed.columns().items()}
    first, last = learn(method, data, *((60, 8) if name == "Rotation" else (30, 16)))
    assert first == pytest.approx(method.collapse(16), rel=0.1)
    assert last < 0.9 * method.collapse(16)


@every_task
def test_a_task_learns_from_every_part_of_its_network(name: str, small, surveyed) -> None:
    method = getattr(pretext, name)(small(), **TASKS[name])
    data = surveyed.columns()
    if name == "DeepCluster":  # its classifier starts from zero, and a zero matrix sends nothing back
        method.loss(method.views(data))
        torch.nn.init.normal_(method.head.weight)
    method.loss(method.views(data)).backward()
    learnt = {n: p for n, p in method.named_parameters() if p.numel() and p.requires_grad}
    silent = {n for n, p in learnt.items() if p.grad is None or not p.grad.any()}
    assert not silent  # the class token too: patches look at it


@every_task
def test_a_task_is_told_by_torch_s_generator_alone(name: str, small, surveyed) -> None:
    method = getattr(pretext, name)(small(), **TASKS[name]).eval()
    data = surveyed.columns()
    seen = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seen.append(method.views(data))
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(seen[0], seen[2], strict=True))


@every_task
def test_a_checkpoint_of_a_task_with_the_tiny_encoder_stays_under_three_megabytes(name: str) -> None:
    method = getattr(pretext, name)()
    shipped = {k: v for k, v in method.state_dict().items() if not k.startswith(tuple(method.transient))}
    assert sum(v.numel() * (2 if v.is_floating_point() else v.element_size()) for v in shipped.values()) < 3e6


@pytest.mark.parametrize("name", [n for n in TASKS if n != "FreeLabels"])
def test_images_of_another_kind_are_refused(name: str, small, parts, untyped) -> None:
    method = getattr(pretext, name)(small(), **TASKS[name])
    with pytest.raises(ValueError, match="uint8"):
        method.views({"images": parts.float()})


def test_the_unexplained_share_is_1_for_the_mean_and_0_for_the_truth() -> None:
    target = torch.randn(4, 3, 8, 8) * 5 + 2
    assert unexplained_variance(target, target) == 0
    assert unexplained_variance(target.mean().expand_as(target), target) == pytest.approx(1, rel=1e-5)
    where = torch.rand(4, 3, 8, 8) < 0.3
    assert unexplained_variance(torch.where(where, target, 99.0), target, where) == 0
    assert unexplained_variance(target[where].mean().expand_as(target), target, where) == pytest.approx(1, rel=1e-5)


@pytest.mark.usefixtures("untyped")
def test_what_would_broadcast_or_is_nowhere_has_no_unexplained_share() -> None:
    x = torch.randn(2, 3, 4, 4)
    with pytest.raises(ValueError, match=r"expected .* beside prediction|expected tensors of one shape"):
        unexplained_variance(x, x[:1])
    with pytest.raises(ValueError, match=r"expected .* beside prediction|expected tensors of one shape"):
        unexplained_variance(x, x, torch.ones(2, 1, 4, 4).bool())
    with pytest.raises(ValueError, match="a `where` that is true somewhere"):
        unexplained_variance(x, x, torch.zeros_like(x).bool())


def test_what_does_not_vary_leaves_nothing_to_explain() -> None:
    assert unexplained_variance(torch.zeros(2, 3), torch.zeros(2, 3)) == 0


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("Rotation", {"by": "hand"}, "by: expected one of rot90, resampling, got 'hand'"),
        ("Rotation", {"turns": 5}, "1 to 4"),
        ("Rotation", {"size": 60}, "multiple of the patch"),
        ("Jigsaw", {"colour": "sepia"}, "colour: expected one of"),
        ("Jigsaw", {"gap": -1}, "gap"),
        ("Jigsaw", {"permutations": 1}, "permutations"),
        ("DeepCluster", {"clusters": 9000}, "clusters"),
        ("Colourisation", {"answer": "maybe"}, "answer: expected one of"),
        ("Colourisation", {"cell": 3}, "divisor of the patch"),
        ("Inpainting", {"hole": "black"}, "hole: expected one of"),
        ("Inpainting", {"adversary": -0.1}, "adversary: expected a weight from 0"),
        ("Autoencoder", {"adversary": float("nan")}, "adversary: expected a number, got float nan"),
        ("Autoencoder", {"noise": -1.0}, "noise"),
        ("Autoencoder", {"noise": float("nan")}, "noise"),
        ("Autoencoder", {"code": 0}, "code"),
        ("Autoencoder", {"size": 24}, "power of two"),
        ("FreeLabels", {"labels": ("depth", "mood")}, "labels: expected some of"),
    ],
)
def test_an_option_that_does_not_exist_is_named(name: str, options: dict, message: str, small) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(pretext, name)(small(), **options)
