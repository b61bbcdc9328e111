"""Data sets as they are published, and folders as people make them: what is labelled, what is a mask."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gadkit.data.folders import (
    BrokenImage,
    ImageFolder,
    defect_of,
    detect_layout,
    images_in,
    masks_in,
    read_mask,
    read_masks,
)

HEIGHT, WIDTH = 24, 32


def photograph(path: Path, seed: int = 0) -> Path:
    """A noisy plate, as no mask is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).normal(130, 20, (HEIGHT, WIDTH, 3)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def mask(path: Path, row: int | None = 5, columns: int = 6, value: int = 255) -> Path:
    """Black but for some pixels of a row; black all over for None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    if row is not None:
        pixels[row, :columns] = value
    Image.fromarray(pixels).save(path)
    return path


def described(folder: ImageFolder) -> list[tuple[str, int | None, str | None, str | None, int | None]]:
    """Path below the root, label, defect, split and number of marked pixels of each photograph."""
    found = []
    for entry, photo in zip(folder.entries, folder, strict=True):
        marked = None if photo.mask is None else int(photo.mask.sum())
        name = entry.path.relative_to(folder.root).as_posix()
        found.append((name, photo.label, photo.defect, entry.split, marked))
    return found


def test_btad(tmp_path: Path) -> None:
    for name in ("01/train/ok/0000.bmp", "01/test/ok/0001.bmp", "01/test/ko/0002.bmp", "03/train/ok/0000.bmp"):
        photograph(tmp_path / name)
    photograph(tmp_path / "03/test/ko/0003.bmp")
    mask(tmp_path / "01/ground_truth/ko/0002.png")
    mask(tmp_path / "03/ground_truth/ko/0003.bmp", columns=9)
    folder = ImageFolder(tmp_path)
    assert folder.layout == "mvtec"
    assert folder.categories == ["01", "03"]
    assert described(folder) == [
        ("01/train/ok/0000.bmp", 0, "good", "train", 0),
        ("01/test/ko/0002.bmp", 1, "ko", "test", 6),
        ("01/test/ok/0001.bmp", 0, "good", "test", 0),
        ("03/train/ok/0000.bmp", 0, "good", "train", 0),
        ("03/test/ko/0003.bmp", 1, "ko", "test", 9),
    ]
    assert len(images_in(tmp_path, recursive=True)) == 5
    assert len(masks_in(tmp_path)) == 2


def test_loco_has_a_folder_of_masks_for_each_photograph(tmp_path: Path) -> None:
    root = tmp_path / "breakfast_box"
    for name in ("train/good/000", "validation/good/000", "test/good/000"):
        photograph(root / f"{name}.png")
    for kind in ("logical_anomalies", "structural_anomalies"):
        photograph(root / "test" / kind / "000.png")
    mask(root / "ground_truth/logical_anomalies/000/000.png", row=1, value=2)
    mask(root / "ground_truth/logical_anomalies/000/001.png", row=3, value=7)
    mask(root / "ground_truth/logical_anomalies/000/002.png", row=3, columns=8)
    mask(root / "ground_truth/structural_anomalies/000/000.png")
    expected = [
        ("train/good/000.png", 0, "good", "train", 0),
        ("validation/good/000.png", 0, "good", "validation", 0),
        ("test/good/000.png", 0, "good", "test", 0),
        ("test/logical_anomalies/000.png", 1, "logical_anomalies", "test", 6 + 8),
        ("test/structural_anomalies/000.png", 1, "structural_anomalies", "test", 6),
    ]
    assert described(ImageFolder(root)) == expected
    assert len(masks_in(root)) == 4


def test_mvtec_ad_2(tmp_path: Path) -> None:
    root = tmp_path / "can"
    for name in ("train/good/000", "validation/good/001", "test_public/good/000", "test_public/bad/000"):
        photograph(root / f"{name}_regular.png")
    mask(root / "test_public/ground_truth/bad/000_regular_mask.png")
    assert described(ImageFolder(root, split="test")) == [
        ("test_public/bad/000_regular.png", 1, "bad", "test", 6),
        ("test_public/good/000_regular.png", 0, "good", "test", 0),
    ]


@pytest.mark.parametrize("above", ["", "mvtec/", "data/mvtec/"])
def test_a_data_set_below_the_folder_that_was_given(above: str, tmp_path: Path) -> None:
    for name in ("nut/train/good/0", "nut/test/bent/0", "nut/test/bent/day/1"):
        photograph(tmp_path / f"{above}{name}.png")
    mask(tmp_path / f"{above}nut/ground_truth/bent/0_mask.png")
    mask(tmp_path / f"{above}nut/ground_truth/bent/day/1_mask.png", columns=3)
    folder = ImageFolder(tmp_path / above if above.startswith("data") else tmp_path)
    assert (folder.layout, folder.categories) == ("mvtec", ["nut"])
    assert [marked for *_, marked in described(folder)] == [0, 6, 3]


@pytest.mark.parametrize("good", ["good", "Good", "GOOD", "OK", "normal"])
@pytest.mark.parametrize("suffix", [".PNG", ".bmp", ".png", ".tif"])
def test_names_in_any_case_and_masks_in_any_format(good: str, suffix: str, tmp_path: Path) -> None:
    photograph(tmp_path / "Train" / good / "1.JPG")
    photograph(tmp_path / "Test" / good / "1.JPG")
    photograph(tmp_path / "Test" / "Bent" / "1.JPG")
    mask(tmp_path / "Ground_Truth" / "bent" / f"1{'_MASK' if suffix == '.PNG' else '_mask'}{suffix}")
    assert [row[1:] for row in described(ImageFolder(tmp_path))] == [
        (0, "good", "train", 0),
        (1, "Bent", "test", 6),
        (0, "good", "test", 0),
    ]


@pytest.mark.parametrize(
    ("bad", "masks"), [("bad", "masks"), ("NG", "mask"), ("Defect", "ground_truth"), ("nio", "GT")]
)
def test_good_bad_and_masks_side_by_side(bad: str, masks: str, tmp_path: Path) -> None:
    photograph(tmp_path / "good" / "a.png")
    photograph(tmp_path / bad / "b.png")
    photograph(tmp_path / bad / "c.png")
    photograph(tmp_path / "unsure" / "d.png")
    photograph(tmp_path / "loose.png")
    mask(tmp_path / masks / "b_mask.png")
    folder = ImageFolder(tmp_path)
    assert folder.layout == "classes"
    assert sorted(described(folder)) == sorted(
        [
            (f"{bad}/b.png", 1, bad, None, 6),
            (f"{bad}/c.png", 1, bad, None, None),
            ("good/a.png", 0, "good", None, 0),
            ("unsure/d.png", None, None, None, None),
            ("loose.png", None, None, None, None),
        ]
    )
    assert folder.unmasked == [tmp_path / bad / "c.png"]
    assert len(images_in(tmp_path, recursive=True)) == 5, "the mask is no photograph"


def test_kinds_of_defects_with_masks_in_folders_of_their_names(tmp_path: Path) -> None:
    for name in ("good/0", "scratch/0", "dent/0"):
        photograph(tmp_path / f"{name}.png")
    mask(tmp_path / "masks" / "scratch" / "0.png", columns=4)
    mask(tmp_path / "masks" / "dent" / "0.png", columns=5)
    found = {name: rest for name, *rest in described(ImageFolder(tmp_path))}
    assert found["scratch/0.png"] == [1, "scratch", None, 4]
    assert found["dent/0.png"] == [1, "dent", None, 5]
    assert found["good/0.png"] == [0, "good", None, 0]


def test_a_mask_that_could_belong_to_two_photographs_belongs_to_none(tmp_path: Path) -> None:
    for name in ("good/9", "bad/0", "ko/0", "ko/1"):
        photograph(tmp_path / f"{name}.png")
    for name in "01":
        mask(tmp_path / "masks" / f"{name}.png")
    folder = ImageFolder(tmp_path)
    assert folder.unmasked == [tmp_path / "bad" / "0.png", tmp_path / "ko" / "0.png"]
    assert {row[0]: row[-1] for row in described(folder)}["ko/1.png"] == 6


def test_kolektor_sdd(tmp_path: Path) -> None:
    for part in ("kos01", "kos02"):
        for i in range(3):
            photograph(tmp_path / part / f"Part{i}.jpg")
            mask(tmp_path / part / f"Part{i}_label.bmp", row=4 if (part, i) == ("kos02", 1) else None)
    folder = ImageFolder(tmp_path)
    assert (folder.layout, folder.categories) == ("pairs", [tmp_path.name])
    assert {row[:3] + row[-1:] for row in described(folder)} == {
        *((f"kos01/Part{i}.jpg", 0, "good", 0) for i in range(3)),
        ("kos02/Part0.jpg", 0, "good", 0),
        ("kos02/Part1.jpg", 1, "defect", 6),
        ("kos02/Part2.jpg", 0, "good", 0),
    }


def test_kolektor_sdd2(tmp_path: Path) -> None:
    root = tmp_path / "KolektorSDD2"
    for split, number, row in (("train", 10000, None), ("train", 10001, 3), ("test", 20000, None), ("test", 20001, 2)):
        photograph(root / split / f"{number}.png", seed=number)
        mask(root / split / f"{number}_GT.png", row=row)
    folder = ImageFolder(root)
    assert folder.categories == ["KolektorSDD2"]
    assert described(folder) == [
        ("test/20000.png", 0, "good", "test", 0),
        ("test/20001.png", 1, "defect", "test", 6),
        ("train/10000.png", 0, "good", "train", 0),
        ("train/10001.png", 1, "defect", "train", 6),
    ]


def test_several_masks_and_a_damaged_one_beside_photographs(tmp_path: Path) -> None:
    for name in "abc":
        photograph(tmp_path / f"{name}.png")
    (tmp_path / "a_mask.png").write_bytes(b"")
    mask(tmp_path / "b_mask_1.png", row=None)
    mask(tmp_path / "b_mask_2.png", row=3)
    mask(tmp_path / "c_mask.png", row=None)
    folder = ImageFolder(tmp_path)
    assert [(entry.path.name, entry.label) for entry in folder.entries] == [("a.png", None), ("b.png", 1), ("c.png", 0)]
    assert [(photo.path.name, int(photo.mask.sum())) for photo in folder] == [("b.png", 6), ("c.png", 0)]
    assert folder.broken == [(tmp_path / "a_mask.png", "an empty file")]


def test_a_photograph_of_a_label_may_have_a_mask(tmp_path: Path) -> None:
    photograph(tmp_path / "bottle_label.png")
    mask(tmp_path / "bottle_label_mask.png")
    assert described(ImageFolder(tmp_path)) == [("bottle_label.png", 1, "defect", None, 6)]


def test_photographs_that_are_named_like_masks_are_photographs(tmp_path: Path) -> None:
    names = ["bottle.png", "bottle_label.png", "masks/1.png", "masks/2.png", "x.jpg", "x.png", "labels/bottle.png"]
    for i, name in enumerate(names):
        photograph(tmp_path / name, seed=i)
    assert detect_layout(tmp_path) == "plain"
    assert len(images_in(tmp_path, recursive=True)) == len(names)
    assert masks_in(tmp_path) == []


def test_masks_beside_photographs_of_no_known_layout(tmp_path: Path) -> None:
    kept = [photograph(tmp_path / "images" / f"{i}.jpg") for i in range(2)]
    kept += [photograph(tmp_path / "x.jpg")]
    masks = [mask(tmp_path / "masks" / f"{i}.png") for i in range(2)] + [mask(tmp_path / "x.png")]
    assert images_in(tmp_path, recursive=True) == kept
    assert masks_in(tmp_path) == masks
    assert images_in(tmp_path / "masks") == masks[:2], "asked for by name, they are images like others"


def test_a_mask_in_the_alpha_channel(tmp_path: Path) -> None:
    pixels = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    pixels[2, 3:9] = (255, 255, 255, 255)
    expected = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    expected[2, 3:9] = True
    hidden = pixels.copy()
    hidden[..., :3] = 255  # white also where nothing shows
    black = pixels.copy()
    black[..., :3] = 0  # black paint on a clear sheet
    opaque = pixels.copy()
    opaque[..., 3] = 255
    for name, values in {"paint": pixels, "hidden": hidden, "black": black, "opaque": opaque}.items():
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        assert torch.equal(read_mask(tmp_path / f"{name}.png"), expected), name


def test_a_jpeg_mask_marks_what_was_drawn(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64), np.uint8)
    pixels[13:37, 11:50] = 255
    for suffix in ("jpg", "png"):
        Image.fromarray(pixels).save(tmp_path / f"x.{suffix}", quality=60)
    assert (np.asarray(Image.open(tmp_path / "x.jpg")) > 0).sum() > (pixels > 0).sum() + 20, "compression leaves grey"
    assert torch.equal(read_mask(tmp_path / "x.jpg"), read_mask(tmp_path / "x.png"))


def test_a_mask_that_marks_everything_is_refused(tmp_path: Path) -> None:
    for name in ("train/good/0", "test/bent/0", "test/bent/1"):
        photograph(tmp_path / f"{name}.png")
    full = tmp_path / "ground_truth" / "bent" / "0_mask.png"
    mask(tmp_path / "ground_truth" / "bent" / "1_mask.png")
    Image.new("L", (WIDTH, HEIGHT), 255).save(full)
    with pytest.raises(BrokenImage, match=r"0_mask.png: a mask that marks every pixel"):
        read_mask(full)
    folder = ImageFolder(tmp_path, split="test")
    assert [photo.path.name for photo in folder] == ["1.png"]
    assert folder.broken == [(full, "a mask that marks every pixel, so it marks no defect")]


def test_masks_of_one_photograph_have_one_size_and_leave_something(tmp_path: Path) -> None:
    one = mask(tmp_path / "1.png")
    Image.new("L", (8, 8)).save(tmp_path / "2.png")
    with pytest.raises(BrokenImage, match=r"2.png: expected masks of one size, got 24 x 32 and 8 x 8"):
        read_masks([one, tmp_path / "2.png"])
    rest = np.full((HEIGHT, WIDTH), 255, np.uint8)
    rest[5, :6] = 0
    Image.fromarray(rest).save(tmp_path / "3.png")
    with pytest.raises(BrokenImage, match=r"1.png: a mask that, with the others of its image, marks every pixel"):
        read_masks([one, tmp_path / "3.png"])


def test_what_the_folders_around_a_path_call_it(tmp_path: Path) -> None:
    for name in ("nut/train/good/0", "nut/test/hole/0", "nut/test/good/0", "parts/ok/0", "parts/ng/0", "parts/new/0"):
        photograph(tmp_path / f"{name}.png")
    assert defect_of(tmp_path / "nut" / "test" / "hole") == "hole"
    assert defect_of(tmp_path / "nut" / "test" / "hole" / "0.png") == "hole"
    assert defect_of(tmp_path / "parts" / "ng") == "ng"
    for name in ("nut", "nut/test", "nut/test/good", "nut/train/good/0.png", "parts", "parts/ok", "parts/new"):
        assert defect_of(tmp_path / name) is None, name


OUTSIDE = [
    "pcb1/link/../outside.png",
    "pcb1/a/..\\..\\..\\outside.png",
    "../outside.png",
    "/etc/passwd",
    "pcb1/../../outside.png",
    "pcb2/Data/Images/1.png",
]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("row", ["pcb1,test,normal,{},", "pcb1,test,anomaly,pcb1/Data/Images/Normal/0.png,{}"])
def test_a_list_of_files_stays_in_its_folder(path: str, row: str, tmp_path: Path) -> None:
    root = tmp_path / "visa"
    photograph(tmp_path / "outside.png")
    photograph(root / "pcb1" / "Data" / "Images" / "Normal" / "0.png")
    photograph(root / "pcb2" / "Data" / "Images" / "1.png")
    (root / "split_csv").mkdir()
    (root / "split_csv" / "1cls.csv").write_text(f"object,split,label,image,mask\n{row.format(path)}\n")
    for given in (root, root / "pcb1"):
        with pytest.raises(ValueError, match=r"1cls.csv: expected paths inside the folder pcb1, got"):
            ImageFolder(given)


def test_a_list_with_a_gap(tmp_path: Path) -> None:
    photograph(tmp_path / "pcb1" / "Data" / "Images" / "Normal" / "0.png")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_text("object,split,label,image,mask\npcb1,test,normal,,\n")
    with pytest.raises(ValueError, match=r"1cls.csv: expected a path of an image in each row"):
        ImageFolder(tmp_path)


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    photograph(tmp_path / "pcb1" / "Data" / "Images" / "Normal" / "0.png")
    (tmp_path / "split_csv").mkdir()
    (tmp_path / "split_csv" / "1cls.csv").write_bytes(b"object,split,label,image,mask\n\xff\xfe\n")
    with pytest.raises(ValueError, match=r"1cls.csv: .*decode"):
        ImageFolder(tmp_path)
