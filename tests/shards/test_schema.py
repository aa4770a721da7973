"""What a sample may be, and where its members lie."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from shards.manifest import shard_name
from shards.pool import IMAGES
from shards.schema import (
    META_BYTES,
    META_COLUMN,
    Column,
    Schema,
    encode_meta,
    image_column,
    real_schema,
)
from tests.support.tiny_shards import (
    FEATURE_SET,
    RESOLUTION,
    SCHEMAS,
    write_pool,
    write_real_shards,
)


@pytest.mark.parametrize("name", ["real", IMAGES, FEATURE_SET])
def test_schema_offsets_equal_what_tarfile_reports(tmp_path: Path, name: str) -> None:
    schema = real_schema(RESOLUTION) if name == "real" else SCHEMAS[name]
    write_real_shards(tmp_path / "real")
    write_pool(tmp_path, num_shards=1)
    with tarfile.open(tmp_path / name / shard_name(0)) as tar:
        members = tar.getmembers()
    for position, member in enumerate(members):
        index, column = divmod(position, len(schema.columns))
        spec = schema.columns[column]
        assert member.name == f"{index:09d}.{spec.member_name}"
        assert member.size == spec.num_bytes
        start = index * schema.stride_bytes + schema.offset_bytes(spec.name)
        assert member.offset_data + len(spec.header) == start


def test_schema_columns_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted"):
        Schema((META_COLUMN, image_column(8)))
    with pytest.raises(ValueError, match="unique"):
        Schema((image_column(8), image_column(8)))


def test_encode_meta_too_long_a_row_is_refused() -> None:
    assert encode_meta([{"a": "x" * (META_BYTES - len('{"a":""}'))}]).dtype.itemsize == META_BYTES
    with pytest.raises(ValueError, match=f"longer than {META_BYTES}"):
        encode_meta([{"a": "x" * META_BYTES}])


@pytest.mark.parametrize("shape", [(), (1,), (300,), (3, 32, 32), (512,)])
def test_column_size_is_that_of_a_saved_array(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "array.npy", np.zeros(shape, dtype=np.float16))
    assert Column("x", "<f2", shape).num_bytes == (tmp_path / "array.npy").stat().st_size
