"""Which images a split has, in groups of a shard each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.real.request import make_request, select
from pipeline.real.rows import count_rows, read_group, read_labels, rows_of, without, write_rows
from shards.errors import UserError
from shards.storage import Folder
from tests.support.real_images import read_set, real_config, write_folder, write_tar


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten cats, five dogs, three images without label and a link that leads nowhere."""
    files: dict[str, bytes | int] = {f"cat/{number}.png": number for number in range(10)}
    files |= {f"dog/{number}.png": number for number in range(10, 15)}
    files |= {f"{number}.png": number for number in range(15, 18)}
    folder = write_folder(tmp_path / "images", files)
    (folder / "cat" / "99.png").symlink_to(tmp_path / "nowhere")
    return folder


@pytest.mark.parametrize("rows_per_group", [1, 4, 19, 1000])
def test_rows_are_written_in_groups_of_a_shard(
    images: Path, tmp_path: Path, rows_per_group: int
) -> None:
    config = real_config(tmp_path, train=images)
    selections, names = select(config.real, make_request(config), config.store)
    folder = Folder.at(tmp_path / "rows")
    assert count_rows(folder, "train") is None
    write_rows(folder, "train", rows_of(selections["train"], config.store), rows_per_group)
    assert count_rows(folder, "train") == 19
    groups = -(-19 // rows_per_group)
    tables = [read_group(folder, "train", group) for group in range(groups)]
    assert [len(table) for table in tables[:-1]] == [rows_per_group] * (groups - 1)
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["source"].decode() for row in rows] == [
        *(f"{number}.png" for number in range(15, 18)),
        *(f"cat/{number}.png" for number in range(10)),
        "cat/99.png",
        *(f"dog/{number}.png" for number in range(10, 15)),
    ]
    assert [row["label"] for row in rows] == [-1] * 3 + [0] * 11 + [1] * 5
    assert [row["problem"] is not None for row in rows].index(True) == 13
    assert names == ("cat", "dog")


def test_no_rows_are_a_file_of_none(tmp_path: Path) -> None:
    folder = Folder.at(tmp_path / "rows")
    write_rows(folder, "test", (), 5)
    assert count_rows(folder, "test") == 0
    assert pq.ParquetFile(tmp_path / "rows" / "rows-test.parquet").num_row_groups == 0


def test_labels_are_of_what_has_an_image(images: Path, tmp_path: Path) -> None:
    config = real_config(tmp_path, train=images)
    selections, _ = select(config.real, make_request(config), config.store)
    labels = read_labels(selections["train"], config.store)
    assert labels.tolist() == [-1] * 3 + [0] * 10 + [1] * 5


def test_limit_draws_from_what_has_an_image_in_the_classes_shares(
    images: Path, tmp_path: Path
) -> None:
    for seed in range(5):
        found = read_set(tmp_path, train=images, limit=9, limit_seed=seed)
        assert found.train.num_available == 18
        assert len(found.train.labels) == 9
        assert set(found.train.labels) == {-1, 0, 1}
        assert found.train.unreadable == {}
        for number, label in zip(found.train.numbers, found.train.labels, strict=True):
            assert label == (0 if number < 10 else 1 if number < 15 else -1)


def test_limit_of_images_without_labels_is_of_all_of_them(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", {f"{number}.png": number for number in range(6)})
    found = read_set(tmp_path, train=folder, limit=4)
    assert found.train.labels == [-1] * 4
    assert found.train.num_available == 6


def test_train_images_that_the_limit_leaves_out_are_tested_on(images: Path, tmp_path: Path) -> None:
    found = read_set(tmp_path, train=images, limit="50_percent", test_from="train")
    both = found.train.numbers + found.test.numbers
    assert sorted(both) == list(range(18))
    assert found.train.numbers == sorted(found.train.numbers, key=both.index)
    with pytest.raises(UserError, match=r"real\.limit: 18 leaves out none of 18"):
        read_set(tmp_path, train=images, limit=18, test_from="train")


def test_limit_that_there_are_too_few_images_of_is_named(images: Path, tmp_path: Path) -> None:
    for limit in (1, 19):
        with pytest.raises(UserError, match=rf"real\.limit: {limit} of 18 train images of 3"):
            read_set(tmp_path, train=images, limit=limit)


def test_limit_draws_across_files_of_many_images(tmp_path: Path) -> None:
    for part in range(3):
        members: list[tuple[str, bytes | int]] = []
        for number in range(10 * part, 10 * part + 10):
            members += [(f"{number}.png", number), (f"{number}.cls", b"%d" % (number % 2))]
        write_tar(tmp_path / "data" / f"train-{part}.tar", members)
    found = read_set(tmp_path, path=tmp_path / "data", limit="5_per_class")
    assert np.bincount(found.train.labels).tolist() == [5, 5]
    assert found.train.numbers == sorted(found.train.numbers)
    assert [number % 2 for number in found.train.numbers] == found.train.labels


def test_rows_without_some_say_where_each_image_lies_in_its_shard(
    images: Path, tmp_path: Path
) -> None:
    config = real_config(tmp_path, train=images)
    selections, _ = select(config.real, make_request(config), config.store)
    folder = Folder.at(tmp_path / "rows")
    write_rows(folder, "train", rows_of(selections["train"], config.store), 5)
    lost = {0: [1], 2: [0, 4], 3: [0, 1, 2, 3]}
    kept = list(without(folder, "train", lost))
    assert [len(table) for table in kept] == [4, 5, 3, 0]
    rows = [row for table in kept for row in table.to_pylist()]
    before = [row for group in range(4) for row in read_group(folder, "train", group).to_pylist()]
    missing = {1, 10, 14, 15, 16, 17, 18}
    assert [row["source"] for row in rows] == [
        row["source"] for place, row in enumerate(before) if place not in missing
    ]
    assert [row["file"] for row in rows] == [0] * 4 + [1] * 5 + [2] * 3
    assert [row["position"] for row in rows] == [0, 1, 2, 3, 0, 1, 2, 3, 4, 0, 1, 2]
