"""The small SEEM: prompts alone and together, memory, what no query may alter, and errors that name the fault."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from gadkit import zoo
from gadkit.factory import scenes
from gadkit.objects import seem, seem_network
from gadkit.objects.protocols import Promptable
from gadkit.objects.seem_network import NONE, OFF, ON, REGION, Config, Network, Prompts
from gadkit.objects.training import seem as training
from gadkit.objects.training import seem_prompts
from gadkit.objects.training.lessons import lessons

SMALL = Config(width=16, mask_width=8, queries=4, memories=2, layers=2, heads=2, text_layers=1)


@pytest.fixture(scope="module")
def some() -> scenes.Scenes:
    return scenes.render(2, 5, 64, "development")


@pytest.fixture(scope="module")
def model(some: scenes.Scenes) -> seem.SEEM:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return seem.SEEM(Network(SMALL), seem.eyes.build("efficientnet-random")).set_image(some.images[0])


def nothing(rows: int = 1) -> Prompts:
    at = torch.zeros(rows, dtype=torch.long)
    blank = torch.full((rows, 1, 1), float("nan"))
    return Prompts(at, torch.zeros(rows, 1, 2), torch.full((rows, 1), NONE), at, torch.zeros(rows, 1).long(), blank)


def test_every_prompt_alone_and_together(model: seem.SEEM, some: scenes.Scenes) -> None:
    assert isinstance(model, Promptable)
    point, stroke = torch.tensor([[[20.0, 30.0]]]), torch.tensor([[[20.0, 30.0], [24.0, 30.0]]])
    alone = [
        {"points": point, "labels": torch.ones(1, 1, dtype=torch.long)},
        {"boxes": torch.tensor([[10.0, 12.0, 40.0, 50.0]])},
        {"scribbles": stroke},
        {"text": "the red fuse"},
        {"region": (some.images[1], some.masks(1)[0])},
    ]
    logits = []
    for given in [*alone, {k: v for one in alone for k, v in one.items()}]:
        answer = model.predict(**given)
        assert answer.masks.shape == (1, 3, 64, 64)
        assert answer.logits.shape == (1, 3, 48, 48)
        assert ((answer.iou > 0) & (answer.iou < 1)).all()
        expected = F.interpolate(answer.logits, (64, 64), mode="bilinear") > 0
        assert torch.equal(answer.masks, expected)
        logits.append(answer.logits)
    assert all(not torch.equal(a, b) for n, a in enumerate(logits) for b in logits[:n])
    assert model.predict(points=point, several=False).masks.shape == (1, 1, 64, 64)


def test_many_prompts_are_as_one_by_one(model: seem.SEEM) -> None:
    texts = ["the red fuse", "the fuse left of the cookie"]
    both = model.predict(text=texts)
    for n, text in enumerate(texts):
        one = model.predict(text=text)
        torch.testing.assert_close(one.logits[0], both.logits[n], atol=1e-4, rtol=1e-4)


def test_the_turn_before_changes_the_answer(model: seem.SEEM) -> None:
    point = torch.tensor([[[20.0, 30.0]]])
    first = model.predict(points=point, several=False)
    again = model.predict(points=point, logits=first.logits[:, 0], several=False)
    assert not torch.equal(first.logits, again.logits)


def test_words_and_places_meet_in_one_space(some: scenes.Scenes, model: seem.SEEM) -> None:
    """The match is the sum of two cosines, literally; a click off the object does not speak for it."""
    network, image = model.network, model._image
    ids = seem.text_ids(["the red fuse"], SMALL.words)
    prompts = replace(
        nothing(), texts=ids, points=torch.tensor([[[0.3, 0.4], [0.9, 0.9]]]), kinds=torch.tensor([[ON, OFF]])
    )
    layers = {"queries": network.mask_match, "shown": network.visual_match, "said": network.text_match}
    caught: dict[str, torch.Tensor] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda _, given, name=name: caught.update({name: given[0]}))
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        answer = network(image, prompts)
        for hook in hooks:
            hook.remove()
        seen, said = network.visual_match(caught["shown"][0]), network.text_match(caught["said"][0])
        visual = [F.cosine_similarity(network.mask_match(q), seen, 0) for q in caught["queries"][0]]
        spoken = [F.cosine_similarity(network.concept(q), said, 0) for q in caught["queries"][0]]
        expected = network.sharpness.exp() * (torch.stack(visual) + torch.stack(spoken))
    torch.testing.assert_close(answer.match[0], expected)


def test_prompts_do_not_hear_queries() -> None:
    network = Network(SMALL)
    allowed = network._allowed(torch.tensor([[True, False, True]]), 4)[0]
    assert allowed[:4, :4].all()
    assert not allowed[4:, :4].any()
    assert allowed[0].tolist() == [True] * 4 + [True, False, True]
    assert allowed.diagonal().all()


def test_masked_attention_looks_where_the_mask_is() -> None:
    masks = torch.full((1, 2, 4, 4), -1.0)
    masks[0, 0, :2, :2] = 1
    found = seem_network._inside(masks, torch.Size((4, 4)))
    assert found[0, 0].view(4, 4)[:2, :2].all()
    assert found[0, 0].sum() == 4
    assert found[0, 1].all()  # an empty mask may look everywhere


def test_everything_without_a_prompt(model: seem.SEEM) -> None:
    found = model.everything(["fuse", "cookie"], threshold=0.0)
    assert found.masks.shape[1:] == (64, 64)
    assert set(found.labels.tolist()) <= {0, 1}
    assert not len(model.everything(["fuse"], threshold=1.0).labels)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected points, boxes, scribbles, a text or a region, got none"),
        ({"points": torch.tensor([[[70.0, 3.0]]])}, "points: expected places within 64 x 64 pixels"),
        ({"boxes": torch.tensor([[30.0, 3.0, 10.0, 20.0]])}, "boxes: expected .left, top, right, bottom."),
        ({"text": " "}, "none empty"),
        ({"text": "the red fuse left of the blue cookie " * 3}, "would be cut off"),
        ({"labels": torch.ones(1, 1, dtype=torch.long), "text": "a fuse"}, "expected points beside them"),
        ({"points": torch.tensor([[[7.0, 3.0]]]), "labels": torch.tensor([[2]])}, "labels: expected 0 or 1"),
        ({"points": torch.tensor([[[7.0, 3.0]]]), "text": ["a fuse", "a cookie"]}, "one for each of 1 prompts"),
        ({"logits": torch.zeros(1, 48, 48)}, "expected points, boxes, scribbles, a text or a region, got none"),
        ({"region": (torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(8, 8, dtype=torch.bool))}, "not empty"),
    ],
)
def test_what_is_wrong_with_a_prompt_is_said(model: seem.SEEM, given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model.predict(**given)


def test_no_image_no_answer() -> None:
    blank = seem.SEEM(Network(SMALL), seem.eyes.build("efficientnet-random"))
    with pytest.raises(RuntimeError, match="set_image"):
        blank.predict(text="a fuse")
    with pytest.raises(RuntimeError, match="set_image"):
        blank.everything(["fuse"])


def test_drawn_prompts_mean_their_part() -> None:
    held, kinds = lessons(6, split=("development",)), set()
    for seed in range(4):
        asked = seem_prompts.draw(held, 4, 2, torch.Generator().manual_seed(seed))
        p, size = asked.prompts, asked.masks.shape[-1]
        for r, mask in enumerate(asked.masks):
            kinds |= set(p.kinds[r].tolist())
            assert (p.kinds[r] != NONE).any() or (p.texts[r] != 0).any()
            x, y = (p.points[r] * size).long().clamp(max=size - 1).T
            for kind, truth in ((ON, True), (seem_network.SCRIBBLE, True), (OFF, False)):
                some = p.kinds[r] == kind
                assert (mask[y[some], x[some]] == truth).all()
            if (p.kinds[r] == REGION).any():
                assert asked.scenes[p.source[r]] != asked.scenes[p.at[r]]
    assert {ON, OFF, seem_network.BOX, seem_network.SCRIBBLE} <= kinds


def test_the_second_click_falls_on_the_larger_error() -> None:
    masks = torch.zeros(2, 48, 48, dtype=torch.bool)
    masks[:, :24] = True
    asked = seem_prompts.Asked(nothing(2), masks, [0, 0])
    logits = torch.full((2, 48, 48), -1.0)
    logits[1] = 1.0
    logits[1, :24, :10] = -1.0
    after = seem_prompts.turn(asked, logits, torch.Generator().manual_seed(0))
    assert after.kinds[:, -1].tolist() == [ON, OFF]
    assert after.points[0, -1, 1] < 0.5 < after.points[1, -1, 1]
    assert torch.equal(after.before, logits)


def test_the_loss_of_a_mask_is_cross_entropy_and_dice() -> None:
    logits, true = torch.tensor([[[2.0, -1.0]]]), torch.tensor([[[1.0, 0.0]]])
    a, b = torch.sigmoid(torch.tensor([2.0, -1.0]))
    entropy = -(a.log() + (1 - b).log()) / 2
    dice = 1 - (2 * a + 1) / (a + b + 1 + 1)
    torch.testing.assert_close(training.mask_loss(logits, true)[0], entropy + dice)


def test_training_writes_what_loading_reads(tmp_path: Path, some: scenes.Scenes) -> None:
    path = training.train(tmp_path, steps=2, scenes=12)
    assert path.stat().st_size < 5e6
    model = zoo.load("seem", file=path).set_image(some.images[0])
    assert model.predict(text="the fuse", several=False).masks.shape == (1, 1, 64, 64)
    with pytest.raises(ValueError, match=r"expected those of a tiny oneformer in seem\.safetensors"):
        zoo.load("oneformer", file=path)
