"""What a sample is: fixed-size members of a tar, so that every sample of a shard has the same
stride.

Neighbours: `writer.py` writes shards of a schema, `manifest.py` stores it, `reader.py` computes
offsets from it. A shard is an ordinary WebDataset tar: sample *i* is the contiguous members
`{i:09d}.{column}.npy` and `{i:09d}.meta.json` (padded with spaces), in alphabetical order, tar
headers constant.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

SCHEMA_VERSION = 1
TAR_BLOCK_BYTES = 512
META_BYTES = 256


@dataclass(frozen=True)
class Column:
    """One array per sample; a byte-string column holds JSON text."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def member_name(self) -> str:
        """Name within the tar, after the sample's key."""
        return f"{self.name}.{'json' if self._is_json else 'npy'}"

    @property
    def _is_json(self) -> bool:
        return np.dtype(self.dtype).kind == "S"

    @property
    def header(self) -> bytes:
        """The constant `.npy` header (format 1.0, C order); JSON has none."""
        if self._is_json:
            return b""
        buffer = io.BytesIO()
        description = {
            "descr": np.dtype(self.dtype).str,
            "fortran_order": False,
            "shape": self.shape,
        }
        np.lib.format.write_array_header_1_0(buffer, description)
        return buffer.getvalue()

    @property
    def num_bytes(self) -> int:
        """Size of the whole member."""
        return len(self.header) + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class FeatureBlock:
    """Where one block's pooled features lie within the `features` column."""

    name: str
    num_channels: int
    offset: int


@dataclass(frozen=True)
class Schema:
    """Columns of a set of shards; `features` lays out the `features` column, empty for real
    shards.
    """

    columns: tuple[Column, ...]
    features: tuple[FeatureBlock, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if names != sorted(set(names)):
            raise ValueError(f"columns must be unique and sorted by name, got {names}")

    def column(self, name: str) -> Column:
        """The column called `name`."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"no column {name!r}; there are {[column.name for column in self.columns]}")

    @property
    def stride_bytes(self) -> int:
        """Bytes from one sample to the next within a tar."""
        return sum(_padded(column.num_bytes) for column in self.columns)

    def offset_bytes(self, name: str) -> int:
        """Bytes from the start of a sample to the array data of column `name`."""
        offset = 0
        for column in self.columns:
            if column.name == name:
                return offset + TAR_BLOCK_BYTES + len(column.header)
            offset += _padded(column.num_bytes)
        raise KeyError(name)


def image_column(resolution: int) -> Column:
    """uint8 [3, resolution, resolution], RGB."""
    return Column("image", "|u1", (3, resolution, resolution))


META_COLUMN = Column("meta", f"|S{META_BYTES}", ())


def encode_meta(rows: Iterable[Mapping[str, object]]) -> np.ndarray:
    """JSON objects as the `meta` column, [n] of `META_BYTES` bytes each.

    Raises:
        ValueError: if one is longer than that.
    """
    texts = [json.dumps(row, separators=(",", ":")).encode() for row in rows]
    if max(map(len, texts), default=0) > META_BYTES:
        raise ValueError(f"meta: longer than {META_BYTES} bytes")
    return np.array([text.ljust(META_BYTES) for text in texts], dtype=META_COLUMN.dtype)


def real_schema(resolution: int) -> Schema:
    """Real shards: image and class label (int64, -1: none), the label for evaluation only."""
    return Schema((image_column(resolution), Column("label", "<i8", ()), META_COLUMN))


def teacher_schema(resolution: int, blocks: Iterable[tuple[str, int]], w_dim: int) -> Schema:
    """Teacher shards: image, pooled features of `blocks` (name, channels) end to end and `w`, both
    float16.
    """
    layout: list[FeatureBlock] = []
    offset = 0
    for name, num_channels in blocks:
        layout.append(FeatureBlock(name, num_channels, offset))
        offset += num_channels
    columns = (
        Column("features", "<f2", (offset,)),
        image_column(resolution),
        META_COLUMN,
        Column("w", "<f2", (w_dim,)),
    )
    return Schema(columns, tuple(layout))


def _padded(member_bytes: int) -> int:
    return TAR_BLOCK_BYTES + -(-member_bytes // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
