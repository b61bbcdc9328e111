"""What cannot be opened is named and never waited for: closed folders, pipes, sockets, devices, links in circles."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from gadkit.cli.sources import normal_files
from gadkit.data.folders import BrokenImage, ImageFolder, closed_in, images_in, read_image, read_mask, unread_in

UNPRIVILEGED = 65534
pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions, and no pipes with names")


def photograph(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), "red").save(path)
    return path


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that is reached without the rights of the user who runs the tests, but for what is closed in it."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def bound(place: Path) -> Iterator[None]:
    """Permissions bind: the superuser, whom they do not, becomes an ordinary user for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(UNPRIVILEGED)
    yield
    os.seteuid(user)


def close(folder: Path, mode: int = 0) -> Path:
    """Take rights away, as the user who has them."""
    user = os.geteuid()
    os.seteuid(os.getuid())
    folder.chmod(mode)
    os.seteuid(user)
    return folder


@pytest.fixture
def closed(place: Path, request: pytest.FixtureRequest) -> Path:
    """A folder at some depth that cannot be opened, among photographs that can be read."""
    for name in ("a.png", "sub/b.png", "sub/deep/c.png", "z/d.png"):
        photograph(place / "parts" / name)
    folder = close(place / "parts" / "sub" / "deep")
    request.getfixturevalue("bound")
    return folder


def test_a_closed_folder_is_named_and_the_rest_is_read(closed: Path) -> None:
    root = closed.parent.parent
    assert closed_in(root) == [closed]
    folder = ImageFolder(root)
    assert [photo.path.name for photo in folder] == ["a.png", "b.png", "d.png"]
    assert folder.broken == [(closed, "a folder that cannot be opened (Permission denied)")]
    assert images_in(root, recursive=True).count(closed) == 1
    assert unread_in(root) == []


def test_a_closed_folder_that_is_asked_for(closed: Path) -> None:
    for root in (closed, closed / "c.png"):
        with pytest.raises((ValueError, PermissionError), match="Permission denied"):
            ImageFolder(root)[0]


def test_a_closed_file(place: Path, request: pytest.FixtureRequest) -> None:
    path = close(photograph(place / "x.png"))
    request.getfixturevalue("bound")
    with pytest.raises(BrokenImage, match=r"x.png: Permission denied"):
        read_image(path)


def test_a_folder_that_may_be_listed_but_not_entered(place: Path, request: pytest.FixtureRequest) -> None:
    photograph(place / "parts" / "a.png")
    photograph(place / "parts" / "sub" / "b.png")
    close(place / "parts" / "sub", 0o444)
    request.getfixturevalue("bound")
    folder = ImageFolder(place / "parts")
    assert [photo.path.name for photo in folder] == ["a.png"]
    assert folder.broken == [(place / "parts" / "sub" / "b.png", "Permission denied")]


@pytest.mark.parametrize("shut", ["test/hole", "test", "ground_truth", "ground_truth/hole", "other"])
@pytest.mark.parametrize("category", ["", "nut"])
def test_a_data_set_with_a_closed_folder(shut: str, category: str, place: Path, request: pytest.FixtureRequest) -> None:
    root = place / "data" / category
    for name in ("train/good/0", "test/good/0", "test/hole/0", "other/0"):
        photograph(root / f"{name}.png")
    photograph(root / "ground_truth" / "hole" / "0_mask.png")
    close(root / shut)
    request.getfixturevalue("bound")
    folder = ImageFolder(place / "data")
    assert folder.layout == "mvtec"
    assert root / shut in {entry.path for entry in folder.entries}
    assert root / shut in {entry.path for entry in ImageFolder(place / "data", split="train").entries}
    list(folder)
    assert (root / shut, "a folder that cannot be opened (Permission denied)") in folder.broken


@pytest.mark.parametrize("beside", [False, True])
def test_closed_normal_images_are_not_called_defective(
    beside: bool, place: Path, request: pytest.FixtureRequest
) -> None:
    photograph(place / "parts" / "good" / "0.png")
    if beside:
        photograph(place / "parts" / "bad" / "0.png")
    close(place / "parts" / "good")
    request.getfixturevalue("bound")
    with pytest.raises(ValueError, match=r"--normal: expected images of good parts, got none: .*good cannot"):
        normal_files(place / "parts")


def test_pipes_sockets_and_devices_never_block(place: Path) -> None:
    photograph(place / "a.png")
    os.mkfifo(place / "b.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place / "c.png"))
        (place / "d.png").symlink_to("/dev/zero")
        (place / "e.png").symlink_to("/dev/null")
        folder = ImageFolder(place)
        assert [photo.path.name for photo in folder] == ["a.png"]
        assert folder.broken == [
            (place / "b.png", "a named pipe, not a file"),
            (place / "c.png", "a socket, not a file"),
            (place / "d.png", "a device, not a file"),
            (place / "e.png", "a device, not a file"),
        ]
        for read in (read_image, read_mask):
            with pytest.raises(BrokenImage, match="a named pipe, not a file"):
                read(place / "b.png")
        [alone] = ImageFolder(place / "b.png").entries
        assert alone.path == place / "b.png"


def test_lists_that_are_pipes_are_not_read(place: Path) -> None:
    photograph(place / "pcb1" / "Data" / "Images" / "Normal" / "0.png")
    os.mkfifo(place / "pcb1" / "image_anno.csv")
    (place / "split_csv").mkdir()
    os.mkfifo(place / "split_csv" / "1cls.csv")
    assert len(ImageFolder(place)) == 1


def test_links_in_circles_end(place: Path) -> None:
    photograph(place / "train" / "good" / "0.png")
    photograph(place / "test" / "bent" / "0.png")
    (place / "test" / "good").mkdir()
    (place / "test" / "bent" / "again").symlink_to(place / "test")
    (place / "test" / "up").symlink_to(place)
    (place / "self.png").symlink_to("self.png")
    (place / "ground_truth").symlink_to("ground_truth")
    folder = ImageFolder(place)
    assert folder.layout == "mvtec"
    assert {photo.path.name for photo in folder} == {"0.png"}
    assert len(images_in(place, recursive=True)) == 3
    with pytest.raises(BrokenImage, match="Too many levels of symbolic links"):
        read_image(place / "self.png")


def test_a_folder_that_is_named_like_an_image(place: Path) -> None:
    photograph(place / "x.png" / "y.png")
    assert [photo.path.name for photo in ImageFolder(place)] == ["y.png"]
    with pytest.raises(BrokenImage, match=r"x.png: a folder, not a file"):
        read_image(place / "x.png")
