"""Training the tiny CLIP: captions and places are paired truly, twins see the same windows, a short run learns."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from gadkit import factory, weights, zoo
from gadkit.backbones.openclip import embed
from gadkit.backbones.tiny import TinyConfig, build_tiny_clip, tokenizer
from gadkit.factory.captions import agrees, caption
from gadkit.factory.pairs import PairPool
from gadkit.multimodal import contrastive as c
from gadkit.multimodal import pairing

SMALL = TinyConfig(width=32, layers=1, head_width=16, text_width=32, text_layers=1, embed=16)


@pytest.fixture(scope="module")
def pairs():
    return PairPool(seed=0, chunks=8, size=4).draw(0, 8)


@pytest.fixture(scope="module")
def method() -> c.Contrast:
    torch.manual_seed(0)
    return c.Contrast(build_tiny_clip(SMALL), c.Config(model=SMALL))


def batch_of(pairs) -> pairing.Batch:
    return pairing.make_batch(pairs, SMALL, random.Random(0), torch.Generator().manual_seed(0))


def test_a_batch_holds_twins_and_counts_defect_pixels(pairs) -> None:
    batch = batch_of(pairs)
    assert batch.images.shape == (16, 3, 96, 96)
    assert not batch.cells[:8].any()
    assert torch.equal(batch.cells[8:].sum(1), pairs.masks.flatten(1).sum(1))
    assert (batch.state[:8] == pairing.NORMAL).all()
    assert [pairing.DEFECTS[i] for i in batch.state[8:]] == list(pairs.defects)


def test_captions_are_true_of_what_they_were_written_for(pairs) -> None:
    rng, seen = random.Random(1), factory.split("seen")
    for category, defect in zip(pairs.categories, pairs.defects, strict=True):
        for truth in (None, defect):
            claim = caption(category, truth, rng)
            number = {"normal": pairing.NORMAL, "anomalous": pairing.ANOMALOUS} | {
                d: i for i, d in enumerate(pairing.DEFECTS)
            }
            coded = pairing.Captions(
                tokenizer()([claim.text]),
                torch.tensor([pairing.UNNAMED if claim.category is None else seen.index(claim.category)]),
                torch.tensor([number[claim.state]]),
            )
            for other, flaw in ((category, truth), (category, defect), (category, None), ("gear", "hole")):
                image = torch.tensor([seen.index(other) if other in seen else pairing.UNTRAINED])
                state = torch.tensor([pairing.NORMAL if flaw is None else pairing.DEFECTS.index(flaw)])
                assert coded.true_of(image, state).item() == agrees(claim, other, flaw)


def test_windows_lie_on_the_grid_and_twins_share_them(pairs) -> None:
    batch = batch_of(pairs)
    windows = pairing.draw_windows(batch.cells, 12, 3, 50, torch.Generator().manual_seed(0))
    assert windows.shape == (16, 50, 9)
    assert torch.equal(windows[:8], windows[8:])
    rows, columns = windows // 12, windows % 12
    assert ((rows.amax(2) - rows.amin(2)) == 2).all()
    assert ((columns.amax(2) - columns.amin(2)) == 2).all()
    hits = torch.gather(batch.cells, 1, windows.flatten(1))[8:].view(8, 50, 9).sum(2) > 0
    assert hits.float().mean() > 0.5  # defects are small: at random most windows would miss them


def test_the_training_tower_is_the_model(method: c.Contrast, pairs) -> None:
    batch = batch_of(pairs)
    with torch.no_grad():
        ours = method.tower(method.clip.visual.ln_pre(embed(method.clip.visual, batch.images)))[:, 0]
        theirs = F.normalize(method.clip.encode_image(batch.images), dim=-1)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_cut_is_the_class_token_and_the_windows_patches(method: c.Contrast) -> None:
    start = torch.arange(2 * 5 * 3.0).view(2, 5, 3)
    cut = pairing.window_tokens(start, torch.tensor([[[0, 1]], [[2, 3]]]))
    assert torch.equal(cut, torch.stack([start[0, [0, 1, 2]], start[1, [0, 3, 4]]]))


@pytest.mark.parametrize(("whole", "two_way"), [(True, 0.0), (True, 1.0), (False, 1.0)])
def test_knowing_nothing_costs_log_2_and_gradients_reach_both_towers(
    method, pairs, whole: bool, two_way: float
) -> None:
    batch, rng = batch_of(pairs), random.Random(0)
    claim = pairing.make_captions(pairs, 12, rng, tokenizer())
    windows = [pairing.draw_windows(batch.cells, 12, 3, 2, torch.Generator().manual_seed(0))]
    method.zero_grad()
    value = method(batch, claim, windows, whole, two_way)
    assert 0.5 * math.log(2) < value.item() < 4 * math.log(2)
    value.backward()
    assert method.clip.visual.conv1[0].weight.grad.abs().sum() > 0
    assert method.clip.token_embedding.weight.grad.abs().sum() > 0
    blind = c.Contrast(build_tiny_clip(SMALL), method.config)
    with torch.no_grad():
        blind.clip.logit_scale.fill_(-50.0)
        blind.clip.logit_bias.fill_(0.0)
        assert blind(batch, claim, windows, whole, two_way).item() == pytest.approx(math.log(2), abs=1e-3)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A training is followed on one product."""
    glance = c.glance
    monkeypatch.setattr(c, "glance", lambda clip: glance(clip, ("mesh",), 1))


@pytest.mark.usefixtures("few")
def test_a_run_on_frozen_eyes_takes_the_text_tower_as_it_is(tmp_path) -> None:
    model = TinyConfig(64, 16, width=32, layers=1, head_width=16, embed=128, stem="efficientnet-random")
    config = c.Config(steps=3, first=9, pairs=2, chunks=2, captions=8, early=1.0, text="clip-scratch", model=model)
    path = c.train(replace(config, out=tmp_path), watch_every=100)
    found, text = weights.read(path), weights.read(weights.ASSETS / "clip-scratch.safetensors")
    frozen = [name for name in text if name.startswith(("transformer.", "token_", "ln_final", "positional"))]
    assert len(frozen) > 30
    assert all(torch.equal(found[name], text[name]) for name in frozen)
    assert not torch.equal(found["text_projection"], text["text_projection"])
    assert found["visual.conv1.std"].min() > 0.01
    assert found["visual.conv1.mean"].std() > 0.01  # of what the eyes gave for the factory's photographs
    assert not [name for name in found if ".eyes." in name]


def test_cells_count_defect_pixels_at_any_size_of_the_eyes(pairs) -> None:
    large = TinyConfig(224, 16, stem="efficientnet-random")
    batch = pairing.make_batch(pairs, large, random.Random(0), torch.Generator().manual_seed(0))
    assert batch.images.shape == (16, 3, 224, 224)
    assert batch.cells.shape == (16, 196)
    pixels = pairs.masks.flatten(1).sum(1)
    assert ((batch.cells[8:].sum(1) - pixels).abs() <= 0.1 * pixels + 15).all()  # enlarged, and rounded in each cell


@pytest.mark.usefixtures("few")
def test_a_short_run_learns_and_its_weights_load(tmp_path) -> None:
    config = c.Config(
        steps=6, first=3, pairs=4, chunks=6, captions=8, patch_captions=4, model=SMALL, out=tmp_path, lr=3e-3
    )
    path = c.train(config, watch_every=100)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["steps"] == 6
    assert recipe["seconds"] > 0
    assert recipe["versions"]["torch"] == torch.__version__
    clip, control = zoo.load("clip", file=path), zoo.load("clip-random", file=path)
    images = factory.render("gear", torch.arange(2)).images
    seen, blank = (x.encode_image(x.preprocess(images)).pooled for x in (clip, control))
    assert seen.shape == blank.shape == (2, 16)
    assert not torch.allclose(seen, blank)
    logged = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert logged["step"] == 6
    assert 0 <= logged["zero_shot"] <= 1


def test_the_codes_of_what_an_image_and_a_caption_show_are_all_different() -> None:
    assert len({pairing.NORMAL, pairing.ANOMALOUS, pairing.UNNAMED, pairing.UNTRAINED}) == 4
    assert (
        max(pairing.NORMAL, pairing.ANOMALOUS, pairing.UNNAMED, pairing.UNTRAINED) < 0
    )  # numbers from 0 on are categories or defects


def test_nothing_is_saved_where_the_shipped_weights_lie_unless_it_is_asked_for() -> None:
    from gadkit import methods, weights
    from gadkit.backbones import tiny

    assert c.Config().out.resolve() != weights.ASSETS.resolve()
    model, mae = build_tiny_clip(SMALL), methods.build("mae")
    for save, arguments in ((tiny.save, (model, SMALL)), (methods.save, (mae, "mae")), (weights.write, ({},))):
        with pytest.raises(TypeError, match="'path'"):
            save(*arguments)


def test_one_of_several_processes_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="clip: expected to train in one process, got one of 2"):
        c.train(c.Config(steps=1, out=tmp_path))


def test_no_steps_is_an_error() -> None:
    with pytest.raises(ValueError, match="steps: expected at least 1"):
        c.train(c.Config(steps=0))
