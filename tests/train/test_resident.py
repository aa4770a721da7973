"""Columns on the device: the same batches as streamed ones, on a CPU that is taken for a GPU."""

from __future__ import annotations

import io
from contextlib import closing
from pathlib import Path

import pytest
import torch
from rich.console import Console

from pipeline.config.train import TrainConfig
from pipeline.samples.order import Order
from pipeline.samples.stream import StepRows
from pipeline.terminal import progress
from pipeline.train import resident
from pipeline.train.columns import Domain, StreamedColumns, pool_domain, real_domain
from pipeline.train.data import TrainingShards
from pipeline.train.resident import ResidentColumns, fits, free_memory, num_bytes
from shards.pool import IMAGES, PoolReader
from shards.reader import ShardReader
from shards.schema import Codec
from shards.storage import Folder
from tests.support.shard_sets import (
    REMEDY,
    RESOLUTION,
    W_DIM,
    noisy_images,
    smooth_images,
    write_features,
    write_images,
)
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import METHODS, changed, config_of, open_stream, parts_of, shards_of

CPU = torch.device("cpu")
SIZES = [5, 9, 4, 5]
NUM_USED = 20  # the last shard in part
BATCH = 6


@pytest.fixture
def roomy_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device with memory of its own, where everything fits."""
    monkeypatch.setattr(resident, "free_memory", lambda device: 1 << 40)


def write_pool(
    folder: Path, codec: Codec = "npy", quality: int | None = None, num_samples: int | None = None
) -> PoolReader:
    """Images with `w`, and three features in two sets."""
    place = Folder.at(folder)
    images = noisy_images(sum(SIZES)) if codec != "jpg" else smooth_images(sum(SIZES))
    write_images(place / IMAGES, images, SIZES, codec, quality)
    sets = [write_features(place, names, SIZES) for names in ({"a": 3, "b": 5}, {"c": 2})]
    return PoolReader(place, sets, remedy=REMEDY, num_samples=num_samples)


def take_step(columns: StreamedColumns | ResidentColumns, step: int) -> list[torch.Tensor]:
    return columns.take(columns.load(step))


def step_rows(domain: Domain, rank: int = 0, num_workers: int = 1) -> StepRows:
    order = Order(domain.readers[0].shard_sizes, 1, "synthetic", 8)
    return StepRows(order, BATCH, rank, num_workers)


@pytest.mark.parametrize("features", [(), ("a", "b"), ("c", "w", "a"), ("b",)], ids="-".join)
@pytest.mark.parametrize(
    ("codec", "quality"), [("npy", None), ("png", None), ("webp", 100), ("jpg", 90)]
)
def test_resident_columns_are_the_streamed_ones(
    tmp_path: Path, codec: Codec, quality: int | None, features: tuple[str, ...]
) -> None:
    domain = pool_domain(write_pool(tmp_path, codec, quality, NUM_USED), features)
    for rank, num_workers in ((0, 1), (0, 2), (1, 2)):
        rows = step_rows(domain, rank, num_workers)
        streamed = StreamedColumns(domain, rows)
        loaded = ResidentColumns(domain, rows, CPU, lambda _: None)
        for step in range(8):
            expected, found = take_step(streamed, step), take_step(loaded, step)
            assert len(found) == len(expected) == 1 + bool(features)
            for one, other in zip(found, expected, strict=True):
                assert (one.dtype, one.stride()) == (other.dtype, other.stride())
                assert torch.equal(one, other)


def test_resident_columns_upload_nothing_but_indices(tmp_path: Path) -> None:
    domain = pool_domain(write_pool(tmp_path), ("a",))
    columns = ResidentColumns(domain, step_rows(domain), CPU, lambda _: None)
    (uploaded,) = columns.load(2)
    assert (uploaded.dtype, uploaded.shape) == (torch.int64, (BATCH,))


def test_resident_columns_are_no_longer_read_from_the_shards(tmp_path: Path) -> None:
    domain = pool_domain(write_pool(tmp_path), ("a",))
    rows = step_rows(domain)
    expected = take_step(StreamedColumns(domain, rows), 1)
    columns = ResidentColumns(domain, rows, CPU, lambda _: None)
    for reader in domain.readers:
        reader.gather = None  # type: ignore[method-assign, assignment]
    for one, other in zip(take_step(columns, 1), expected, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("slice_bytes", [1, 4 * 3 * RESOLUTION**2, 1 << 30])
def test_resident_columns_are_loaded_in_slices_of_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slice_bytes: int
) -> None:
    monkeypatch.setattr(resident, "LOADED_BYTES", slice_bytes)
    domain = pool_domain(write_pool(tmp_path, num_samples=NUM_USED), ("a",))
    counts = list[int]()
    columns = ResidentColumns(domain, step_rows(domain), CPU, counts.append)
    assert sum(counts) == NUM_USED
    assert max(counts) <= max(1, slice_bytes // (3 * RESOLUTION**2))
    streamed = StreamedColumns(domain, step_rows(domain))
    assert torch.equal(take_step(columns, 3)[0], take_step(streamed, 3)[0])


def test_num_bytes_counts_decoded_images_and_the_chosen_features(tmp_path: Path) -> None:
    pool = write_pool(tmp_path, "png", num_samples=NUM_USED)
    image_bytes = 3 * RESOLUTION**2
    assert num_bytes(real_domain(pool.images)) == NUM_USED * image_bytes
    expected = NUM_USED * (image_bytes + 2 * (W_DIM + 3))
    assert num_bytes(pool_domain(pool, ("w", "a"))) == expected


def test_fits_takes_up_to_half_of_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = write_pool(tmp_path)
    domains = [pool_domain(pool, ("a",)), real_domain(pool.images)]
    needed = sum(map(num_bytes, domains))
    for free, is_enough in ((2 * needed, True), (2 * needed - 1, False)):
        monkeypatch.setattr(resident, "free_memory", lambda device, free=free: free)
        assert fits(domains, CPU) == is_enough


def test_free_memory_of_a_cpu_is_none_of_its_own() -> None:
    assert free_memory(CPU) == 0


def batches(
    shards: TrainingShards, config: TrainConfig, rank: int, num_workers: int
) -> list[dict[str, torch.Tensor]]:
    with closing(open_stream(shards, config, rank, num_workers)) as stream:
        return [parts_of(stream.batch(step)) for step in range(4)]


@pytest.mark.usefixtures("roomy_device")
@pytest.mark.parametrize("name", METHODS)
def test_batches_of_resident_shards_are_the_streamed_ones_bit_for_bit(
    name: str, training_shards: TrainingShards
) -> None:
    config = config_of(name)
    shards = shards_of(config, training_shards)
    streaming = config.model_copy(update={"resident": "off"})
    for rank, num_workers in ((0, 1), (0, 2), (1, 2)):
        found = batches(shards, config, rank, num_workers)
        for one, other in zip(found, batches(shards, streaming, rank, num_workers), strict=True):
            assert one.keys() == other.keys()
            for part in one:
                assert torch.equal(one[part], other[part]), part


@pytest.mark.usefixtures("roomy_device")
def test_batches_of_resident_encoded_shards_are_the_streamed_ones(tmp_path: Path) -> None:
    pool = write_pool(tmp_path / "pool", "webp", 100, NUM_USED)
    write_images(Folder.at(tmp_path / "real"), noisy_images(30, 1), [16, 14], "png")
    real = ShardReader(tmp_path / "real", remedy=REMEDY)
    shards = TrainingShards(real, pool, RESOLUTION, ("c", "a"))
    streaming = changed(TRAIN_CONFIG).model_copy(update={"resident": "off"})
    found, expected = (batches(shards, config, 0, 1) for config in (TRAIN_CONFIG, streaming))
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(one[part], other[part]) for part in other)


@pytest.mark.usefixtures("roomy_device")
def test_batches_of_resident_shards_of_two_sizes_are_the_streamed_ones(
    tmp_path: Path, training_shards: TrainingShards
) -> None:
    shards = TrainingShards(training_shards.real, write_pool(tmp_path), 24, ("c", "a"))
    streaming = TRAIN_CONFIG.model_copy(update={"resident": "off"})
    found, expected = (batches(shards, config, 0, 1) for config in (TRAIN_CONFIG, streaming))
    for one, other in zip(found, expected, strict=True):
        assert {part.shape[2:] for part in one.values() if part.dim() == 4} == {(24, 24)}
        assert all(torch.equal(one[part], other[part]) for part in other)


@pytest.mark.usefixtures("roomy_device")
def test_loading_shows_its_progress_within_that_of_the_training_on_the_first_worker(
    training_shards: TrainingShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {}
    for rank in (0, 1):
        output = io.StringIO()
        console = Console(file=output, width=80, force_terminal=True)
        monkeypatch.setattr(progress, "console", console)
        with progress.progress_bar("samples") as bar:
            bar.add_task("train", total=10, note="")
            open_stream(training_shards, TRAIN_CONFIG, rank, 2).close()
        shown[rank] = output.getvalue()
    assert "80/80" in shown[0]
    assert "load" not in shown[1]
