"""Columns of a domain: which there are, and the rows of a step."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.samples.order import Order
from pipeline.samples.stream import StepRows
from pipeline.train.columns import StreamedColumns, pool_domain, real_domain
from pipeline.train.data import TrainingShards
from shards.pool import PoolReader
from shards.reader import ShardReader
from tests.support.tiny_shards import FEATURES


@pytest.fixture
def pool(training_shards: TrainingShards) -> PoolReader:
    assert isinstance(training_shards.synthetic, PoolReader)
    return training_shards.synthetic


def test_real_domain_has_the_images_only(real_reader: ShardReader) -> None:
    domain = real_domain(real_reader)
    rows = np.array([7, 0, 39])
    (images,) = (gather(rows) for gather in domain.columns)
    np.testing.assert_array_equal(images, real_reader.gather("image", rows))
    assert domain.num_samples == 40


@pytest.mark.parametrize("features", [(), FEATURES, ("w", FEATURES[1])])
def test_pool_domain_has_the_images_and_the_chosen_features(
    pool: PoolReader, features: tuple[str, ...]
) -> None:
    rows = np.array([7, 0, 39])
    images, *pooled = (gather(rows) for gather in pool_domain(pool, features).columns)
    np.testing.assert_array_equal(images, pool.images.gather("image", rows))
    assert len(pooled) == bool(features)
    for values in pooled:
        np.testing.assert_array_equal(values, pool.gather_features(features, rows))


def test_streamed_columns_are_the_rows_of_the_step(pool: PoolReader) -> None:
    domain = pool_domain(pool, FEATURES)
    rows = StepRows(Order(pool.images.shard_sizes, 0, "synthetic"), 12, 1, 3)
    columns = StreamedColumns(domain, rows)
    for step in (0, 5):
        expected = [torch.from_numpy(gather(rows.rows(step))) for gather in domain.columns]
        found = columns.take(columns.load(step))
        assert [len(column) for column in found] == [4, 4]
        assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
