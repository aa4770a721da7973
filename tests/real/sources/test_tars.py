"""WebDataset tars: labels in `cls` or a field of `json`, and what is wrong with some of them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from pipeline.real.sources.location import describe
from pipeline.real.sources.source import Row
from pipeline.real.sources.tars import TarSource
from shards.errors import UserError
from tests.support.real_images import (
    INPUTS,
    expected_set,
    read_set,
    tile,
    write_folder,
    write_tar,
)


def samples(*numbers: int, label: str = "cls") -> list[tuple[str, bytes | int]]:
    """One sample of each number, which is its label, too."""
    return [
        member
        for number in numbers
        for member in ((f"{number:04}.png", number), (f"{number:04}.{label}", b"%d" % number))
    ]


def fields(**values: object) -> bytes:
    return json.dumps(values).encode()


def test_tars_with_cls_have_its_labels_and_the_pixels(tmp_path: Path) -> None:
    images, labels = expected_set()
    pattern = INPUTS / "sets" / "wds-cls-{0000..0002}.tar"
    found = read_set(tmp_path, train=pattern, resolution=8)
    assert found.class_names == ("0", "1", "2")
    assert found.train.labels == labels.tolist()
    assert found.train.sources == [f"{number:06}" for number in range(36)]
    for image, whole in zip(found.train.images, images, strict=True):
        small = whole[:, 4:44].reshape(8, 5, 8, 5, 3).mean((1, 3)).transpose(2, 0, 1)
        assert np.corrcoef(image.ravel(), small.ravel())[0, 1] > 0.97


def test_tar_without_labels_has_none(tmp_path: Path) -> None:
    members = [("1.png", 1), ("1.txt", b"a caption"), ("2.png", 2), ("2.txt", b"another")]
    found = read_set(tmp_path, train=write_tar(tmp_path / "a.tar", members))
    assert found.class_names == ()
    assert found.train.labels == [-1, -1]
    assert found.train.numbers == [1, 2]


def test_tar_of_a_folder_is_read(tmp_path: Path) -> None:
    members = [("./photos/a.png", 1), ("./photos/sub/b.png", 2)]
    found = read_set(tmp_path, train=write_tar(tmp_path / "a.tar", members))
    assert found.train.numbers == [1, 2]


def test_tar_label_field_of_json_is_the_label(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | int]] = [
        ("1.png", 1),
        ("1.json", fields(species="dog", cls=7)),
        ("1.cls", b"5"),
        ("2.json", fields(species="cat")),
        ("2.png", 2),
        ("3.png", 3),
        ("3.json", fields(species=None)),
    ]
    path = write_tar(tmp_path / "a.tar", members)
    found = read_set(tmp_path, train=path, label_field="species")
    assert found.class_names == ("cat", "dog")
    assert found.train.labels == [1, 0, -1]
    assert read_set(tmp_path / "other", train=path).train.labels == [5, -1, -1]


def test_tar_label_field_with_numbers_has_classes_by_number(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | int]] = []
    for number, label in enumerate((2, 0, -1)):
        members += [(f"{number}.jpg", number), (f"{number}.json", fields(y=label))]
    found = read_set(tmp_path, train=write_tar(tmp_path / "a.tar", members), label_field="y")
    assert found.class_names == ("0", "1", "2")
    assert found.train.labels == [2, 0, -1]


def test_tar_without_the_label_field_says_which_there_are(tmp_path: Path) -> None:
    members = [("1.png", 1), ("1.json", fields(width=3, caption="x"))]
    path = write_tar(tmp_path / "a.tar", members)
    with pytest.raises(UserError, match=r"real\.label_field: .*a\.tar: 1\.json.*caption, width"):
        read_set(tmp_path, train=path, label_field="species")


def test_tar_label_field_where_samples_have_no_json_is_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(1, 2))
    with pytest.raises(UserError, match=r"real\.label_field: .*json.*cls"):
        read_set(tmp_path, train=path, label_field="species")


@pytest.mark.parametrize("content", [b"{", b"[1]", b"\xff\xfe", b""])
def test_tar_with_unreadable_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.png", 1), ("1.json", content)])
    with pytest.raises(UserError, match=r"a\.tar: 1\.json: not readable .*; fix or remove it"):
        read_set(tmp_path, train=path, label_field="y")
    assert read_set(tmp_path / "other", train=path).train.labels == [-1]


@pytest.mark.parametrize("kept", [1, 10, 19])
@pytest.mark.parametrize("behind", [30, 512, 530])
def test_tar_that_is_cut_off_has_the_samples_before_and_says_so(
    tmp_path: Path, kept: int, behind: int
) -> None:
    path = write_tar(tmp_path / "a.tar", samples(*range(20)))
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"%04d.png" % kept) + behind])
    found = read_set(tmp_path, train=path)
    assert found.train.numbers == found.train.labels == list(range(kept))
    assert list(found.train.unreadable) == ["a.tar"]
    assert "the tar is cut off after" in found.train.unreadable["a.tar"]


def test_tar_without_its_end_is_whole(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", samples(1, 2))
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content + bytes(-len(content) % 512))
    found = read_set(tmp_path, train=path)
    assert found.train.labels == [1, 2]
    assert found.train.unreadable == {}


@pytest.mark.parametrize("content", [b"no tar at all", b"\x1f\x8b" + bytes(600)])
def test_what_is_no_tar_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.tar: not a readable tar") as raised:
        read_set(tmp_path, train=tmp_path / "a.tar")
    assert "\n" not in str(raised.value)


def test_tar_without_any_member_has_no_images(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [])
    with pytest.raises(UserError, match=r"real\.train: no images in .*a\.tar"):
        read_set(tmp_path, train=path)


def test_tar_sample_without_image_is_noted_with_what_it_has(tmp_path: Path) -> None:
    members = [*samples(1), ("2.cls", b"2"), ("2.txt", b""), *samples(3)]
    found = read_set(tmp_path, train=write_tar(tmp_path / "a.tar", members))
    assert found.train.numbers == [1, 3]
    assert found.train.unreadable == {"2": "no image among cls, txt"}


def test_tar_members_that_are_hidden_are_no_samples(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | int]] = [
        ("./._1.png", b"of macOS"),
        ("./1.png", 1),
        ("./.DS_Store", b""),
        ("__MACOSX/._1.png", b""),
        ("./.cache/2.png", 2),
        ("./1.cls", b"3"),
    ]
    found = read_set(tmp_path, train=write_tar(tmp_path / "a.tar", members))
    assert found.train.numbers == [1]
    assert found.train.labels == [3]
    assert found.train.unreadable == {}


def test_tar_sample_with_two_images_has_the_first_by_name(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | int]] = [
        ("1.seg.png", 9),
        ("1.png", 2),
        ("1.jpg", 1),
        ("1.cls", b"0"),
    ]
    assert read_set(tmp_path, train=write_tar(tmp_path / "a.tar", members)).train.numbers == [1]


def test_tar_with_unequal_names_of_any_length_is_read(tmp_path: Path) -> None:
    long = "deep/" * 40 + "x" * 90
    members = [(f"{long}.png", 1), (f"{long}.cls", b"0"), ("ünïcode.png", 2), ("ünïcode.cls", b"1")]
    found = read_set(tmp_path, train=write_tar(tmp_path / "a.tar", members))
    assert found.train.numbers == [1, 2]
    assert found.train.sources == [long, "ünïcode"]


def test_tars_of_both_splits_in_a_folder_are_found_and_agree_with_class_folders(
    tmp_path: Path,
) -> None:
    write_tar(tmp_path / "data" / "train-0.tar", samples(0, 1))
    write_tar(tmp_path / "data" / "train-1.tar", samples(2))
    write_tar(tmp_path / "data" / "test.tar", samples(2, 0))
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.train.labels == [0, 1, 2]
    assert found.test.labels == [2, 0]
    folders = write_folder(tmp_path / "folders", {"a/0.png": 0, "b/1.png": 1, "c/2.png": 2})
    mixed = read_set(tmp_path, train=folders, test=tmp_path / "data" / "test.tar")
    assert mixed.names("test") == ["c", "a"]


def test_tar_class_that_train_folders_do_not_have_is_one_line(tmp_path: Path) -> None:
    folders = write_folder(tmp_path / "folders", {"a/0.png": 0, "b/1.png": 1})
    test = write_tar(tmp_path / "test.tar", samples(0, 5))
    with pytest.raises(UserError, match=r"real\.test: images of class '5'") as raised:
        read_set(tmp_path, train=folders, test=test)
    assert "\n" not in str(raised.value)


def test_tar_image_is_read_where_it_lies_even_when_the_tar_has_shrunk_since(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("1.png", 1)])
    source = TarSource((describe(str(path)),))
    (good,) = source.open().read([Row(b"1", 0, 512, len(tile(1)))])
    assert good == tile(1)
    (bad,) = source.open().read([Row(b"1", 0, path.stat().st_size - 10, 100)])
    assert str(bad) == "the tar ends before it"


def test_tar_with_one_key_twice_in_a_row_has_two_samples(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | int]] = []
    for number in (3, 5):
        members += [("0.png", number), ("0.cls", b"%d" % number)]
    found = read_set(tmp_path, train=write_tar(tmp_path / "a.tar", members))
    assert found.train.labels == [3, 5]


def test_tar_with_several_images_of_a_key_counts_those_it_does_not_take(tmp_path: Path) -> None:
    names = [f"IMG_v1.{number}.png" for number in range(4)]
    path = write_tar(tmp_path / "a.tar", [(name, 1) for name in names])
    found = read_set(tmp_path, train=path)
    assert len(found.train.labels) == 1
    assert found.listings["train"].left_out == {"further images of a sample": 3}


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.SYMTYPE])
def test_links_in_a_tar_are_named(tmp_path: Path, kind: bytes) -> None:
    path = write_tar(tmp_path / "a.tar", [("0.png", 1)])
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("1.png")
        link.type, link.linkname = kind, "0.png"
        tar.addfile(link)
    found = read_set(tmp_path, train=path)
    assert list(found.train.unreadable) == ["1"]
    assert "link" in found.train.unreadable["1"]


@pytest.mark.parametrize("value", [[0], {"a": 1}, 0.5])
def test_json_field_that_is_no_class_is_refused(tmp_path: Path, value: object) -> None:
    path = write_tar(tmp_path / "a.tar", [("0.png", 1), ("0.json", fields(kind=value))])
    with pytest.raises(UserError, match=r"real\.label_field: .*no class"):
        read_set(tmp_path, train=path, label_field="kind")


def test_json_field_of_whole_and_negative_numbers(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | int]] = []
    for number, value in enumerate((1.0, -3, None, 0)):
        members += [(f"{number}.png", number), (f"{number}.json", fields(kind=value))]
    path = write_tar(tmp_path / "a.tar", members)
    assert read_set(tmp_path, train=path, label_field="kind").train.labels == [1, -1, -1, 0]


def test_tar_whose_labels_may_be_elsewhere_has_a_note(tmp_path: Path) -> None:
    members: list[tuple[str, bytes | int]] = [("a/0.png", 1), ("a/0.json", fields(kind=1))]
    found = read_set(tmp_path, train=write_tar(tmp_path / "a.tar", members))
    (note,) = found.listings["train"].notes
    assert "real.label_field" in note


@pytest.mark.parametrize("label_field", [None, "kind"])
def test_tar_cut_before_the_label_of_a_sample_is_named_as_cut(
    tmp_path: Path, label_field: str | None
) -> None:
    members: list[tuple[str, bytes | int]] = []
    for number in range(3):
        members += [(f"{number}.json", fields(kind=number)), (f"{number}.png", number)]
    members += [("3.jpg.png", 3), ("3.json", fields(kind=3, text="x" * 2000))]
    path = write_tar(tmp_path / "a.tar", members)
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + 1000])
    found = read_set(tmp_path, train=path, label_field=label_field)
    assert found.train.labels[:3] == ([-1] * 3 if label_field is None else [0, 1, 2])
    assert "cut off after 4 samples" in found.train.unreadable["a.tar"]
