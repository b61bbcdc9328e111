"""Pixels of more than eight bits: one pixel never decides what is white, and what is read is what was stored."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiffs import write_png16, write_tiff

from gadkit.data.folders import BrokenImage, Depth, ImageFolder, examine, load_images, read_image


def plate(top: int, height: int = 48, width: int = 64, seed: int = 0) -> np.ndarray:
    """Grey of 16 bits, dark on the left, up to `top` on the right."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(seed).uniform(-0.02, 0.02, (height, width))
    values = 0.2 + 0.7 * x / width + 0.1 * y / height + noise
    return (values / values.max() * top).astype(np.uint16)


def save(path: Path, values: np.ndarray, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def scaled(values: np.ndarray, white: float) -> np.ndarray:
    return (values * (255 / white)).round().clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_pixel_does_not_decide_what_is_white(suffix: str, tmp_path: Path) -> None:
    usual, hot = plate(4000), plate(4000)
    hot[7, 9] = 4096
    paths = [save(tmp_path / f"{name}.{suffix}", values) for name, values in (("a", usual), ("b", hot))]
    for some in (paths[:1], paths[1:], paths):
        for image in (images := load_images(some)):
            assert float(image.float().mean()) == pytest.approx(scaled(usual, 4095).mean(), abs=0.1)
    assert images[1, 0, 7, 9] == 255
    alone = [float(read_image(path).float().mean()) for path in paths]
    assert alone[0] == pytest.approx(scaled(usual, 65535).mean(), abs=0.1), "a property of the file, not of its content"
    assert alone[0] == pytest.approx(alone[1], abs=0.1)
    assert np.array_equal(read_image(paths[0], Depth(bits=12))[0], scaled(usual, 4095))


def test_white_is_the_same_in_all_files_of_a_run(tmp_path: Path) -> None:
    dark, bright = plate(900), plate(9000)
    dark[0], bright[0] = 800, 800
    paths = [save(tmp_path / "a" / "dark.png", dark), save(tmp_path / "b" / "bright.tif", bright)]
    expected = [scaled(values, 16383) for values in (dark, bright)]
    for images in (load_images(paths), load_images(tmp_path), [photo.image for photo in ImageFolder(tmp_path)]):
        assert np.array_equal(images[0][0], expected[0])
        assert np.array_equal(images[1][1], expected[1])
        assert images[0][0, 0, 0] == images[1][0, 0, 0] == 12
    fixed = ImageFolder(tmp_path, depth=Depth(bits=16))
    assert np.array_equal(fixed[1].image[0], scaled(bright, 65535))


def test_the_splits_of_a_data_set_share_what_is_white(tmp_path: Path) -> None:
    save(tmp_path / "train" / "good" / "0.png", plate(900))
    save(tmp_path / "test" / "good" / "0.png", plate(900))
    save(tmp_path / "test" / "burnt" / "0.png", plate(60000))
    train, test = (ImageFolder(tmp_path, split=split) for split in ("train", "test"))
    assert train.depth == test.depth == Depth(bits=16)
    assert torch.equal(train[0].image, test[1].image)


def test_files_that_disagree_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    usual = [save(tmp_path / f"{i}.png", plate(4000, seed=i)) for i in range(9)]
    over = save(tmp_path / "over.png", plate(60000))
    run = examine([*usual, over])
    assert run.depth == Depth(bits=12)
    assert run.remarks == [
        "10 files of more than 8 bits, of which the values need 12: white is 4095 in all of them; give --bits 12 to "
        "every run that is compared with this one",
        f"1 file brighter than 12 bits, cut off at white: {over}; they need --bits 16",
    ]
    assert (read_image(over, run.depth) == 255).float().mean() > 0.9

    run = examine([*usual, over, save(tmp_path / "another.png", plate(60000))])
    assert run.depth == Depth(bits=16), "two of eleven are more than one in ten"
    assert run.remarks[0].startswith(f"9 files that would fit into 12 of the 16 bits, so read as dark: {usual[0]}, ")
    assert "and 4 more" in run.remarks[0]

    run = examine([*usual, over], bits=14)
    assert run.depth == Depth(bits=14)
    assert run.remarks == [f"1 file brighter than 14 bits, cut off at white: {over}; they need --bits 16"]
    with caplog.at_level(logging.WARNING):
        load_images([*usual, over])
    assert f"1 file brighter than 12 bits, cut off at white: {over}" in caplog.text


def test_files_of_eight_bits_are_not_touched_by_the_depth_of_others(tmp_path: Path) -> None:
    eight = (plate(200)).astype(np.uint8)
    paths = [save(tmp_path / "a.png", eight), save(tmp_path / "b.png", plate(4000))]
    assert np.array_equal(load_images(paths)[0, 0], eight)
    assert examine(paths[:1]).depth == Depth()
    assert examine(paths[:1]).remarks == []


@pytest.mark.parametrize("tag", [281, 341])  # MaxSampleValue, SMaxSampleValue
def test_a_tag_says_what_is_white_unless_it_counts_pixels(tag: int, tmp_path: Path) -> None:
    values = plate(900)
    told = write_tiff(tmp_path / "told.tif", values, **{f"t{tag}": 4095})
    assert np.array_equal(read_image(told)[0], scaled(values, 4095))
    assert np.array_equal(load_images([told])[0, 0], scaled(values, 4095))
    assert np.array_equal(read_image(told, Depth(bits=10))[0], scaled(values, 1023)), "an option is above a tag"
    counted = write_tiff(tmp_path / "counted.tif", values, **{f"t{tag}": 900})
    assert np.array_equal(read_image(counted)[0], scaled(values, 65535))
    assert np.array_equal(load_images([counted])[0, 0], scaled(values, 1023))


def test_twelve_bits_that_are_stored_as_twelve(tmp_path: Path) -> None:
    values = plate(1500)
    path = write_tiff(tmp_path / "x.tif", values, packed=12)
    assert np.array_equal(read_image(path)[0], scaled(values, 4095))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("top", [4000, 65535])
def test_colours_of_sixteen_bits_keep_all_of_them(order: str, deflate: bool, top: int, tmp_path: Path) -> None:
    values = np.stack([plate(top), plate(top) // 2, plate(top)[::-1] // 3], -1)  # (h, w, 3)
    path = write_tiff(tmp_path / "x.tif", values, photometric=2, order=order, deflate=deflate)
    expected = scaled(values, 4095 if top == 4000 else 65535)
    assert np.array_equal(load_images([path])[0].permute(1, 2, 0), expected)
    assert np.array_equal(load_images([write_png16(tmp_path / "x.png", values)])[0].permute(1, 2, 0), expected)


@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_sixteen_bits(order: str, tmp_path: Path) -> None:
    values = np.stack([plate(4000), plate(4000) // 2, plate(4000)[::-1] // 3], -1)
    path = write_tiff(tmp_path / "x.tif", values, photometric=2, planar=True, order=order)
    assert np.array_equal(load_images([path])[0].permute(1, 2, 0), scaled(values, 4095))
    packed = write_tiff(tmp_path / "y.tif", values, photometric=2, planar=True, order=order, deflate=True)
    with pytest.raises(BrokenImage, match="16 bits in separate planes are read from uncompressed TIFFs only"):
        read_image(packed)
    eight = write_tiff(tmp_path / "z.tif", (values // 16).astype(np.uint8), photometric=2, planar=True)
    assert np.array_equal(read_image(eight).permute(1, 2, 0), values // 16)


@pytest.mark.parametrize("deflate", [False, True])
def test_where_white_is_zero(deflate: bool, tmp_path: Path) -> None:
    values = plate(65535)
    path = write_tiff(tmp_path / "x.tif", 65535 - values, photometric=0, deflate=deflate)
    expected = 255 - (65535 - values.astype(float)) * (255 / 65535)
    assert np.abs(read_image(path)[0].numpy() - expected).max() <= 0.51
    twelve = write_tiff(tmp_path / "y.tif", 4095 - plate(4095), photometric=0, deflate=deflate)
    assert np.abs(load_images([twelve])[0, 0].numpy() - plate(4095) * (255 / 4095)).max() <= 0.51
    eight = write_tiff(tmp_path / "z.tif", (255 - plate(255)).astype(np.uint8), photometric=0, deflate=deflate)
    assert np.array_equal(read_image(eight)[0], plate(255))


def test_transparency_of_sixteen_bits_shows_white(tmp_path: Path) -> None:
    colour = np.stack([plate(60000)] * 3, -1)
    alpha = np.full((*colour.shape[:2], 1), 65535, np.uint16)
    alpha[:, :10] = 0
    expected = scaled(colour, 65535)
    expected[:, :10] = 255
    path = write_png16(tmp_path / "rgba.png", np.concatenate([colour, alpha], -1))
    assert np.array_equal(read_image(path).permute(1, 2, 0), expected)
    assert examine([path]).remarks == [f"1 file with transparent parts, which are put on white: {path}"]
    opaque = write_png16(tmp_path / "opaque.png", np.concatenate([colour, np.full_like(alpha, 65535)], -1))
    assert examine([opaque]).remarks == []
    grey = write_png16(tmp_path / "la.png", np.concatenate([colour[..., :1], alpha], -1))
    assert np.abs(read_image(grey).permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1
    with pytest.raises(BrokenImage, match="with transparency is read at its full range only, not as 12 bits"):
        read_image(grey, Depth(bits=12))


def test_signed_numbers(tmp_path: Path) -> None:
    values = plate(32000)
    path = write_tiff(tmp_path / "x.tif", values.astype(np.int16))
    assert np.array_equal(read_image(path)[0], scaled(values, 32767))
    negative = write_tiff(tmp_path / "y.tif", values.astype(np.int16) - 9000)
    with pytest.raises(BrokenImage, match="expected values from 0 to 65535, got -"):
        read_image(negative)


def test_floats(tmp_path: Path) -> None:
    values = (plate(60000) / 60000).astype(np.float32)
    values[3, 3], values[4, 4] = 1.5, -0.5  # overshot when they were resampled
    one = save(tmp_path / "one.tif", values)
    assert np.array_equal(read_image(one)[0], scaled(values, 1))
    more = [save(tmp_path / f"{i}.tif", values * np.float32(255 / (1 + i))) for i in range(3)]
    assert np.array_equal(load_images(more)[2, 0], scaled(values, 3))
    assert examine(more).remarks == ["3 files of floats: white is 255 in all of them"]
    assert examine([*more, one]).remarks[-1] == f"1 file of floats that are at most 1, so read as dark: {one}"
    with pytest.raises(BrokenImage, match=r"expected floats from 0 to 1, got up to 25\d"):
        read_image(more[0])
    assert np.array_equal(read_image(more[0], Depth(floats=255.0))[0], scaled(values, 1))
    twelve = save(tmp_path / "twelve.tif", values * np.float32(4000))
    assert examine([twelve], bits=12).depth == Depth(bits=12, floats=4095.0)
    with pytest.raises(BrokenImage, match=r"expected floats from 0, got -0\.\d+ to 0\.4"):
        read_image(save(tmp_path / "signed.tif", values - np.float32(0.5)))


@pytest.mark.parametrize("bits", [0, 7, 17, 12.5])
def test_bits_that_are_none(untyped: None, bits: float) -> None:
    with pytest.raises(ValueError, match="bits: expected a whole number from 8 to 16"):
        Depth(bits=bits)


def test_a_white_that_is_none() -> None:
    with pytest.raises(ValueError, match="floats: expected a number above 0"):
        Depth(floats=0.0)


def test_further_pages_frames_and_bands_are_named(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (5, 4), colour) for colour in ("red", "green", "blue")]
    several = [tmp_path / f"x.{suffix}" for suffix in ("tif", "webp", "png")]
    for path in several:
        pages[0].save(path, save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=pages[1:])
    bands = write_tiff(tmp_path / "bands.tif", np.full((4, 5, 4), 99, np.uint8), photometric=2)
    plain = save(tmp_path / "plain.png", np.full((4, 5, 3), 99, np.uint8))
    assert examine([*several, tmp_path / "x.jpg", bands, plain]).remarks == [
        "4 files with several pages or frames, of which only the first is read: "
        + ", ".join(map(str, [*several, tmp_path / "x.jpg"])),
        f"1 file with bands beside colour and transparency, which are not read: {bands}",
    ]
    assert read_image(bands).unique().tolist() == [99]


def test_only_transparency_that_shows_is_named(tmp_path: Path) -> None:
    pixels = np.full((4, 5, 4), 255, np.uint8)
    opaque = save(tmp_path / "opaque.png", pixels)
    pixels[0, 0, 3] = 0
    clear = save(tmp_path / "clear.png", pixels)
    assert examine([opaque, clear]).remarks == [f"1 file with transparent parts, which are put on white: {clear}"]


REFUSED = [
    (np.zeros((4, 5, 5), np.uint8), 1, "a TIFF of 5 bands of 8-bit whole numbers, which is not read"),
    (np.zeros((4, 5, 3), np.float32), 2, "a TIFF of 3 bands of 32-bit floats, which is not read"),
    (np.zeros((4, 5), np.float64), 1, "a TIFF of 1 band of 64-bit floats, which is not read"),
    (np.zeros((4, 5), np.float16), 1, "a TIFF of 1 band of 16-bit floats, which is not read"),
    (np.zeros((4, 5, 2), np.uint16), 1, "a TIFF of 2 bands of 16"),
]


@pytest.mark.parametrize(("values", "photometric", "reason"), REFUSED, ids=[reason for *_, reason in REFUSED])
@pytest.mark.parametrize("planar", [False, True])
def test_reasons_for_refusing_a_tiff_are_true(
    values: np.ndarray, photometric: int, reason: str, planar: bool, tmp_path: Path
) -> None:
    path = write_tiff(tmp_path / "x.tif", values, photometric=photometric, planar=planar)
    with pytest.raises(BrokenImage, match=reason):
        read_image(path)


OTHERS = {
    b"GIF89a" + b"\0" * 20: "a GIF image, not a PNG, JPEG, BMP, TIFF or WebP image",
    b"\0\0\0\x20ftypavif" + b"\0" * 20: "an AVIF image, not a PNG",
    b"\0\0\0\x18ftypheic" + b"\0" * 20: "an HEIC image, not a PNG",
    b"\0\0\0\x0cjP  \r\n\x87\n": "a JPEG 2000 image, not a PNG",
    b"<html>404</html>": "a page of HTML or XML, not a PNG",
    b"version https://git-lfs.github.com/spec/v1\n": "a Git LFS pointer whose image was not downloaded",
    b"\x89PNG no more": "begins as a PNG, but is damaged",
    b"\xff\xd8\xff no more": "begins as a JPEG, but is damaged",
    b"II*\0\x08\0\0\0": "a damaged TIFF",
    b"something": "not a PNG, JPEG, BMP, TIFF or WebP image",
}


@pytest.mark.parametrize("content", OTHERS, ids=OTHERS.values())
def test_what_a_file_is_under_the_wrong_name(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(BrokenImage, match=OTHERS[content]):
        read_image(tmp_path / "x.jpg")


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_deep_pictures_are_turned_upright(suffix: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the sensor sees an upright scene turned to the left
    values = plate(60000)
    path = save(tmp_path / f"x.{suffix}", np.ascontiguousarray(np.rot90(values)), exif=exif)
    assert np.array_equal(read_image(path)[0], scaled(values, 65535))
    eight = plate(255).astype(np.uint8)
    path = save(tmp_path / f"y.{suffix}", np.ascontiguousarray(np.rot90(eight)), exif=exif)
    assert np.array_equal(read_image(path)[0], eight)


def test_the_camera_s_turn_survives_damage_beside_it(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    data = exif.tobytes().replace(b"\x0f\x01\x02\x00", b"\x0f\x01\x63\x00")  # the maker's name in no known type
    assert read_image(save(tmp_path / "x.jpg", pixels, exif=data, quality=95)).shape == (3, 16, 8)
