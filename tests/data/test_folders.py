"""Real files of every format, mode, orientation and kind of damage, in every layout."""

import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gadkit.data.folders import (
    BrokenImage,
    ImageFolder,
    Photo,
    detect_layout,
    images_in,
    load_images,
    read_image,
    read_mask,
    unread_in,
)
from gadkit.data.folders.layouts import natural

RED, GREEN, BLUE, WHITE = (250, 0, 0), (0, 250, 0), (0, 0, 250), (255, 255, 255)


def quadrants(height: int = 24, width: int = 32) -> Image.Image:
    """Red, green / blue, white: tells every rotation and reflection apart, and survives JPEG."""
    pixels = np.empty((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2], pixels[: height // 2, width // 2 :] = RED, GREEN
    pixels[height // 2 :, : width // 2], pixels[height // 2 :, width // 2 :] = BLUE, WHITE
    return Image.fromarray(pixels)


def save(path: Path, image: Image.Image | None = None, **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or quadrants()).save(path, **options)
    return path


def pixels_of(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy().astype(int)


EXACT = ["x.png", "x.bmp", "x.tif", "x.tiff", "X.PNG"]
LOSSY = ["x.jpg", "x.jpeg", "x.JPG", "x.webp"]


@pytest.mark.parametrize("name", EXACT + LOSSY)
def test_every_format_gives_the_same_picture(name: str, tmp_path: Path) -> None:
    [photo] = ImageFolder(save(tmp_path / name).parent)
    assert photo.image.dtype == torch.uint8
    assert photo.image.shape == (3, 24, 32)
    assert photo.image.is_contiguous()
    difference = np.abs(pixels_of(photo.image) - np.asarray(quadrants()).astype(int))
    assert np.quantile(difference, 0.8) <= (0 if name in EXACT else 8)
    assert (photo.label, photo.mask, photo.defect) == (None, None, None)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_the_camera_may_be_held_in_any_way(orientation: int, suffix: str, tmp_path: Path) -> None:
    held = {  # how a sensor sees an upright scene when the tag has this value
        1: lambda scene: scene,
        2: np.fliplr,
        3: lambda scene: np.rot90(scene, 2),
        4: np.flipud,
        5: lambda scene: scene.transpose(1, 0, 2),
        6: lambda scene: np.rot90(scene, 1),
        7: lambda scene: np.rot90(scene, 2).transpose(1, 0, 2),
        8: lambda scene: np.rot90(scene, 3),
    }[orientation]
    stored = Image.fromarray(np.ascontiguousarray(held(np.asarray(quadrants()))))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = pixels_of(read_image(save(tmp_path / f"x.{suffix}", stored, exif=exif)))
    assert image.shape == (24, 32, 3)
    for (y, x), colour in {(6, 8): RED, (6, 24): GREEN, (18, 8): BLUE, (18, 24): WHITE}.items():
        assert np.abs(image[y, x] - colour).max() < 25


def test_damaged_metadata_does_not_cost_the_picture(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x09garbage")
    assert read_image(path).shape == (3, 24, 32)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I;16", "YCbCr", "LAB"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    grey = np.full((4, 6), 255, np.uint8)
    grey[:, :3] = 0
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "LAB":  # lightness, and no colour at all
        image = Image.merge("LAB", [Image.fromarray(grey), *[Image.new("L", (6, 4), 128)] * 2])
    else:
        image = Image.fromarray(grey).convert("RGB").convert(mode)
    suffix = "tif" if mode in ("CMYK", "YCbCr", "LAB") else "png"
    path = save(tmp_path / f"x.{suffix}", image)
    assert np.abs(pixels_of(read_image(path)) - grey[..., None]).max() <= 2


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    path = save(tmp_path / "x.jpg", Image.new("RGB", (16, 16), RED).convert("CMYK"), quality=95)
    assert np.abs(pixels_of(read_image(path)) - RED).max() < 12


def test_what_is_transparent_shows_white_whatever_colour_it_hides(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 4), np.uint8)  # transparent black
    pixels[:, 2:4] = (200, 100, 0, 255)
    pixels[:, 4:] = (200, 100, 0, 128)
    expected = np.array([WHITE] * 2 + [(200, 100, 0)] * 2 + [(227, 177, 127)] * 2)
    for suffix in ("png", "tif", "webp"):
        image = read_image(save(tmp_path / f"x.{suffix}", Image.fromarray(pixels), lossless=True))
        assert np.abs(pixels_of(image)[0] - expected).max() <= 1


def test_a_transparent_palette_or_key_colour_shows_white(tmp_path: Path) -> None:
    palette = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    for name, image, key in [
        ("p", palette, 0),
        ("rgb", palette.convert("RGB"), (10, 20, 30)),
        ("l", Image.fromarray(np.array([[7, 50], [50, 7]], np.uint8)), 7),
    ]:
        out = pixels_of(read_image(save(tmp_path / f"{name}.png", image, transparency=key)))
        assert out[0, 0].tolist() == out[1, 1].tolist() == [255] * 3
        assert out[0, 1].tolist() == ([50] * 3 if name == "l" else [40, 50, 60])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 32768], [65535, 257]], np.uint16), [[0, 128], [255, 1]]),
        (np.array([[0, 2048], [4095, 16]], np.uint16), [[0, 128], [255, 1]]),  # a camera of 12 bits
        (np.array([[0, 32768], [65535, 257]], np.int32), [[0, 128], [255, 1]]),
        (np.array([[0, 0.5], [1, 0.25]], np.float32), [[0, 128], [255, 64]]),
        (np.array([[0, 128], [255, 64]], np.float32), [[0, 128], [255, 64]]),
    ],
)
def test_deep_grey_is_scaled_not_clipped(values: np.ndarray, expected: list[list[int]], tmp_path: Path) -> None:
    image = load_images([save(tmp_path / "x.tif", Image.fromarray(values))])[0]
    assert image.tolist() == [expected] * 3
    if values.dtype == np.uint16:
        assert torch.equal(image, load_images([save(tmp_path / "x.png", Image.fromarray(values))])[0])


def test_only_the_first_of_several_pages_counts(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (5, 4), colour) for colour in (RED, GREEN)]
    for suffix in ("tif", "webp"):
        path = save(tmp_path / f"x.{suffix}", pages[0], save_all=True, append_images=pages[1:], lossless=True)
        assert pixels_of(read_image(path))[0, 0].tolist() == list(RED)
    stereo = save(tmp_path / "x.jpg", pages[0], format="MPO", save_all=True, append_images=pages[1:])
    assert np.abs(pixels_of(read_image(stereo)) - RED).max() < 12


def bomb(path: Path) -> Path:
    """A PNG of a few bytes that claims to be 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b""))
    return path


def test_broken_files_are_named_and_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    good = [save(tmp_path / name) for name in ("a.png", "m.jpg", "z.png")]
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    reasons = {"nothing.png": "an empty file", "text.jpg": "not a PNG, JPEG, BMP, TIFF or WebP image"}
    (tmp_path / "nothing.png").touch()
    (tmp_path / "text.jpg").write_text("not an image at all")
    for suffix in ("png", "jpg", "bmp", "tif", "webp"):
        path = save(tmp_path / f"cut.{suffix}", noise)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        reasons[path.name] = ""
    reasons[bomb(tmp_path / "bomb.png").name] = "exceeds limit of 178956970 pixels"
    reasons[save(tmp_path / "dot.png", Image.new("RGB", (1, 1))).name] = "expected at least 2 x 2 pixels, got 1 x 1"
    reasons[save(tmp_path / "gif.png", format="GIF").name] = "not a PNG"
    damaged = Image.fromarray(np.array([[0, np.nan], [1, 1]], np.float32))
    reasons[save(tmp_path / "nan.tif", damaged).name] = "expected finite values, got 1 that are NaN"

    folder = ImageFolder(tmp_path)
    assert folder.broken == []
    with caplog.at_level(logging.WARNING):
        assert [photo.path for photo in folder] == good
    assert len(folder) == len(good) + len(reasons)
    assert {path.name for path, _ in folder.broken} == reasons.keys()
    for path, reason in folder.broken:
        assert reason
        assert reasons[path.name] in reason
        assert f"skipped {path}: {reason}" in caplog.text
    assert len(list(folder)) == len(good)
    assert len(folder.broken) == len(reasons)  # a second round finds the same ones, not twice as many


def test_a_file_that_went_away_is_broken(tmp_path: Path) -> None:
    folder = ImageFolder(save(tmp_path / "x.png").parent)
    (tmp_path / "x.png").unlink()
    assert list(folder) == []
    assert folder.broken == [(tmp_path / "x.png", "no such file")]
    with pytest.raises(BrokenImage, match="no such file"):
        folder[0]


def test_reading_is_lazy(tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.png")
    (tmp_path / "c.png").write_bytes(b"damaged")
    folder = ImageFolder(tmp_path)
    photos = iter(folder)
    assert next(photos).path.name == "a.png"
    save(tmp_path / "b.png", Image.new("RGB", (5, 7), BLUE))  # changed after the folder was listed, before its turn
    assert next(photos).image.shape == (3, 7, 5)
    assert folder.broken == []
    assert folder[1].image.shape == (3, 7, 5)


def test_a_plain_folder_is_read_in_natural_order_without_hidden_files(tmp_path: Path) -> None:
    names = ["part1.png", "part2.png", "Part10.PNG", "sub/a.jpg", "sub/deep/b.webp"]
    for name in [*reversed(names), ".hidden.png", ".cache/c.png", "__MACOSX/d.png"]:
        save(tmp_path / name)
    (tmp_path / "readme.txt").write_text("no image")
    folder = ImageFolder(tmp_path)
    assert folder.layout == "plain"
    assert [entry.path.relative_to(tmp_path).as_posix() for entry in folder.entries] == names
    assert len(ImageFolder(tmp_path, recursive=False)) == 3
    assert len(ImageFolder(tmp_path / "sub" / "a.jpg")) == 1
    assert [path.name for path in natural(map(Path, ["x10y2", "x9y10", "x10y1"]))] == ["x9y10", "x10y1", "x10y2"]


def names_in(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in images_in(root, recursive=True)]


def test_links_are_followed_and_never_in_circles(tmp_path: Path) -> None:
    save(tmp_path / "far" / "a.png")
    save(tmp_path / "here" / "b.png")
    (tmp_path / "here" / "album").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "back").symlink_to(tmp_path / "here")
    (tmp_path / "here" / "c.png").symlink_to(tmp_path / "far" / "a.png")
    (tmp_path / "here" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert names_in(tmp_path / "here") == ["album/a.png", "b.png", "c.png", "gone.png"]
    with pytest.raises(BrokenImage, match=r"gone.png: a link to nothing"):
        read_image(tmp_path / "here" / "gone.png")


def test_masks_of_a_data_set_are_no_photographs_at_any_depth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photographs = ["nut/train/good/0.png", "nut/test/hole/0.png", "pcb/Data/Images/Normal/0.png"]
    others = ["ground_truth/0.png", "Masks/0.png", "a/Data/Masks/0.png"]  # names alone make no data set
    masks = ["nut/ground_truth/hole/0_mask.png", "nut/test/ground_truth/0.png", "pcb/Data/Masks/Anomaly/0.png"]
    for name in (*photographs, *others, *masks):
        save(tmp_path / "deep" / name)
    assert sorted(names_in(tmp_path / "deep")) == sorted([*photographs, *others])
    assert sorted(names_in(tmp_path)) == sorted(f"deep/{name}" for name in (*photographs, *others))
    assert names_in(tmp_path / "deep" / "nut" / "ground_truth") == ["hole/0_mask.png"], "who asks for them gets them"
    monkeypatch.chdir(tmp_path / "deep" / "pcb" / "Data")
    assert names_in(Path()) == ["Images/Normal/0.png"]


def test_pictures_of_other_kinds(tmp_path: Path) -> None:
    for name in ("b.HEIC", "a/x.pdf", "a/x.png", "x.txt", "x.json", ".x.heic", "noname"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert [path.relative_to(tmp_path).as_posix() for path in unread_in(tmp_path)] == ["a/x.pdf", "b.HEIC"]
    assert unread_in(tmp_path / "b.HEIC") == []


def spot(values: tuple[int, ...] = (255,)) -> Image.Image:
    """A mask with one row of marked pixels for each value."""
    pixels = np.zeros((24, 32), np.uint8)
    for row, value in enumerate(values):
        pixels[row, 4:9] = value
    return Image.fromarray(pixels)


def make_mvtec(root: Path) -> Path:
    for category in ("bottle", "metal_nut"):
        for name in ("train/good/000", "train/good/001", "test/good/000", "test/bent/000", "test/bent/001"):
            save(root / category / f"{name}.png")
        save(root / category / "ground_truth" / "bent" / "000_mask.png", spot())
    save(root / ".unfinished" / "train" / "good" / "000.png")
    (root / "license.txt").touch()
    return root


def described(folder: ImageFolder) -> list[tuple[str, int | None, str | None, int | None]]:
    """Name, label, defect and number of marked pixels of each photograph."""
    return [
        (photo.path.stem, photo.label, photo.defect, None if photo.mask is None else int(photo.mask.sum()))
        for photo in folder
    ]


def test_mvtec_layout(tmp_path: Path) -> None:
    root = make_mvtec(tmp_path)
    assert detect_layout(root) == detect_layout(root / "bottle") == "mvtec"
    assert detect_layout(root / "bottle" / "test" / "bent") == "plain"
    whole = ImageFolder(root)
    assert whole.categories == ["bottle", "metal_nut"]
    assert len(whole) == 10
    one = ImageFolder(root, category="metal_nut", split="test")
    assert described(one) == [("000", 1, "bent", 5), ("001", 1, "bent", None), ("000", 0, "good", 0)]
    assert described(ImageFolder(root / "metal_nut", split="test")) == described(one)
    assert {photo.label for photo in ImageFolder(root, split="train")} == {0}
    assert isinstance(one[0], Photo)
    assert one[0].mask.shape == (24, 32)


def test_mvtec_layout_as_other_tools_write_it(tmp_path: Path) -> None:
    save(tmp_path / "pcb1" / "train" / "good" / "0001.JPG")
    save(tmp_path / "pcb1" / "test" / "bad" / "0002.JPG")
    save(tmp_path / "pcb1" / "ground_truth" / "bad" / "0002.png", spot())  # no `_mask` in the name
    assert described(ImageFolder(tmp_path, split="test")) == [("0002", 1, "bad", 5)]


def make_visa(root: Path, lists: bool = True) -> Path:
    rows = ["object,split,label,image,mask"]
    for name in ("candle", "pcb1"):
        images, masks = f"{name}/Data/Images", f"{name}/Data/Masks"
        for number, split in [("0000", "train"), ("0001", "test")]:
            save(root / images / "Normal" / f"{number}.JPG")
            rows.append(f"{name},{split},normal,{images}/Normal/{number}.JPG,")
        for number in ("000", "001"):
            save(root / images / "Anomaly" / f"{number}.JPG")
            save(root / masks / "Anomaly" / f"{number}.png", spot((1, 2)))
            rows.append(f"{name},test,anomaly,{images}/Anomaly/{number}.JPG,{masks}/Anomaly/{number}.png")
    rows.append("cashew,test,normal,cashew/Data/Images/Normal/000.JPG,")  # listed, but not downloaded
    if lists:
        (root / "split_csv").mkdir()
        (root / "split_csv" / "1cls.csv").write_text("\n".join(rows) + "\n")
        lines = ["image,label,mask", 'pcb1/Data/Images/Anomaly/000.JPG,"melt,scratch",pcb1/Data/Masks/Anomaly/000.png']
        (root / "pcb1" / "image_anno.csv").write_text("\n".join(lines) + "\n")
    return root


def test_visa_layout_with_its_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_visa(tmp_path)
    assert detect_layout(root) == detect_layout(root / "pcb1") == "visa"
    whole = ImageFolder(root)
    assert whole.categories == ["candle", "pcb1"]
    assert len(whole) == 8
    expected = [("0001", 0, "good", 0), ("000", 1, "melt,scratch", 10), ("001", 1, "anomaly", 10)]
    assert described(ImageFolder(root, category="pcb1", split="test")) == expected
    assert described(ImageFolder(root / "pcb1", split="test")) == expected
    monkeypatch.chdir(root / "pcb1")
    assert described(ImageFolder(".", split="test")) == expected
    assert whole.broken == []


def test_visa_layout_by_folders_alone(tmp_path: Path) -> None:
    root = make_visa(tmp_path, lists=False)
    assert detect_layout(root) == "visa"
    assert described(ImageFolder(root, category="pcb1")) == [
        ("0000", 0, "good", 0),
        ("0001", 0, "good", 0),
        ("000", 1, "anomaly", 10),
        ("001", 1, "anomaly", 10),
    ]
    with pytest.raises(ValueError, match="split: expected None, for a folder in visa layout without it, got 'test'"):
        ImageFolder(root, split="test")


def test_a_list_without_its_columns_is_refused(tmp_path: Path) -> None:
    root = make_visa(tmp_path)
    (root / "split_csv" / "1cls.csv").write_text("object,image\npcb1,x.JPG\n")
    with pytest.raises(ValueError, match="expected the columns object, split, label, image, mask, got none named"):
        ImageFolder(root)


def test_a_wrong_mask_costs_its_photograph(tmp_path: Path) -> None:
    root = make_mvtec(tmp_path)
    masks = root / "bottle" / "ground_truth" / "bent"
    save(masks / "000_mask.png", Image.new("L", (8, 8)))
    (masks / "001_mask.png").write_bytes(b"")
    folder = ImageFolder(root, category="bottle", split="test")
    assert described(folder) == [("000", 0, "good", 0)]
    assert folder.broken == [
        (masks / "000_mask.png", "expected a mask of 24 x 32 pixels like its image, got 8 x 8"),
        (masks / "001_mask.png", "an empty file"),
    ]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16", "I", "F"])
def test_a_mask_of_any_mode_marks_what_is_not_black(mode: str, tmp_path: Path) -> None:
    mask = spot((255, 200))
    if mode in ("I;16", "I", "F"):
        image = Image.fromarray(np.asarray(mask).astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]))
    else:
        image = mask.convert(mode)
    path = save(tmp_path / ("x.png" if mode not in ("I", "F") else "x.tif"), image)
    assert torch.equal(read_mask(path), torch.from_numpy(np.asarray(mask) > 0))


def test_load_images_stacks_what_has_one_size(tmp_path: Path) -> None:
    paths = [save(tmp_path / f"{name}.png") for name in "ab"]
    assert load_images(tmp_path).shape == (2, 3, 24, 32)
    assert torch.equal(load_images([paths[1], str(paths[0])]), load_images(str(tmp_path)).flip(0))
    wide = save(tmp_path / "c.png", quadrants(24, 60))
    with pytest.raises(ValueError, match=r"expected one size, got 24 x 32 \(.*a.png\) and 24 x 60 \(.*c.png\)"):
        load_images(tmp_path)
    batch = load_images(tmp_path, size=(12, 16))
    assert batch.shape == (3, 3, 12, 16)
    assert batch.dtype == torch.uint8
    assert pixels_of(batch[2])[[2, 2, 9, 9], [2, 13, 2, 13]].tolist() == [list(c) for c in (RED, GREEN, BLUE, WHITE)]
    assert load_images([wide], size=20).shape == (1, 3, 20, 20)
    (tmp_path / "d.png").touch()
    assert len(load_images(tmp_path, size=8)) == 3  # of a folder, what can be read
    with pytest.raises(BrokenImage, match=r"d.png: an empty file"):
        load_images([*paths, tmp_path / "d.png"])  # of a list, all: row i is file i


def test_errors_say_what_was_looked_for_and_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a folder or an image, got '.*nowhere': no such folder"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"got none: looked for .png, .jpg, .* there are no files at all"):
        ImageFolder(tmp_path)
    for name in ("a.heic", "b.heic", "c.txt"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"looked for .png, .* in plain layout; .* there are 2 x .heic, 1 x .txt"):
        load_images(tmp_path)
    with pytest.raises(ValueError, match=r"in visa layout"):
        ImageFolder(tmp_path, layout="visa")
    with pytest.raises(ValueError, match="layout: expected one of mvtec, visa, classes, pairs, plain, got 'coco'"):
        ImageFolder(tmp_path, layout="coco")
    save(tmp_path / "d.png")
    with pytest.raises(ValueError, match="category: expected None, for a folder in plain layout without it, got 'nut'"):
        ImageFolder(tmp_path, category="nut")
    with pytest.raises(ValueError, match="images: expected at least one to read, got an empty list"):
        load_images([])
    with pytest.raises(ValueError, match="size: expected at least 2 x 2 pixels, got 0 x 0"):
        load_images(tmp_path, size=0)
    (tmp_path / "d.png").write_bytes(b"")
    with pytest.raises(ValueError, match="expected at least one to read, got broken files only"):
        load_images(tmp_path)
    root = make_mvtec(tmp_path / "data")
    with pytest.raises(ValueError, match="category: expected one of bottle, metal_nut, got 'nut'"):
        ImageFolder(root, category="nut")
    with pytest.raises(ValueError, match="split: expected one of train, test, got 'val'"):
        ImageFolder(root, split="val")
