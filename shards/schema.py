"""What a sample is: the members of a tar, and where each of them lies.

Neighbours: `writer.py` writes shards of a schema, `manifest.py` stores it, `reader.py` computes
offsets from it. A shard is an ordinary WebDataset tar: sample *i* is the contiguous members
`{i:09d}.{column}.npy` (`.png`, `.webp`, `.jpg` for an encoded image) and `{i:09d}.meta.json`
(padded with spaces), in alphabetical order, tar headers constant. Without an encoded column every
sample has the same size; with one, the manifest holds the samples' sizes.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

SCHEMA_VERSION = 2
TAR_BLOCK_BYTES = 512
META_BYTES = 256
MAX_SAMPLE_BLOCKS = 2**16 - 1
W = "w"
"""The mapped latent: a column of synthetic images, and a feature of every teacher."""

Codec = Literal["npy", "json", "png", "webp", "jpg"]


@dataclass(frozen=True)
class Column:
    """One array per sample. `npy`: the raw array; `json`: a padded byte string of JSON; otherwise
    an image format, `shape` being [3, height, width].
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    codec: Codec = "npy"
    quality: int | None = None
    """Of `webp` (100: lossless) and `jpg`, 1 to 100."""

    @property
    def member_name(self) -> str:
        """Name within the tar, after the sample's key."""
        return f"{self.name}.{self.codec}"

    @property
    def is_encoded(self) -> bool:
        """Whether its members differ in size."""
        return self.codec not in ("npy", "json")

    @cached_property
    def header(self) -> bytes:
        """The constant `.npy` header (format 1.0, C order); others have none."""
        if self.codec != "npy":
            return b""
        buffer = io.BytesIO()
        description = {
            "descr": np.dtype(self.dtype).str,
            "fortran_order": False,
            "shape": self.shape,
        }
        np.lib.format.write_array_header_1_0(buffer, description)
        return buffer.getvalue()

    @cached_property
    def num_bytes(self) -> int:
        """Size of the whole member, of an encoded one when decoded."""
        return len(self.header) + int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class FeatureBlock:
    """Where one block's pooled features lie within the `features` column."""

    name: str
    num_channels: int
    offset: int


@dataclass(frozen=True)
class Schema:
    """Columns of a set of shards; `features` lays out the `features` column, empty without one."""

    columns: tuple[Column, ...]
    features: tuple[FeatureBlock, ...] = ()

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not names or names != sorted(set(names)):
            raise ValueError(f"columns must be unique and sorted by name, got {names}")
        if sum(column.is_encoded for column in self.columns) > 1:
            raise ValueError("only one column can be encoded")

    def column(self, name: str) -> Column:
        """The column called `name`."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"no column {name!r}; there are {[column.name for column in self.columns]}")

    @cached_property
    def is_fixed(self) -> bool:
        """Whether every sample has the same size."""
        return not any(column.is_encoded for column in self.columns)

    @cached_property
    def stride_bytes(self) -> int:
        """Bytes from one sample to the next within a tar, without an encoded column's content."""
        return sum(
            TAR_BLOCK_BYTES if column.is_encoded else padded_bytes(column.num_bytes)
            for column in self.columns
        )

    def offset_bytes(self, name: str) -> int:
        """Bytes from the start of a sample to the array data of column `name`.

        After an encoded column it is counted from the end of the sample, and so negative.
        """
        offset, behind_encoded = 0, False
        for column in self.columns:
            if column.name == name:
                start = offset + TAR_BLOCK_BYTES + len(column.header)
                return start - self.stride_bytes if behind_encoded else start
            offset += TAR_BLOCK_BYTES if column.is_encoded else padded_bytes(column.num_bytes)
            behind_encoded |= column.is_encoded
        raise KeyError(name)

    def sample_offsets(self, num_samples: int, sample_blocks: bytes | None) -> np.ndarray:
        """Where each sample of a shard starts and the last one ends, [num_samples + 1] int64.

        Raises:
            ValueError: if `sample_blocks` is not of so many samples.
        """
        if sample_blocks is None:
            return np.arange(num_samples + 1, dtype=np.int64) * self.stride_bytes
        blocks = np.frombuffer(sample_blocks, dtype="<u2").astype(np.int64)
        if len(blocks) != num_samples:
            raise ValueError(f"sizes of {len(blocks)} samples instead of {num_samples}")
        return np.concatenate([[0], np.cumsum(blocks * TAR_BLOCK_BYTES)])


def image_column(resolution: int, codec: Codec = "npy", quality: int | None = None) -> Column:
    """uint8 [3, resolution, resolution], RGB."""
    quality = quality if codec in ("webp", "jpg") else None
    return Column("image", "|u1", (3, resolution, resolution), codec, quality)


META_COLUMN = Column("meta", f"|S{META_BYTES}", (), "json")


def encode_meta(rows: Iterable[Mapping[str, object]]) -> np.ndarray:
    """JSON objects as the `meta` column, [n] of `META_BYTES` bytes each.

    Raises:
        ValueError: if one is longer than that.
    """
    texts = [json.dumps(row, separators=(",", ":")).encode() for row in rows]
    if max(map(len, texts), default=0) > META_BYTES:
        raise ValueError(f"meta: longer than {META_BYTES} bytes")
    return np.array([text.ljust(META_BYTES) for text in texts], dtype=META_COLUMN.dtype)


def real_schema(resolution: int, codec: Codec = "npy", quality: int | None = None) -> Schema:
    """Real shards: image and class label (int64, -1: none), the label for evaluation only."""
    image = image_column(resolution, codec, quality)
    return Schema((image, Column("label", "<i8", ()), META_COLUMN))


def synthetic_schema(
    resolution: int, w_dim: int, codec: Codec = "npy", quality: int | None = None
) -> Schema:
    """The images of a pool: image, meta, and `w` in float16."""
    image = image_column(resolution, codec, quality)
    return Schema((image, META_COLUMN, Column(W, "<f2", (w_dim,))))


def feature_schema(blocks: Iterable[tuple[str, int]], dtype: str = "float16") -> Schema:
    """Pooled features of `blocks` (name, channels) end to end, in one column."""
    layout: list[FeatureBlock] = []
    offset = 0
    for name, num_channels in blocks:
        layout.append(FeatureBlock(name, num_channels, offset))
        offset += num_channels
    column = Column("features", np.dtype(dtype).newbyteorder("<").str, (offset,))
    return Schema((column,), tuple(layout))


def feature_set_name(names: Iterable[str], dtype: str) -> str:
    """Folder of the shards that hold the features `names`, addressed by what they hold."""
    text = json.dumps([dtype, *names])
    return f"features-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def padded_bytes(member_bytes: int) -> int:
    """Bytes that a member takes within a tar, header included."""
    return TAR_BLOCK_BYTES + -(-member_bytes // TAR_BLOCK_BYTES) * TAR_BLOCK_BYTES
