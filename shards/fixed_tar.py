"""Samples of one size as the bytes of a tar, many at a time.

The bytes are those that `webdataset.TarWriter` writes, which makes them member by member; here
headers are copies of one that `tarfile` made, with the index and the checksum filled in.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping

import numpy as np

from shards.schema import TAR_BLOCK_BYTES, Column, Schema

MODE = 0o444
MAX_INDEX = 10**9 - 1
_KEY_DIGITS = 9
_CHECKSUM = slice(148, 154)
_CHUNK_BYTES = 16 << 20


def encode_samples(
    schema: Schema, start_index: int, batch: Mapping[str, np.ndarray]
) -> Iterator[np.ndarray]:
    """Bytes of the samples `start_index` …, some at a time, [n, stride_bytes] uint8 each, of a
    `batch` of arrays [N, *column.shape] of the columns' dtypes, all of a fixed size.

    Raises:
        ValueError: for an index beyond `MAX_INDEX`.
    """
    num_samples = len(batch[schema.columns[0].name])
    if start_index + num_samples - 1 > MAX_INDEX:
        raise ValueError(f"sample indices end at {MAX_INDEX}")
    step = max(1, _CHUNK_BYTES // schema.stride_bytes)
    for first in range(0, num_samples, step):
        last = min(first + step, num_samples)
        samples = np.zeros((last - first, schema.stride_bytes), dtype=np.uint8)
        indices = np.arange(start_index + first, start_index + last)
        for column in schema.columns:
            content_at = schema.offset_bytes(column.name)
            header_at = content_at - len(column.header) - TAR_BLOCK_BYTES
            samples[:, header_at : header_at + TAR_BLOCK_BYTES] = _headers(column, indices)
            samples[:, header_at + TAR_BLOCK_BYTES : content_at] = np.frombuffer(
                column.header, dtype=np.uint8
            )
            rows = np.ascontiguousarray(batch[column.name][first:last])
            content = rows.reshape(last - first, -1).view(np.uint8)
            samples[:, content_at : content_at + content.shape[1]] = content
        yield samples


def end_of_tar(num_bytes: int) -> bytes:
    """What follows `num_bytes` of members: two empty blocks, then zeros up to a whole record."""
    return bytes(2 * TAR_BLOCK_BYTES + -(num_bytes + 2 * TAR_BLOCK_BYTES) % tarfile.RECORDSIZE)


def _headers(column: Column, indices: np.ndarray) -> np.ndarray:
    """Headers of a column's members, [n, 512] uint8."""
    member = tarfile.TarInfo(f"{0:0{_KEY_DIGITS}d}.{column.member_name}")
    member.size, member.mode = column.num_bytes, MODE
    template = np.frombuffer(member.tobuf(tarfile.USTAR_FORMAT), dtype=np.uint8)
    headers = np.tile(template, (len(indices), 1))
    digits = indices[:, None] // 10 ** np.arange(_KEY_DIGITS - 1, -1, -1) % 10
    headers[:, :_KEY_DIGITS] += digits.astype(np.uint8)
    checksums = int(template[_CHECKSUM].tobytes(), 8) + digits.sum(1)
    octal = checksums[:, None] // 8 ** np.arange(5, -1, -1) % 8
    headers[:, _CHECKSUM] = octal + ord("0")
    return headers
