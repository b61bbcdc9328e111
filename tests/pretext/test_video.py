"""Windows, mirrors and rows of frames, and the laws of all tasks on videos."""

import pytest
import torch
from films import everything, landing, learn

from gadkit.pretext.crossmodal import RGBAndFlow, SightAndSound
from gadkit.pretext.prediction import NextFrame
from gadkit.pretext.temporal import FrameOrder
from gadkit.pretext.video import FrameReader, Video, convolutions, mirrored

TASKS = {"FrameOrder": FrameOrder, "NextFrame": NextFrame, "SightAndSound": SightAndSound, "RGBAndFlow": RGBAndFlow}
every_task = pytest.mark.parametrize("name", TASKS)


def made(name: str, small, **options):
    """A task at a size to be learnt in a second, and its data."""
    method = TASKS[name](small(), size=32, **options)
    return method, landing() if "sound" in method.needs else everything()


@every_task
def test_a_task_starts_at_its_collapse_value_and_leaves_it(name: str, small) -> None:
    method, data = made(name, small)
    assert method.needs[0] == "frames"
    data = {key: column[:4] for key, column in data.items()} if name in ("FrameOrder", "SightAndSound") else data
    method.corners = lambda x: torch.full((len(x), 2), 24)  # always the same window, to be learnt by heart
    first, last = learn(method, data, 60 if name in ("FrameOrder", "SightAndSound") else 25)
    assert first == pytest.approx(method.collapse(16), rel=0.1)
    assert last < 0.95 * method.collapse(16)


@every_task
def test_a_task_learns_from_every_part_of_its_network(name: str, small) -> None:
    method, data = made(name, small)
    method.loss(method.views(data)).backward()
    silent = {n for n, p in method.named_parameters() if p.numel() and (p.grad is None or not p.grad.any())}
    assert not silent


@every_task
def test_a_task_is_told_by_torch_s_generator_alone(name: str, small) -> None:
    method, data = made(name, small)
    seen = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        seen.append(method.views(data))
    assert all(torch.equal(a, b) for a, b in zip(seen[0], seen[1], strict=True))
    assert not torch.equal(seen[0][0], seen[2][0])


@every_task
def test_a_checkpoint_with_the_tiny_encoder_stays_under_three_megabytes(name: str) -> None:
    method = TASKS[name]()
    shipped = {k: v for k, v in method.state_dict().items() if not k.startswith(tuple(method.transient))}
    assert sum(v.numel() * 2 for v in shipped.values()) < 3e6


@every_task
def test_data_of_another_kind_are_refused(name: str, small, untyped) -> None:
    method, data = made(name, small)
    with pytest.raises(ValueError, match="frames"):
        method.views({"images": data["frames"]})
    with pytest.raises(ValueError, match="mapping"):
        method.views(data["frames"])
    with pytest.raises(ValueError, match="uint8"):
        method.views(data | {"frames": data["frames"].float()})
    with pytest.raises(ValueError, match="at least 32 x 32"):
        method.views(data | {"frames": data["frames"][..., :20]})
    with pytest.raises(ValueError, match="expected"):
        method.views(data | {"frames": data["frames"][:, :2]})


def test_a_window_is_the_same_for_all_frames_of_a_clip_and_another_for_each_clip(small) -> None:
    method = Video(small(), size=32)
    place = torch.arange(64 * 64.0).view(64, 64).expand(20, 8, 1, 64, 64)
    corners = method.corners(place)
    cut = method.window(place, corners)
    assert cut.shape == (20, 8, 1, 32, 32)
    assert torch.equal(cut[:, 0, 0, 0, 0], (corners[:, 0] * 64 + corners[:, 1]).float())
    assert torch.equal(cut[:, 0], cut[:, 7])
    assert len(corners.unique(dim=0)) > 15
    assert 0 <= corners.min() <= corners.max() <= 32
    whole = Video(small(), size=64)
    assert torch.equal(whole.window(place, whole.corners(place)), place)


def test_two_mirrors_make_none_and_flow_turns_round() -> None:
    flow, both = torch.randn(3, 7, 2, 8, 8), torch.tensor([True, False, True])
    once = mirrored(flow, both)
    assert torch.equal(mirrored(once, both), flow)
    assert torch.equal(once[1], flow[1])
    assert torch.equal(once[0, :, 0], -flow[0, :, 0].flip(-1))
    assert torch.equal(once[0, :, 1], flow[0, :, 1].flip(-1))


def test_frames_in_a_row_are_read_by_their_turns() -> None:
    read, tokens = FrameReader(16, 3, 8), torch.randn(2, 5, 4, 16)
    rows = torch.tensor([[[0, 1, 2], [4, 2, 0]], [[1, 1, 1], [2, 3, 4]]])
    out = read(tokens, rows)
    assert out.shape == (2, 2, 4, 8)
    matrices, biases = read.turns.weight.unflatten(0, (3, 8)), read.turns.bias.unflatten(0, (3, 8))
    by_hand = sum(tokens[0, f] @ matrices[k].T + biases[k] for k, f in enumerate([4, 2, 0]))
    assert torch.allclose(out[0, 1], torch.nn.functional.gelu(by_hand), atol=1e-6)
    assert torch.allclose(read.whole(tokens[:, :3])[0], out[0, 0], atol=1e-6)


def test_convolutions_know_where() -> None:
    torch.manual_seed(0)
    network, plane = convolutions(1, 8), torch.zeros(2, 1, 64, 32)
    plane[0, 0, 10, 5] = plane[1, 0, 50, 25] = 9.0
    assert network(plane).shape == (2, 8)
    assert (network(plane)[0] - network(plane)[1]).abs().max() > 1e-3
