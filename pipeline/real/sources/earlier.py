"""Shards of the same recipe as a source: what was decoded once is copied.

Neighbours: `real/stage.py` packs from here when images that cannot be read are left out, by which
the numbers of those behind them change.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.real.sources.source import Content, File, Member, Reader, Row, by_file
from shards.manifest import shard_name
from shards.schema import Column
from shards.storage import Folder


@dataclass(frozen=True)
class EarlierShards:
    """Shards of the same recipe as a source: images are copied, not decoded; `Row.file` is the
    shard, `Row.position` the sample in it.
    """

    folder: Folder
    column: Column
    files: tuple[File, ...] = ()

    def open(self) -> Reader:
        """Of one shard after the other."""
        return _MemberReader(self.folder, self.column)


class _MemberReader:
    def __init__(self, folder: Folder, column: Column) -> None:
        self._folder = folder
        self._column = column

    def read(self, rows: Sequence[Row]) -> Iterator[Content | Exception]:
        for file, wanted in by_file(rows):
            yield from self._read_shard(file, wanted)

    def _read_shard(self, index: int, wanted: Sequence[int]) -> Iterator[Member]:
        waiting = iter(wanted)
        position = next(waiting, None)
        ending = f".{self._column.member_name}"
        with (
            self._folder.reading(shard_name(index)) as file,
            tarfile.open(fileobj=file, mode="r|") as tar,
        ):
            number = 0
            for member in tar:
                if not member.name.endswith(ending):
                    continue
                if number == position:
                    content = tar.extractfile(member)
                    assert content is not None
                    yield Member(self._value(content.read()))
                    position = next(waiting, None)
                    if position is None:
                        return
                number += 1

    def _value(self, content: bytes) -> bytes | np.ndarray:
        if self._column.is_encoded:
            return content
        pixels: np.ndarray = np.load(io.BytesIO(content), allow_pickle=False)
        return pixels
