"""SAM against its own package and against transformers: the same masks, for every kind of prompt."""

import numpy as np
import pytest
import torch
from segment_anything import SamAutomaticMaskGenerator, SamPredictor

from gadkit import zoo
from gadkit.objects import architecture, regions
from gadkit.objects.architecture import SamConfig, build_sam
from gadkit.objects.automatic import automatic
from gadkit.objects.promptable import SAM
from gadkit.objects.protocols import Promptable
from gadkit.objects.renaming import to_transformers, transformers_config
from gadkit.weights import WeightsUnavailable

SMALL = SamConfig(size=64, patch=8, width=32, depth=2, heads=2, dim=16, window=4, everywhere=(1,))
POINTS = torch.tensor([[[20.0, 30.0], [70.0, 10.0]], [[50.0, 44.0], [5.0, 5.0]]])
LABELS = torch.tensor([[1, 0], [1, 1]])
BOXES = torch.tensor([[10.0, 8.0, 60.0, 40.0], [0.0, 0.0, 90.0, 50.0]])


def lively(config: SamConfig = SMALL) -> torch.nn.Module:
    """A network whose answers are far from constant."""
    torch.manual_seed(1)
    sam = build_sam(config).eval()
    with torch.no_grad():
        for name, parameter in sam.named_parameters():
            parameter.add_(0.06 * torch.randn_like(parameter) if parameter.ndim > 1 or "bias" in name else 0)
        last = sam.mask_decoder.iou_prediction_head.layers[-1]
        last.weight.mul_(0.3), last.bias.fill_(0.5)  # an expected overlap is about a half
    return sam.requires_grad_(False)


def photograph(height: int = 50, width: int = 90) -> torch.Tensor:
    ramp = torch.linspace(0, 255, height * width).view(height, width)
    noise = torch.randint(60, (3, height, width), generator=torch.Generator().manual_seed(0))
    return ((ramp + noise) % 256).to(torch.uint8)


@pytest.fixture(scope="module")
def sam() -> torch.nn.Module:
    return lively()


@pytest.fixture(scope="module")
def model(sam) -> SAM:
    return SAM(sam).set_image(photograph())


PROMPTS = {
    "points": {"points": POINTS, "labels": LABELS},
    "boxes": {"boxes": BOXES},
    "both": {"points": POINTS, "labels": LABELS, "boxes": BOXES},
}


@pytest.mark.parametrize("several", [True, False])
@pytest.mark.parametrize("kind", PROMPTS)
@pytest.mark.parametrize("again", [False, True])
def test_masks_are_those_of_the_package(sam, model, kind, several, again) -> None:
    prompt = PROMPTS[kind]
    logits = model.predict(**prompt, several=False).logits[:, 0] if again else None
    ours = model.predict(**prompt, logits=logits, several=several)
    theirs = SamPredictor(sam)
    theirs.set_image(photograph().permute(1, 2, 0).numpy())
    for p in range(2):
        masks, iou, low = theirs.predict(
            point_coords=POINTS[p].numpy() if "points" in prompt else None,
            point_labels=LABELS[p].numpy() if "points" in prompt else None,
            box=BOXES[p].numpy() if "boxes" in prompt else None,
            mask_input=None if logits is None else logits[p, None].numpy(),
            multimask_output=several,
        )
        np.testing.assert_allclose(ours.logits[p].numpy(), low, atol=2e-5)
        np.testing.assert_allclose(ours.iou[p].numpy(), iou, atol=2e-5)
        assert (ours.masks[p].numpy() != masks).mean() < 1e-3
    assert 0.01 < ours.masks.float().mean() < 0.99, "masks that could differ"


def test_several_images_in_one_decoding(sam) -> None:
    images = torch.stack([photograph(64, 64), photograph(64, 64).flip(2)])
    with torch.no_grad():
        embeddings = sam.image_encoder(sam.preprocess(images.float()))
        points, labels = POINTS.repeat(2, 1, 1).clamp(max=63), LABELS.repeat(2, 1)
        sparse, dense = sam.prompt_encoder((points, labels), None, None)
        masks, iou = architecture.decode(sam, embeddings, sparse, dense)
        for i, embedding in enumerate(embeddings):
            rows = slice(2 * i, 2 * i + 2)
            expected = sam.mask_decoder.predict_masks(
                embedding[None], sam.prompt_encoder.get_dense_pe(), sparse[rows], dense[rows]
            )
            torch.testing.assert_close(masks[rows], expected[0], atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(iou[rows], expected[1], atol=1e-5, rtol=1e-5)
    assert (masks[:2] - masks[2:]).abs().max() > 1e-2


def test_transformers_gives_the_same_masks(sam) -> None:
    from transformers import SamConfig as TheirConfig
    from transformers import SamModel

    theirs = SamModel(TheirConfig(**transformers_config(SMALL))).eval()
    theirs.load_state_dict(to_transformers(sam.state_dict()))  # strict: none is missing and none left over
    pixels = sam.preprocess(photograph(64, 64)[None].float())
    model = SAM(sam).set_image(photograph(64, 64))
    points, boxes = POINTS.clamp(max=63), BOXES.clamp(max=64)
    for given, asked in (
        ({"points": points, "labels": LABELS}, {"input_points": points[None], "input_labels": LABELS[None]}),
        ({"boxes": boxes}, {"input_boxes": boxes[None]}),
    ):
        ours = model.predict(**given)
        with torch.no_grad():
            expected = theirs(pixel_values=pixels, **asked, multimask_output=True)
        torch.testing.assert_close(ours.logits, expected.pred_masks[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.iou, expected.iou_scores[0], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="an image encoder of SAM's own"):
        transformers_config(SamConfig(eyes="efficientnet-lite0"))


@pytest.mark.parametrize(("least_iou", "least_stability"), [(0.0, 0.0), (0.46, 0.3)])
def test_automatic_masks_are_those_of_the_package(sam, least_iou, least_stability) -> None:
    image = photograph()
    theirs = SamAutomaticMaskGenerator(
        *(sam, 5, 64, least_iou, least_stability),
        stability_score_offset=0.002,
        box_nms_thresh=0.95,
    ).generate(image.permute(1, 2, 0).numpy())
    ours = automatic(SAM(sam), image, 5, least_iou, least_stability, offset=0.002, overlap=0.95, batch=7)
    assert len(ours.masks) == len(theirs) > 0
    order = sorted(theirs, key=lambda one: -one["predicted_iou"])
    for n, one in enumerate(order):
        assert (ours.masks[n].numpy() == one["segmentation"]).all()
        assert float(ours.iou[n]) == pytest.approx(one["predicted_iou"], abs=1e-4)
        assert float(ours.stability[n]) == pytest.approx(one["stability_score"], abs=1e-4)
        left, top, wide, high = one["bbox"]
        assert ours.boxes[n].tolist() == [left, top, left + wide, top + high]
        assert ours.points[n].tolist() == pytest.approx(one["point_coords"][0], abs=1e-4)


def test_no_sure_mask_is_an_empty_answer(sam) -> None:
    found = automatic(SAM(sam), photograph(), 3, 1.0, 1.0)
    assert found.masks.shape == (0, 50, 90)
    assert found.boxes.shape == (0, 4)


def test_contract_and_answers(model) -> None:
    assert isinstance(model, Promptable)
    answer = model.predict(POINTS)  # without labels all are on the object
    torch.testing.assert_close(answer.logits, model.predict(POINTS, torch.ones(2, 2, dtype=torch.long)).logits)
    assert answer.masks.shape == (2, 3, 50, 90)
    assert torch.equal(answer.best()[1], answer.masks[1, answer.iou[1].argmax()])
    with pytest.raises(RuntimeError, match="set_image"):
        SAM(model.sam).predict(POINTS)


@pytest.mark.parametrize(("bad", "says"), [
    ({}, "expected points, boxes or both"),
    ({"labels": LABELS}, "expected points with them"),
    ({"labels": LABELS, "boxes": BOXES}, "expected points with them"),
    ({"points": POINTS[:, :0]}, "points: expected shape"),
    ({"points": POINTS[0]}, "points: expected"),
    ({"points": POINTS + 60}, "inside the image, 90 x 50, got"),
    ({"points": POINTS - 10}, "points: expected them inside"),
    ({"points": POINTS * torch.nan}, "finite"),
    ({"points": POINTS, "labels": LABELS + 1}, "labels: expected 0 or 1"),
    ({"points": POINTS, "labels": LABELS[:, :1]}, "labels: expected"),
    ({"boxes": BOXES[:, [2, 1, 0, 3]]}, "boxes: expected left < right"),
    ({"boxes": BOXES[:0]}, "boxes: expected shape"),
    ({"boxes": BOXES + 40}, "boxes: expected them inside"),
    ({"boxes": BOXES, "points": POINTS[:1]}, "points|boxes: expected"),
    ({"boxes": BOXES, "logits": torch.zeros(2, 8, 8)}, "logits: expected shape"),
])  # fmt: skip
def test_bad_prompts(model, bad, says, untyped) -> None:
    with pytest.raises(ValueError, match=says):
        model.predict(**bad)


@pytest.mark.parametrize("bad", [torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 8), "image"])
def test_bad_images(sam, bad, untyped) -> None:
    with pytest.raises(ValueError, match="image: expected"):
        SAM(sam).set_image(bad)


@pytest.mark.parametrize(("bad", "says"), [
    ({"side": 0}, "side"), ({"least_iou": 2.0}, "least_iou"), ({"overlap": -0.1}, "overlap"),
    ({"least_stability": 1.5}, "least_stability"), ({"offset": -1.0}, "offset"), ({"batch": 0}, "batch"),
])  # fmt: skip
def test_bad_grids(sam, bad, says) -> None:
    with pytest.raises(ValueError, match=f"{says}: expected"):
        automatic(SAM(sam), photograph(), **bad)


def test_weights_come_back_as_they_were_written(sam, tmp_path, untyped) -> None:
    path = tmp_path / "sam.safetensors"
    architecture.save(sam, SMALL, path, {})
    held = zoo.load("sam", file=path)
    assert held.image_size == 64
    for name, tensor in held.sam.state_dict().items():
        assert torch.equal(tensor, sam.state_dict()[name].half().float())
    first, second = (zoo.load("sam-random").sam.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    damaged = tmp_path / "other.safetensors"
    damaged.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="damaged"):
        zoo.load("sam", file=damaged)
    with pytest.raises(ValueError, match="small SAM"):
        zoo.load("sam", file=zoo.weights.ASSETS / "inctrl.safetensors")
    with pytest.raises(ValueError, match="whole patches"):
        build_sam(SamConfig(size=100))


def test_shipped_masks_are_those_of_transformers() -> None:
    from transformers import SamConfig as TheirConfig
    from transformers import SamModel

    model = zoo.load("sam").set_image(photograph(128, 128))
    theirs = SamModel(TheirConfig(**transformers_config(SamConfig()))).eval()
    state = {k: v for k, v in model.sam.state_dict().items() if ".eyes." not in k and "patch_embed" not in k}
    result = theirs.load_state_dict(to_transformers(state), strict=False)
    assert not result.unexpected_keys
    assert all(key.startswith("vision_encoder.patch_embed") for key in result.missing_keys)
    points, labels, boxes = POINTS, LABELS, BOXES.clamp(max=128)
    for given, asked in (
        ({"points": points, "labels": labels}, {"input_points": points[None], "input_labels": labels[None]}),
        ({"boxes": boxes}, {"input_boxes": boxes[None]}),
    ):
        ours = model.predict(**given)
        with torch.no_grad():
            expected = theirs(image_embeddings=model.embedding, **asked, multimask_output=True)
        scale = expected.pred_masks.abs().max()  # logits of up to 30 are long sums in single precision
        assert (ours.logits - expected.pred_masks[0]).abs().max() < 3e-5 * scale
        assert torch.equal(ours.logits > 0, expected.pred_masks[0] > 0)
        torch.testing.assert_close(ours.iou, expected.iou_scores[0], atol=1e-5, rtol=1e-5)


def test_eyes_beside_the_patches_are_not_written(tmp_path) -> None:
    config = SamConfig(size=64, width=32, depth=1, heads=2, dim=16, everywhere=(0,), eyes="efficientnet-lite0")
    torch.manual_seed(0)
    sam, path = build_sam(config).eval(), tmp_path / "sam.safetensors"
    architecture.save(sam, config, path, {})
    assert path.stat().st_size < 1_000_000
    held = SAM(architecture.read(path)).set_image(photograph())
    expected = SAM(sam).set_image(photograph()).embedding
    assert (held.embedding - expected).abs().max() < 0.02 * expected.abs().max()


def test_published_weights_are_asked_for_by_name(tmp_path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"sam_vit_h_4b8939\.pth"):
        zoo.load("sam", "paper", cache_dir=tmp_path)
    with pytest.raises(WeightsUnavailable, match="375 MB"):
        zoo.load("sam-base", "tiny")
    with pytest.raises(FileNotFoundError):
        zoo.load("sam", "paper", file=tmp_path / "none.pth")
    torch.save({"image_encoder.pos_embed": torch.zeros(1)}, tmp_path / "sam_vit_b_01ec64.pth")
    with pytest.raises(ValueError, match="weights: expected those of"):
        zoo.load("sam-base", "paper", cache_dir=tmp_path)


@pytest.mark.slow
def test_a_published_file_is_read_by_the_registry(tmp_path) -> None:
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    published = sam_model_registry["vit_b"]().eval()
    torch.save(published.state_dict(), tmp_path / "sam_vit_b_01ec64.pth")
    model = zoo.load("sam-base", "paper", cache_dir=tmp_path)
    assert model.image_size == 1024
    assert torch.equal(model.sam.pixel_mean, published.pixel_mean)
    assert torch.equal(model.sam.pixel_std, published.pixel_std)
    state = model.sam.state_dict()
    assert all(torch.equal(state[name], value) for name, value in published.state_dict().items())


def test_a_region_is_the_mean_of_its_patches() -> None:
    backbone = zoo.load("efficientnet-lite0")
    image = photograph(64, 64)
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :, :20] = True
    masks[1, 40:44, 40:44] = True
    found = regions.embed(backbone, image, masks)
    tokens = backbone.encode_image(backbone.preprocess(image[None]), (backbone.patch_layers[-1],))
    rows, columns = tokens.grid
    for n, mask in enumerate(masks):
        total = torch.zeros(tokens.patches[0].shape[2])
        for k, token in enumerate(tokens.patches[0][0]):
            r, c = divmod(k, columns)
            cell = torch.nn.functional.adaptive_avg_pool2d(mask[None].float(), (rows, columns))[0, r, c]
            total += cell * token
        torch.testing.assert_close(found[n], total / total.norm(), atol=1e-5, rtol=1e-4)
    assert regions.embed(backbone, image, masks[:0]).shape[0] == 0
    with pytest.raises(ValueError, match="a pixel in each"):
        regions.embed(backbone, image, torch.zeros(1, 64, 64, dtype=torch.bool))


def test_a_region_of_another_image(untyped) -> None:
    with pytest.raises(ValueError, match="masks: expected"):
        regions.embed(zoo.load("efficientnet-lite0"), photograph(64, 64), torch.ones(1, 32, 64, dtype=torch.bool))
