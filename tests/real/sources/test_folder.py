"""Folders of images as users have them: classes, deeper folders, links, and what is no image."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pipeline.real import stage
from pipeline.real.listing import Listing, list_here, take_listing
from pipeline.real.request import make_request
from pipeline.real.sources.folder import FilesSource, FolderSource
from pipeline.real.sources.source import Row
from shards.errors import UserError
from shards.storage import Folder
from tests.support.real_images import (
    INPUTS,
    encode,
    expected_set,
    read_set,
    real_config,
    tile,
    write,
    write_folder,
)


def listing_of(folder: Path) -> Listing:
    """What there is in a folder, listed anew."""
    source = FolderSource(str(folder))
    return take_listing(source, Folder.at(folder.parent / "store"), list_here(source))


def test_folder_labels_images_by_sorted_class_name(tmp_path: Path) -> None:
    files = {"dog/1.png": 1, "cat/b.jpg": 2, "cat/a.PNG": 3, "cat/notes.txt": b"not an image"}
    write_folder(tmp_path / "data" / "train", files)
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.class_names == ("cat", "dog")
    assert found.train.sources == ["cat/a.PNG", "cat/b.jpg", "dog/1.png"]
    assert found.train.labels == [0, 0, 1]
    assert found.train.numbers == [3, 2, 1]


def test_folders_within_classes_are_of_the_class_they_lie_in(tmp_path: Path) -> None:
    images, labels = expected_set()
    found = read_set(tmp_path, path=INPUTS / "sets" / "nested", resolution=32)
    assert found.class_names == ("circle", "square", "triangle")
    for split, count in ((found.train, 24), (found.test, 12)):
        numbers = [int(Path(source).stem) for source in split.sources]
        assert len(set(numbers)) == count
        assert split.labels == labels[numbers].tolist()
        crops = images[numbers][:, :, 4:44].reshape(count, 8, 5, 8, 5, 3).mean((2, 4))
        small = np.stack(split.images).reshape(count, 3, 8, 4, 8, 4).mean((3, 5))
        assert np.abs(small - crops.transpose(0, 3, 1, 2)).mean() < 4  # JPEG


def test_folder_of_any_depth_has_its_classes_right_below(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"a/b/c/d/1.png": 1, "a/2.png": 2, "z/train/3.png": 3})
    found = read_set(tmp_path, train=tmp_path / "data")
    assert found.train.sources == ["a/2.png", "a/b/c/d/1.png", "z/train/3.png"]
    assert found.names("train") == ["a", "a", "z"]


def test_folder_test_split_with_fewer_classes_keeps_the_train_splits_labels(tmp_path: Path) -> None:
    write_folder(
        tmp_path / "data" / "train", {f"{name}/1.png": 1 for name in ("cat", "dog", "emu")}
    )
    write_folder(tmp_path / "data" / "test", {f"{name}/1.png": 1 for name in ("dog", "emu")})
    assert read_set(tmp_path, path=tmp_path / "data").names("test") == ["dog", "emu"]


def test_folder_flat_has_no_labels(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "train", {"b.png": 1, "a.png": 2})
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.class_names == ()
    assert found.train.labels == [-1, -1]
    assert found.train.numbers == [2, 1]


def test_folder_flat_test_images_beside_train_classes_have_no_labels(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "train", {"cat/1.png": 1, "dog/1.png": 2})
    write_folder(tmp_path / "data" / "test", {"1.png": 3})
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.class_names == ("cat", "dog")
    assert found.test.labels == [-1]


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled", "Unlabelled"])
def test_images_beside_classes_and_in_unlabelled_have_no_label(tmp_path: Path, name: str) -> None:
    files = {"cat/1.png": 1, "dog/1.png": 2, "0.png": 3, f"{name}/deep/4.png": 4}
    write_folder(tmp_path / "data" / "train", files)
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.class_names == ("cat", "dog")
    assert dict(zip(found.train.numbers, found.train.labels, strict=True)) == {
        3: -1,
        1: 0,
        2: 1,
        4: -1,
    }
    listing = listing_of(tmp_path / "data" / "train")
    assert (listing.num_entries, listing.num_unlabelled) == (4, 2)


def test_folder_of_unlabelled_images_only_has_no_classes(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "train", {"unlabelled/1.png": 1})
    assert read_set(tmp_path, path=tmp_path / "data").class_names == ()


def test_folder_without_test_images_has_an_empty_test_split(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "train", {"a.png": 1})
    assert read_set(tmp_path, path=tmp_path / "data").test.labels == []
    (tmp_path / "data" / "test").mkdir()
    assert read_set(tmp_path, path=tmp_path / "data").test.labels == []


def test_folder_without_train_images_is_named_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(UserError, match=r"real\.path: no images in .*train; put them there"):
        read_set(tmp_path, path=tmp_path / "data")
    write_folder(tmp_path / "data" / "train" / "cat", {"notes.txt": b"", "more.txt": b""})
    with pytest.raises(UserError, match=r"real\.path: no images in .*train.*\.txt \(2\)"):
        read_set(tmp_path, path=tmp_path / "data")


def test_what_is_no_image_is_counted_by_kind(tmp_path: Path) -> None:
    files: dict[str, bytes | int] = {
        "cat/1.png": 1,
        "cat/1.txt": b"",
        "cat/2.TXT": b"",
        "README": b"",
        ".DS_Store": b"",
        "cat/.1.png": 1,
        ".cache/1.png": 1,
    }
    folder = write_folder(tmp_path / "data", files)
    for name in ("empty", "dog/deeper"):
        (folder / name).mkdir(parents=True)
    listing = listing_of(folder)
    assert listing.num_entries == 1
    assert listing.labels == ("cat",)
    assert listing.left_out == {
        "hidden": 3,
        ".txt": 2,
        "without suffix": 1,
        "folders without images": 3,
    }


def test_links_to_files_and_folders_are_followed(tmp_path: Path) -> None:
    elsewhere = write_folder(tmp_path / "elsewhere", {"1.png": 1, "2.png": 2})
    train = write_folder(tmp_path / "data" / "train", {"cat/0.png": 0})
    (train / "dog").symlink_to(elsewhere)
    (train / "cat" / "3.png").symlink_to(elsewhere / "1.png")
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.train.sources == ["cat/0.png", "cat/3.png", "dog/1.png", "dog/2.png"]
    assert found.train.numbers == [0, 1, 1, 2]


def test_same_folder_linked_twice_is_two_classes(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "data" / "train", {"cat/0.png": 0})
    (train / "dog").symlink_to(train / "cat")
    assert read_set(tmp_path, path=tmp_path / "data").names("train") == ["cat", "dog"]


def test_links_that_lead_nowhere_are_images_that_cannot_be_read(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "data" / "train", {"cat/0.png": 0})
    (train / "cat" / "1.png").symlink_to(tmp_path / "gone.png")
    (train / "cat" / "notes.txt").symlink_to(tmp_path / "gone.txt")
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.train.labels == [0]
    assert found.train.unreadable == {"cat/1.png": "no file, or a link that leads nowhere"}


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", {"cat/0.png": 0})
    (folder / "cat" / "again").symlink_to(folder)
    (folder / "loop.png").symlink_to(folder / "loop.png")
    listing = listing_of(folder)
    assert listing.num_entries == 2
    assert listing.left_out["links in a circle"] == 1
    found = read_set(tmp_path, train=folder)
    assert found.train.sources == ["cat/0.png"]
    assert list(found.train.unreadable) == ["loop.png"]


def test_folder_whose_name_looks_like_an_images_is_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "train", {"a.png/1.png": 1, "b.jpg/2.png": 2})
    assert read_set(tmp_path, path=tmp_path / "data").class_names == ("a.png", "b.jpg")


def test_names_of_any_bytes_are_read(tmp_path: Path) -> None:
    train = tmp_path / "data" / "train" / "cat"
    train.mkdir(parents=True)
    for number, name in enumerate((b"caf\xe9.png", "ünïcode ☃.png".encode(), b"new\nline.png")):
        with open(os.path.join(os.fsencode(train), name), "wb") as file:
            file.write(tile(number))
    config = real_config(tmp_path, path=tmp_path / "data")
    stage.run(config)
    record = stage.find(config)
    assert record is not None
    assert record.outputs.num_samples["train"] == 3


def test_unreadable_images_are_noted_with_reasons(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "data" / "train", {"good.png": 1})
    for file in (INPUTS / "unreadable").iterdir():
        write(train / file.name, file.read_bytes())
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.train.sources == ["good.png"]
    assert sorted(found.train.unreadable) == [
        "cut-in-half.jpg",
        "empty.png",
        "html.png",
        "text.jpg",
    ]
    assert found.train.unreadable["empty.png"] == "an empty file"


def test_file_that_has_gone_since_cannot_be_read_but_a_folder_that_has_is_an_error(
    tmp_path: Path,
) -> None:
    folder = write_folder(tmp_path / "data", {"a.png": 1, "b.png": 2})
    source = FolderSource(str(folder))
    rows = [Row(name, -1, -1, 0) for name in (b"a.png", b"b.png")]
    (folder / "a.png").unlink()
    gone, there = source.open().read(rows)
    assert str(gone) == "not there any more"
    assert there == tile(2)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        list(source.open().read(rows))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "data" / "train", {"cat/a.png": 1, "cat/b.png": 2})
    (train / "cat" / "a.png").chmod(0)
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.train.unreadable == {"cat/a.png": "Permission denied; check its permissions"}
    (train / "cat").chmod(0)
    try:
        with pytest.raises(UserError, match="cat: Permission denied; check its permissions"):
            read_set(tmp_path / "other", path=tmp_path / "data")
    finally:
        (train / "cat").chmod(0o700)


def test_oblong_image_is_cropped_at_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), dtype=np.uint8)
    pixels[:, 16:32] = (10, 200, 90)
    write(tmp_path / "data" / "train" / "a.png", encode(pixels))
    (image,) = read_set(tmp_path, path=tmp_path / "data").train.images
    # halving makes the bicubic kernel 8 pixels wide: the outer two pixels reach past the crop
    inside = image[:, 2:-2, 2:-2].reshape(3, -1)
    np.testing.assert_array_equal(inside.min(1), [10, 200, 90])
    np.testing.assert_array_equal(inside.max(1), [10, 200, 90])


def test_pattern_of_image_files_has_no_labels(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "data", {"cat/b.png": 1, "dog/a.png": 2, "dog/.a.png": 3})
    found = read_set(tmp_path, train=f"{folder}/*/*.png")
    assert found.train.labels == [-1, -1]
    assert found.train.numbers == [1, 2]
    assert found.train.sources == [f"{folder}/cat/b.png", f"{folder}/dog/a.png"]
    assert FilesSource(f"{folder}/*/*.png").identity() != FolderSource(str(folder)).identity()


def test_one_image_file_is_a_set_of_one(tmp_path: Path) -> None:
    path = write(tmp_path / "only.png", 5)
    assert read_set(tmp_path, train=path).train.numbers == [5]


def write_classes(folder: Path, text: str) -> Path:
    return write(folder / "classes.txt", text.encode())


def test_listed_classes_alone_are_read_and_numbered(tmp_path: Path) -> None:
    for split in ("train", "test"):
        files: dict[str, bytes | int] = {f"{name}/1.png": 1 for name in ("cat", "dog", "emu")}
        write_folder(tmp_path / "data" / split, {**files, "unlabelled.png": 2})
    classes = write_classes(tmp_path, "# two of them\n emu\n\ncat\n")
    found = read_set(tmp_path, path=tmp_path / "data", classes=classes)
    assert found.class_names == ("cat", "emu")
    assert found.train.labels == found.test.labels == [0, 1]


@pytest.mark.parametrize(
    ("text", "words"), [("cat\nyak\n", "yak"), ("# none\n", "classes.txt"), (None, "classes.txt")]
)
def test_unusable_list_of_classes_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    write_folder(tmp_path / "data" / "train", {"cat/1.png": 1})
    classes = tmp_path / "classes.txt" if text is None else write_classes(tmp_path, text)
    with pytest.raises(UserError, match=rf"real\.classes: .*{words}"):
        read_set(tmp_path, path=tmp_path / "data", classes=classes)


def test_class_folder_whose_name_is_no_text_is_a_class(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"a/1.png": 1, "b/2.png": 2})
    os.rename(os.fsencode(root / "b"), os.fsencode(root) + b"/z\xff")
    request = make_request(real_config(tmp_path, train=root))
    assert request.listings["train"].labels == ("a", "z\\xff")
