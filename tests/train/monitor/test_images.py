"""Which images a training is looked at by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.train.monitor.images import LabelledPair, draw_labelled, read_any, read_labelled
from pipeline.train.monitor.shards import MonitoredReaders
from shards.manifest import Manifest, shard_name, write_manifest
from shards.reader import ShardReader
from shards.schema import encode_meta, real_schema
from shards.storage import Folder
from shards.writer import write_shard
from tests.support.tiny_shards import RESOLUTION, open_reader


def write_labelled(folder: Path, labels: list[int]) -> ShardReader:
    """One shard; every pixel of image n is n."""
    count, place, schema = len(labels), Folder.at(folder), real_schema(RESOLUTION)
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None]
    batch = {
        "image": np.broadcast_to(pixels, (count, 3, RESOLUTION, RESOLUTION)).copy(),
        "label": np.array(labels, np.int64),
        "meta": encode_meta({"index": n, "label": label} for n, label in enumerate(labels)),
    }
    shard = write_shard(place, shard_name(0), schema, 0, [batch])
    write_manifest(place, Manifest(schema, (shard,)))
    return open_reader(folder)


def numbers(pixels: torch.Tensor) -> list[int]:
    """Which images of `write_labelled` these are."""
    return [int(image.flatten()[0]) for image in pixels]


def read(
    folder: Path, train: list[int], test: list[int] | None, samples: int = 100
) -> LabelledPair | None:
    reader = write_labelled(folder / "train", train)
    other = None if test is None else write_labelled(folder / "test", test)
    return read_labelled(MonitoredReaders(reader, other, True), samples, RESOLUTION)


TRAIN = [0, 1, -1, 2] * 5


def test_labelled_pair_is_train_images_and_test_images_that_have_labels(tmp_path: Path) -> None:
    pair = read(tmp_path, TRAIN, [2, -1, 1])
    assert pair is not None
    found = dict(zip(numbers(pair.keys.pixels), pair.keys.labels.tolist(), strict=True))
    assert found == {n: label for n, label in enumerate(TRAIN) if label >= 0}
    assert sorted(numbers(pair.queries.pixels)) == [0, 2]
    assert sorted(pair.queries.labels.tolist()) == [1, 2]


@pytest.mark.parametrize("test", [None, [-1, -1]])
def test_labelled_pair_without_labelled_test_images_is_train_images_in_two(
    tmp_path: Path, test: list[int] | None
) -> None:
    pair = read(tmp_path, TRAIN, test, samples=7)
    assert pair is not None
    keys, queries = (numbers(side.pixels) for side in (pair.keys, pair.queries))
    assert len(keys) == len(queries) == 7
    assert len({*keys, *queries}) == 14
    for side in (pair.keys, pair.queries):
        assert side.labels.tolist() == [TRAIN[n] for n in numbers(side.pixels)]


@pytest.mark.parametrize(
    ("train", "test"),
    [([-1, -1, -1], [-1]), ([1, 1, 1], [1, 1]), ([0, 1], [2, 3]), ([0, 1], None), ([2], None)],
    ids=["no labels", "one class", "other classes", "one of each", "a single image"],
)
def test_labelled_pair_of_labels_that_do_not_suffice_is_none(
    tmp_path: Path, train: list[int], test: list[int] | None
) -> None:
    assert read(tmp_path, train, test) is None


def test_labelled_pair_of_images_without_classes_is_none(tmp_path: Path) -> None:
    reader = write_labelled(tmp_path, TRAIN)
    assert read_labelled(MonitoredReaders(reader, reader, False), 5, RESOLUTION) is None


def test_labelled_pair_is_brought_to_the_size_of_the_views(tmp_path: Path) -> None:
    reader = write_labelled(tmp_path, TRAIN)
    pair = read_labelled(MonitoredReaders(reader, reader, True), 4, 2 * RESOLUTION)
    assert pair is not None
    assert pair.keys.pixels.shape == (4, 3, 2 * RESOLUTION, 2 * RESOLUTION)
    assert pair.keys.pixels.dtype == torch.uint8


def test_draw_labelled_is_the_same_each_time_and_other_images_of_another_split(
    tmp_path: Path,
) -> None:
    reader = write_labelled(tmp_path, [0, 1] * 50)
    first, again, other = (draw_labelled(reader, 20, s) for s in ("train", "train", "test"))
    assert first.rows.tolist() == again.rows.tolist()
    assert len(set(first.rows.tolist())) == 20
    assert first.rows.tolist() != other.rows.tolist()


def test_draw_labelled_of_few_labels_finds_them(tmp_path: Path) -> None:
    labels = [-1] * 90
    labels[13], labels[77] = 4, 5
    found = draw_labelled(write_labelled(tmp_path, labels), 6, "train")
    assert dict(zip(found.rows.tolist(), found.labels.tolist(), strict=True)) == {13: 4, 77: 5}


def test_draw_labelled_asks_sixteen_times_as_many_images_at_most(tmp_path: Path) -> None:
    labels = [-1] * 100
    found = draw_labelled(write_labelled(tmp_path / "none", labels), 2, "train")
    assert len(found.rows) == 0
    counted = [
        len(draw_labelled(write_labelled(tmp_path / str(n), [-1] * n + [1] * 2), 2, "train").rows)
        for n in (30, 250)
    ]
    assert counted[0] == 2  # all 32 are candidates
    assert counted[1] <= 2


def test_read_any_takes_as_many_as_there_are(tmp_path: Path) -> None:
    reader = write_labelled(tmp_path, [-1] * 9)
    assert sorted(numbers(read_any(reader, 100).pixels)) == list(range(9))
    few = read_any(reader, 4)
    assert len(set(numbers(few.pixels))) == few.shared.num_rows == 4
