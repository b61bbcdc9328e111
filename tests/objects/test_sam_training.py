"""SAM's training: its loss against a literal form, its lessons, and a run of two steps."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gadkit.objects import architecture
from gadkit.objects.architecture import SamConfig, build_sam
from gadkit.objects.training import sam as training

MODEL = SamConfig(size=48, patch=8, width=16, depth=1, heads=2, dim=16, window=0, everywhere=(0,))
RECIPE = training.Recipe(steps=2, seen=6, defects=40, images=4, prompts=2, rounds=(2,), model=MODEL)


@pytest.fixture(scope="module")
def held() -> training.Lessons:
    return training.lessons(RECIPE)


def test_lessons_are_visible_masks_stacks_and_defects(held) -> None:
    from gadkit.factory import scenes

    some = scenes.render(6, 0, 48, "seen", parts=(2, 7))
    for i in range(6):
        masks = [(held.bits[i].int() >> bit) & 1 == 1 for bit in range(held.counts[i])]
        things = some.masks(i)
        assert torch.equal(torch.stack(masks[: len(things)]), things)
        for pile in masks[len(things) :]:
            inside = [n for n, thing in enumerate(things) if (thing & pile).any()]
            assert len(inside) > 1
            assert torch.equal(pile, things[inside].any(0)), "a stack is a union of whole parts"
    assert (held.counts >= 1).all()
    assert len(held.images) > 12, "some photographs with a defect"
    assert ((held.bits[12:] == 1).flatten(1).sum(1) >= training.LEAST).all()
    assert (held.bits >= 0).all(), "no target at the sign of a short number"


def test_only_the_best_of_three_masks_learns() -> None:
    truth = torch.rand(2, 1, 8, 8).round()
    logits = torch.randn(2, 3, 8, 8)
    logits[0, 1], logits[1, 2] = 9 * truth[0, 0] - 4.5, 9 * truth[1, 0] - 4.5
    logits.requires_grad_()
    iou = torch.rand(2, 3, requires_grad=True)
    loss, best = training.mask_loss(logits, iou, truth)
    assert best.tolist() == [1, 2]
    expected, squares = 0.0, []
    for n in range(2):
        each = []
        for m in range(3):
            p, t = logits[n, m].detach().sigmoid(), truth[n, 0]
            right = torch.where(t > 0, p, 1 - p)
            dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
            each.append(20 * ((1 - right) ** 2 * -right.log()).mean() + dice)
            found = p > 0.5
            squares.append((iou[n, m] - (found & (t > 0)).sum() / (found | (t > 0)).sum()) ** 2)
        expected += min(each) / 2
    torch.testing.assert_close(loss, expected + torch.stack(squares).mean())
    loss.backward()
    moved = logits.grad.abs().amax((2, 3)) > 0
    assert moved.tolist() == [[False, True, False], [False, False, True]]


def test_corrections_fall_anywhere_into_the_error() -> None:
    truth = torch.zeros(300, 16, 16, dtype=torch.bool)
    truth[:, 4:12, 2:8] = True
    found = torch.zeros(300, 1, 16, 16) - 1
    found[:, :, 4:12, 5:11] = 1  # three columns are missed, and three added
    found[0] = 2 * truth[:1].float() - 1
    points, labels = training.correction(found, truth, torch.Generator().manual_seed(0))
    assert labels[0] == -1, "nothing is wrong"
    (x, y), labels = points[1:, 0].T, labels[1:, 0]
    assert ((y > 4) & (y < 12)).all()
    assert ((x > 2) & (x < 5))[labels == 1].all()
    assert ((x > 8) & (x < 11))[labels == 0].all()
    assert 0.4 < labels.float().mean() < 0.6, "either side in proportion to its area"
    assert len(points[:, 0].unique(dim=0)) > 30


def test_noisy_boxes_stay_near_and_inside() -> None:
    masks = torch.zeros(200, 40, 40, dtype=torch.bool)
    masks[:, 30:, 8:24] = True
    boxes = training.noisy_boxes(masks, torch.Generator().manual_seed(0))
    exact = torch.tensor([8.0, 30.0, 24.0, 40.0])
    assert (boxes - exact).abs().max() <= 3
    assert boxes.std(0)[:3].min() > 0.5, "every corner moves"
    assert boxes.max() <= 40


def test_turning_moves_images_and_masks_alike() -> None:
    import random

    image = torch.arange(36, dtype=torch.uint8).view(1, 1, 6, 6).expand(-1, 3, -1, -1)
    truth = image[:, :1] > 20
    seen = set()
    for seed in range(40):
        turned, masks = training._turned(image, truth, random.Random(seed))
        assert torch.equal(turned[:, :1] > 20, masks)
        seen.add(tuple(turned[0, 0].flatten().tolist()))
    assert len(seen) == 8


@pytest.mark.parametrize("boxed", [True, False])
def test_every_round_has_a_gradient(boxed) -> None:
    method = training.Prompted(build_sam(MODEL))
    images = torch.randint(256, (2, 3, 48, 48), dtype=torch.uint8)
    truth = torch.zeros(4, 48, 48, dtype=torch.bool)
    truth[:, 10:30, 5:25] = True
    method(images, truth, boxed, 3, torch.Generator().manual_seed(0)).backward()
    still = {name for name, p in method.sam.named_parameters() if p.grad is None or not p.grad.any()}
    allowed = {"prompt_encoder.not_a_point_embed.weight", "prompt_encoder.no_mask_embed.weight"}
    points = {f"prompt_encoder.point_embeddings.{n}.weight" for n in ((0, 1) if boxed else (0, 2, 3))}
    others = {name for name in still if "hypernetworks" in name}
    assert still - others <= allowed | points


def test_two_steps_and_going_on(held, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(training, "lessons", lambda recipe, seed, out: held)  # rendered once, for both runs
    monkeypatch.setattr(training, "_watch", lambda average, step: {"clicks_1": 0.0})
    whole = architecture.read(training.train(tmp_path / "whole", recipe=RECIPE)).state_dict()
    again = architecture.read(training.train(tmp_path / "again", recipe=RECIPE)).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in whole.items())
    start = build_sam(MODEL).state_dict()
    assert any(not torch.equal(value, start[name]) for name, value in whole.items())
    with pytest.raises(ValueError, match="of this training"):
        training.train(tmp_path / "whole", recipe=replace(RECIPE, lr=1.0))
    with pytest.raises(ValueError, match="steps: expected"):
        training.train(tmp_path / "none", steps=0, recipe=RECIPE)


def test_the_loss_of_a_step_depends_on_its_number_alone(held) -> None:
    method = training.Prompted(build_sam(MODEL)).eval()
    loss = training.objective(method, held, RECIPE, 0)
    assert F.l1_loss(loss(3), loss(3)) == 0
    assert loss(3) != loss(4)
