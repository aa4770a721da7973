"""Parquet files with images, as Hugging Face's `datasets` and others write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from shards.errors import UserError
from tests.support.real_images import (
    CLASSES,
    INPUTS,
    expected_set,
    read_set,
    tile,
    write_folder,
    write_parquet,
)


def test_parquet_of_hugging_face_has_its_classes_and_pixels(tmp_path: Path) -> None:
    images, labels = expected_set()
    path = INPUTS / "sets" / "train-00000-of-00001.parquet"
    found = read_set(tmp_path, train=path)
    assert found.class_names == CLASSES
    count = len(found.train.labels)
    assert count >= 24
    assert found.train.labels == labels[:count].tolist()
    for image, whole in zip(found.train.images, images, strict=False):
        small = whole[:, 4:44].reshape(8, 5, 8, 5, 3).mean((1, 3)).transpose(2, 0, 1)
        assert np.corrcoef(image.ravel(), small.ravel())[0, 1] > 0.97


@pytest.mark.parametrize("is_struct", [True, False])
@pytest.mark.parametrize("has_metadata", [True, False])
@pytest.mark.parametrize("names", [("dog", "cat"), None])
def test_parquet_images_are_structs_or_plain_bytes(
    tmp_path: Path, is_struct: bool, has_metadata: bool, names: tuple[str, ...] | None
) -> None:
    path = write_parquet(
        tmp_path / "a.parquet",
        [5, 6, 7],
        [1, 0, 1],
        names=names,
        is_struct=is_struct,
        has_metadata=has_metadata,
    )
    found = read_set(tmp_path, train=path)
    assert found.train.numbers == [5, 6, 7]
    assert found.train.labels == [1, 0, 1]
    assert found.class_names == (names if names and has_metadata else ("0", "1"))
    assert found.train.sources == [f"a.parquet:{row}" for row in range(3)]


@pytest.mark.parametrize("label", ["label", "labels", "fine_label", "cls", "class", "target"])
def test_parquet_columns_of_usual_names_are_found(tmp_path: Path, label: str) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", [1, 2], [0, 1], columns=("img", label), has_metadata=False
    )
    assert read_set(tmp_path, train=path).train.labels == [0, 1]


def test_parquet_column_that_metadata_call_a_class_is_the_label(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", [1, 2], [0, 1], names=("x", "y"), columns=("photo", "digit")
    )
    assert read_set(tmp_path, train=path).names("train") == ["x", "y"]


def test_parquet_columns_that_are_named_are_taken(tmp_path: Path) -> None:
    table = pa.table(
        {
            "label": [0, 0],
            "other": ["b", "a"],
            "first": pa.array([tile(1), tile(2)], pa.binary()),
            "second": pa.array([tile(3), tile(4)], pa.large_binary()),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    path = tmp_path / "a.parquet"
    assert read_set(tmp_path, train=path).train.numbers == [1, 2]
    found = read_set(tmp_path, train=path, image_field="second", label_field="other")
    assert found.train.numbers == [3, 4]
    assert found.names("train") == ["b", "a"]


def test_parquet_without_labels_has_none(tmp_path: Path) -> None:
    found = read_set(tmp_path, train=write_parquet(tmp_path / "a.parquet", [1, 2]))
    assert found.class_names == ()
    assert found.train.labels == [-1, -1]


def test_parquet_rows_without_label_or_with_minus_one_are_unlabelled(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [1, 2, 3], [0, -1, None], names=("cat", "dog"))
    found = read_set(tmp_path, train=path)
    assert found.class_names == ("cat", "dog")
    assert found.train.labels == [0, -1, -1]


@pytest.mark.parametrize("is_struct", [True, False])
def test_parquet_rows_without_image_are_noted(tmp_path: Path, is_struct: bool) -> None:
    path = write_parquet(
        tmp_path / "a.parquet", [1, None, b"", 4], [0, 1, 0, 1], is_struct=is_struct
    )
    found = read_set(tmp_path, train=path)
    assert found.train.numbers == [1, 4]
    assert found.train.labels == [0, 1]
    assert found.train.unreadable == {
        "a.parquet:1": "the row has no bytes of an image",
        "a.parquet:2": "the row has no bytes of an image",
    }


def test_parquet_with_paths_instead_of_bytes_is_noted_row_by_row(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = pa.array([{"bytes": None, "path": "a.png"}, {"bytes": tile(2), "path": None}], kind)
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    found = read_set(tmp_path, train=tmp_path / "a.parquet")
    assert found.train.numbers == [2]
    assert list(found.train.unreadable) == ["a.parquet:0"]


def test_parquet_without_a_column_of_images_says_which_columns_there_are(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["a"], "width": [3]}), tmp_path / "a.parquet")
    with pytest.raises(
        UserError, match=r"real\.image_field: .*caption \(string\), width \(int64\)"
    ):
        read_set(tmp_path, train=tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("field", "words"),
    [("image_field", r"image \(struct.*label \(int64\)"), ("label_field", "image, label")],
)
def test_parquet_without_a_column_that_is_named_says_which_there_are(
    tmp_path: Path, field: str, words: str
) -> None:
    path = write_parquet(tmp_path / "a.parquet", [1], [0])
    with pytest.raises(UserError, match=rf"real\.{field}: .*'kind'.*there are .*{words}"):
        read_set(tmp_path, train=path, **{field: "kind"})


def test_parquet_label_field_that_holds_no_labels_is_refused(tmp_path: Path) -> None:
    table = pa.table({"image": [tile(1)], "boxes": [[1.0, 2.0]], "score": [0.5]})
    pq.write_table(table, tmp_path / "a.parquet")
    for field, words in (("boxes", "'boxes'"), ("score", "0.5"), ("image", "'image'")):
        with pytest.raises(UserError, match=rf"real\.label_field: .*{words}") as raised:
            read_set(tmp_path, train=tmp_path / "a.parquet", label_field=field)
        assert "\n" not in str(raised.value)


def test_parquet_columns_of_other_kinds_are_no_labels_by_their_name(tmp_path: Path) -> None:
    table = pa.table({"image": [tile(1)], "label": [[0.5, 0.5]]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_set(tmp_path, train=tmp_path / "a.parquet").train.labels == [-1]


@pytest.mark.parametrize("rows_per_group", [1, 3, 100])
def test_parquet_of_several_row_groups_and_files_is_read_in_order(
    tmp_path: Path, rows_per_group: int
) -> None:
    for file, start in enumerate((0, 90, 180)):
        numbers = list(range(start, start + 90))
        write_parquet(
            tmp_path / "data" / f"train-{file:05}-of-00003.parquet",
            numbers,
            [number % 7 for number in numbers],
            rows_per_group=rows_per_group,
        )
    found = read_set(tmp_path, path=tmp_path / "data")
    assert found.train.numbers == list(range(270))
    assert found.train.labels == [number % 7 for number in range(270)]
    limited = read_set(tmp_path, path=tmp_path / "data", limit=40)
    assert limited.train.numbers == sorted(limited.train.numbers)
    assert [number % 7 for number in limited.train.numbers] == limited.train.labels
    assert len(limited.train.labels) == 40


def test_parquet_file_that_lacks_a_column_of_the_first_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path / "data" / "train-0.parquet", [1], [0])
    write_parquet(tmp_path / "data" / "train-1.parquet", [2])
    with pytest.raises(
        UserError, match=r"train-1\.parquet: has no column 'label'.*there are image"
    ):
        read_set(tmp_path, path=tmp_path / "data")


@pytest.mark.parametrize("content", [b"", b"PAR1 no parquet PAR1", b"nothing of the kind at all"])
def test_what_is_no_parquet_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet: not readable as Parquet") as raised:
        read_set(tmp_path, train=tmp_path / "a.parquet")
    assert "\n" not in str(raised.value)


def test_parquet_with_damaged_pages_is_refused_in_one_line(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", list(range(50)), [0] * 50)
    content = bytearray(path.read_bytes())
    content[4:300] = b"\xff" * 296
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.parquet: not readable as Parquet") as raised:
        read_set(tmp_path, train=path)
    assert "\n" not in str(raised.value)


def test_parquet_metadata_of_another_kind_are_no_reason_to_stop(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [1], [0])
    for said in (b"\xff\xfe", b"[]", b'{"info": {"features": []}}', b'{"info": null}'):
        table = pq.read_table(path).replace_schema_metadata({"huggingface": said})
        pq.write_table(table, path)
        assert read_set(tmp_path, train=path).train.labels == [0]


def test_parquet_test_split_agrees_with_train_folders_by_name(tmp_path: Path) -> None:
    folders = write_folder(tmp_path / "folders", {"cat/0.png": 0, "dog/1.png": 1, "emu/2.png": 2})
    test = write_parquet(tmp_path / "test.parquet", [7, 8], [0, 1], names=("emu", "cat"))
    assert read_set(tmp_path, train=folders, test=test).names("test") == ["emu", "cat"]
    test = write_parquet(tmp_path / "bad.parquet", [7, 8], [0, 1], names=("emu", "yak"))
    with pytest.raises(UserError, match=r"real\.test: images of class 'yak'"):
        read_set(tmp_path, train=folders, test=test)


def test_parquet_label_beyond_the_names_is_named(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", [1, 2], [0, 2], names=("cat", "dog"))
    with pytest.raises(UserError, match=r"real\.label_field: label 2 of a train image"):
        read_set(tmp_path, train=path)


def test_parquet_whole_numbers_as_floats_are_labels(tmp_path: Path) -> None:
    table = pa.table({"image": [tile(n) for n in range(4)], "label": [0.0, 2.0, None, -1.0]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert read_set(tmp_path, train=tmp_path / "a.parquet").train.labels == [0, 2, -1, -1]


def test_parquet_files_that_name_classes_in_another_order_keep_their_classes(
    tmp_path: Path,
) -> None:
    for number, names in enumerate((["x", "y", "z"], ["z", "y", "x"])):
        labels = [0, 1, 2] if number == 0 else [2, 1, 0]
        path = tmp_path / f"train-{number}.parquet"
        write_parquet(path, range(3 * number, 3 * number + 3), labels, names=names)
    found = read_set(tmp_path, train=tmp_path / "train-*.parquet")
    assert found.class_names == ("x", "y", "z")
    assert found.train.labels == [0, 1, 2, 0, 1, 2]
