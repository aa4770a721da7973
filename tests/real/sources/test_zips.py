"""Zips of images: StyleGAN2-ADA's, and those that people make of a folder."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.real.listing import list_here, take_listing
from pipeline.real.request import make_request
from shards.errors import UserError
from shards.storage import Folder
from tests.support.real_images import (
    INPUTS,
    expected_set,
    protect,
    read_set,
    real_config,
    tile,
    write_zip,
)


def test_zip_of_the_dataset_tool_has_its_labels_and_pixels(tmp_path: Path) -> None:
    images, labels = expected_set()
    found = read_set(tmp_path, train=INPUTS / "sets" / "dataset-tool.zip", resolution=32)
    assert found.class_names == ("0", "1", "2")
    assert np.bincount(found.train.labels).tolist() == np.bincount(labels).tolist()
    assert found.train.labels == sorted(found.train.labels)
    # by class, and within one in the order in which they were drawn
    for row, number in enumerate(np.argsort(labels, kind="stable")):
        crop = images[number, 4:36, 8:40].transpose(2, 0, 1)
        assert np.corrcoef(found.train.images[row].ravel(), crop.ravel())[0, 1] > 0.5


def test_zip_without_labels_in_dataset_json_has_none(tmp_path: Path) -> None:
    members: dict[str, bytes | int] = {"00000/1.png": 1, "00001/2.png": 2}
    path = write_zip(tmp_path / "a.zip", members, labels=None)
    found = read_set(tmp_path, train=path)
    assert found.class_names == ()
    assert found.train.labels == [-1, -1]


def test_zip_with_one_hot_labels_has_their_classes(tmp_path: Path) -> None:
    labels = [["1.png", [0, 0, 1]], ["2.png", [1, 0, 0]], ["3.png", [0.0, 1.0, 0.0]]]
    path = write_zip(tmp_path / "a.zip", {"1.png": 1, "2.png": 2, "3.png": 3}, labels)
    assert read_set(tmp_path, train=path).train.labels == [2, 0, 1]


@pytest.mark.parametrize("vector", [[0.2, 0.8], [1, 1], [0, 0], []])
def test_zip_with_vectors_that_are_no_classes_has_no_labels(
    tmp_path: Path, vector: list[float]
) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.png": 1}, [["1.png", vector]])
    assert read_set(tmp_path, train=path).train.labels == [-1]


def test_zip_images_that_dataset_json_does_not_have_are_unlabelled(tmp_path: Path) -> None:
    labels = [["a/1.png", 1], ["a/9.png", 0], ["a/3.png", -1], ["a/4.png", None]]
    members: dict[str, bytes | int] = {f"a/{number}.png": number for number in (1, 2, 3, 4)}
    found = read_set(tmp_path, train=write_zip(tmp_path / "a.zip", members, labels))
    assert found.train.labels == [1, -1, -1, -1]
    assert found.train.numbers == [1, 2, 3, 4]


@pytest.mark.parametrize(
    "text", ["[1, 2]", "{}", "nothing", '{"labels": [["1.png"]]}', '{"labels": 3}']
)
def test_zip_with_another_dataset_json_is_named(tmp_path: Path, text: str) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.png": 1, "dataset.json": text.encode()})
    with pytest.raises(UserError, match=r"a\.zip: its dataset\.json .*; fix or remove it"):
        read_set(tmp_path, train=path)


@pytest.mark.parametrize("label", ["cat", 1.5, {"a": 1}, ["cat", 1]])
def test_zip_with_labels_that_are_no_numbers_is_named(tmp_path: Path, label: object) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.png": 1}, [["1.png", label]])
    with pytest.raises(UserError, match=r"a\.zip: its dataset\.json .*; fix or remove it"):
        read_set(tmp_path, train=path)


@pytest.mark.parametrize("top", ["", "photos/", "photos/2024/"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_of_a_folder_has_its_classes_below_the_folder_that_all_lie_in(
    tmp_path: Path, top: str, compression: int
) -> None:
    members: dict[str, bytes | int] = {
        f"{top}dog/1.png": 1,
        f"{top}cat/deep/3.png": 3,
        f"{top}cat/2.JPG": 2,
        f"__MACOSX/{top}cat/._2.JPG": b"no image",
        f"{top}.DS_Store": b"",
        f"{top}.cache/9.png": 9,
        f"{top}readme.txt": b"",
    }
    path = write_zip(tmp_path / "a.zip", members, compression=compression)
    found = read_set(tmp_path, train=path)
    assert found.class_names == ("cat", "dog")
    assert found.train.sources == [f"{top}cat/2.JPG", f"{top}cat/deep/3.png", f"{top}dog/1.png"]
    assert found.train.numbers == [2, 3, 1]
    assert found.train.labels == [0, 0, 1]
    listing = make_request(real_config(tmp_path, train=path)).listings["train"]
    assert listing.left_out == {"hidden": 3, ".txt": 1}


def test_zip_images_beside_class_folders_and_in_unlabelled_have_no_label(tmp_path: Path) -> None:
    members: dict[str, bytes | int] = {
        "a/1.png": 1,
        "2.png": 2,
        "unlabelled/3.png": 3,
        "b/4.png": 4,
    }
    found = read_set(tmp_path, train=write_zip(tmp_path / "a.zip", members))
    assert dict(zip(found.train.numbers, found.names("train"), strict=True)) == {
        1: "a",
        2: None,
        3: None,
        4: "b",
    }


@pytest.mark.parametrize("top", ["", "photos/"])
def test_zip_without_folders_has_no_labels(tmp_path: Path, top: str) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{top}1.png": 1, f"{top}2.png": 2})
    assert read_set(tmp_path, train=path).train.labels == [-1, -1]


def test_several_zips_are_one_set_and_classes_agree(tmp_path: Path) -> None:
    write_zip(tmp_path / "data" / "train-0.zip", {"cat/1.png": 1, "dog/2.png": 2})
    write_zip(tmp_path / "data" / "train-1.zip", {"dog/3.png": 3, "emu/4.png": 4})
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.train.numbers == [1, 2, 3, 4]
    assert found.names("train") == ["cat", "dog", "dog", "emu"]


def test_zip_with_a_password_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.png": 1})
    protect(path)
    with pytest.raises(UserError, match=r"a\.zip: protected by a password; unpack it") as raised:
        read_set(tmp_path, train=path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("cut", [0.5, 0.99])
def test_zip_that_is_cut_off_is_refused_in_one_line(tmp_path: Path, cut: float) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{number}.png": number for number in range(20)})
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    with pytest.raises(UserError, match=r"a\.zip: not a readable zip .*; fix or remove it"):
        read_set(tmp_path, train=path)


def test_zip_compressed_otherwise_is_read_but_for_those_images(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.png": 1}, compression=zipfile.ZIP_LZMA)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("2.png", (INPUTS / "images" / "grey.png").read_bytes())
    found = read_set(tmp_path, train=path)
    assert found.train.sources == ["2.png"]
    assert found.train.unreadable == {"1.png": "compressed by method 14; deflate can be read"}


def test_zip_member_that_is_damaged_cannot_be_read(tmp_path: Path) -> None:
    members: dict[str, bytes | int] = {"1.png": 1, "2.png": 2, "3.png": 3}
    path = write_zip(tmp_path / "a.zip", members, compression=zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("2.png").header_offset + 30 + len("2.png")
    content = bytearray(path.read_bytes())
    content[start : start + 20] = b"\xff" * 20
    path.write_bytes(content)
    found = read_set(tmp_path, train=path)
    assert found.train.numbers == [1, 3]
    assert list(found.train.unreadable) == ["2.png"]
    assert "damaged in the zip" in found.train.unreadable["2.png"]


def test_zip_before_which_other_bytes_lie_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.png": 1, "2.png": 2})
    path.write_bytes(b"#!/bin/sh\n" * 3 + path.read_bytes())
    assert read_set(tmp_path, train=path).train.numbers == [1, 2]


def test_zip_that_changes_is_listed_anew(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.png": 1})
    first = read_set(tmp_path, train=path)
    write_zip(path, {"1.png": 1, "2.png": 2})
    assert len(read_set(tmp_path, train=path).train.labels) == len(first.train.labels) + 1


def test_zip_without_images_is_named_with_what_is_there(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"1.txt": b"", "2.txt": b""})
    with pytest.raises(UserError, match=r"real\.train: no images in .*a\.zip.*\.txt \(2\)"):
        read_set(tmp_path, train=path)


def test_zip_entries_tell_another_content_of_the_same_size(tmp_path: Path) -> None:
    digests = []
    for number in (1, 2):
        path = write_zip(tmp_path / "a.zip", {"1.png": number})
        source = make_request(real_config(tmp_path, train=path)).sources["train"]
        store = Folder.at(tmp_path / f"store-{number}")
        digests.append(take_listing(source, store, list_here(source)).digest)
    assert digests[0] != digests[1]


def test_dataset_json_below_a_folder_has_the_labels_of_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3):
            archive.writestr(f"set/00000/{number}.png", tile(number))
        labels = [[f"00000/{number}.png", 2 - number] for number in range(3)]
        archive.writestr("set/dataset.json", json.dumps({"labels": labels}))
    assert read_set(tmp_path, train=path).train.labels == [2, 1, 0]


def test_zip_with_backslashes_has_their_folders(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"a\\1.png": 1, "b\\2.png": 2})
    assert read_set(tmp_path, train=path).class_names == ("a", "b")


@pytest.mark.parametrize("top", ["", "set/"])
def test_zip_with_both_splits_is_a_root(tmp_path: Path, top: str) -> None:
    members = {"train/a/1.png": 1, "train/b/sub/2.png": 2, "train/3.png": 3, "test/b/4.png": 4}
    path = write_zip(tmp_path / "set.zip", {f"{top}{name}": n for name, n in members.items()})
    found = read_set(tmp_path, path=path)
    assert found.class_names == ("a", "b")
    assert (found.train.numbers, found.train.labels) == ([3, 1, 2], [-1, 0, 1])
    assert (found.test.numbers, found.test.labels) == ([4], [1])


def test_zip_without_train_images_is_no_root(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"a/1.png": 1, "b/2.png": 2})
    with pytest.raises(UserError, match=r"real\.path: no images in .*set\.zip.*real\.train="):
        read_set(tmp_path, path=path)


def test_zip_with_train_images_alone_has_no_test_images(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "set.zip", {"train/a/1.png": 1, "train/b/2.png": 2})
    found = read_set(tmp_path, path=path)
    assert (found.train.labels, found.test.labels) == ([0, 1], [])
