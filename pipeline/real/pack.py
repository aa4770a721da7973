"""Rows of one shard -> that shard; knows no Ray. What cannot be read is left out of it, and noted
beside: `unreadable/SPLIT-NNNNNN.json`.

A shard is a function of (rows, recipe, index), whoever packs it. Neighbours: `rows.py` has the
rows, `sources/` their readers, `stage.py` calls this in workers or in its own process.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from PIL import Image

from pipeline.real.decode import UnreadableError, decode, to_array
from pipeline.real.rows import read_group
from pipeline.real.sources.source import Content, Images, Member, Row
from shards.codecs import encode_image
from shards.manifest import ShardInfo, shard_name
from shards.schema import META_BYTES, Schema, encode_meta
from shards.storage import Folder
from shards.writer import Arrays, writing_shard

UNREADABLE = "unreadable"
_BATCH = 32
_MAX_SOURCE = 160  # characters, so that `meta` has room for it


class Unreadable(NamedTuple):
    """An image that cannot be read: its row in the split, where it is, and why."""

    split: str
    row: int
    source: str
    reason: str


@dataclass(frozen=True)
class Recipe:
    """How images become samples."""

    schema: Schema
    side: int
    background: tuple[int, int, int]
    samples_per_shard: int


@dataclass(frozen=True)
class Packing:
    """A split to be packed: rows are in `folder`, shards come to `folder`/`split`."""

    folder: Folder
    split: str
    source: Images
    recipe: Recipe


@dataclass(frozen=True)
class PackedShard:
    """What became of the rows of one shard; None if none of them could be read."""

    split: str
    index: int
    shard: ShardInfo | None
    num_rows: int
    unreadable: tuple[Unreadable, ...]


class _NothingError(Exception):
    """There is nothing to write."""


def pack_shard(packing: Packing, index: int) -> PackedShard:
    """Pack the rows of shard `index`.

    Raises:
        OSError: if the source does not answer or the shard cannot be written.
        UserError: if a file with many images is not what it was.
    """
    recipe, split = packing.recipe, packing.split
    table = read_group(packing.folder, split, index)
    start = index * recipe.samples_per_shard
    lost: list[Unreadable] = []
    info = None
    try:
        with writing_shard(
            packing.folder / split, shard_name(index), recipe.schema, start
        ) as pending:
            num_samples = 0
            for batch in _batches(_read(packing, table, start, lost), recipe.schema, start):
                pending.writer.write(batch)
                num_samples += len(batch["label"])
            notes, name = packing.folder / UNREADABLE, f"{split}-{index:06d}.json"
            if lost:
                notes.write(name, json.dumps([list(one) for one in lost]).encode())
            else:
                notes.remove(name)  # of an earlier try
            if not num_samples:
                raise _NothingError
        info = pending.info
    except _NothingError:
        pass
    return PackedShard(split, index, info, len(table), tuple(lost))


def read_unreadable(folder: Folder, split: str) -> dict[int, list[Unreadable]]:
    """What the notes in `folder` say of a split, by shard."""
    notes = folder / UNREADABLE
    return {
        int(name.removesuffix(".json").rpartition("-")[2]): [
            Unreadable(*one) for one in json.loads(notes.read(name))
        ]
        for name in sorted(notes.list_files())
        if name.startswith(f"{split}-")
    }


class _Sample(NamedTuple):
    image: np.ndarray | bytes
    label: int
    source: str


def _read(
    packing: Packing, table: pa.Table, start: int, lost: list[Unreadable]
) -> Iterator[_Sample]:
    """Samples of the rows that can be read; the others come to `lost`."""
    columns = {name: table[name].to_pylist() for name in table.column_names}
    names = [os.fsdecode(source) for source in columns["source"]]
    problems = columns["problem"]
    files = packing.source.files
    whole = [row for row, problem in enumerate(problems) if problem is None]
    wanted = [
        Row(*(columns[field][row] for field in ("source", "file", "position", "size")))
        for row in whole
    ]
    reading = iter(packing.source.open().read(wanted))
    for row, problem in enumerate(problems):
        try:
            if problem is not None:
                raise UnreadableError(problem)
            image = _to_image(next(reading), packing.recipe)
        except UnreadableError as error:
            shown = names[row].encode("utf-8", "replace").decode()
            if columns["file"][row] >= 0 and len(files) > 1:  # several may have the same key
                holder = os.path.basename(files[columns["file"][row]].url)
                shown = shown if shown.startswith(holder) else f"{holder}:{shown}"
            lost.append(Unreadable(packing.split, start + row, shown, str(error)))
            continue
        yield _Sample(image, columns["label"][row], names[row])


def _to_image(content: Content | Exception, recipe: Recipe) -> np.ndarray | bytes:
    if isinstance(content, Exception):
        raise content
    if isinstance(content, Member):
        return content.value
    if isinstance(content, np.ndarray):
        pixels = to_array(Image.fromarray(content), recipe.side, recipe.background)
    else:
        pixels = decode(content, recipe.side, recipe.background)
    column = recipe.schema.column("image")
    return encode_image(pixels, column) if column.is_encoded else pixels


def _batches(samples: Iterator[_Sample], schema: Schema, start: int) -> Iterator[Arrays]:
    is_encoded = schema.column("image").is_encoded
    index = start
    while True:
        batch = list(islice(samples, _BATCH))
        if not batch:
            return
        images = np.empty(len(batch), object) if is_encoded else np.stack([s.image for s in batch])
        if is_encoded:
            images[:] = [sample.image for sample in batch]
        labels = np.array([sample.label for sample in batch], dtype=np.int64)
        meta = encode_meta(
            _describe(index + row, sample.label, sample.source) for row, sample in enumerate(batch)
        )
        yield {"image": images, "label": labels, "meta": meta}
        index += len(batch)


def _describe(index: int, label: int, source: str) -> dict[str, object]:
    """`meta` of a sample; a source too long for it loses its beginning."""
    if not source:
        return {"index": index, "label": label}
    shown = source[-_MAX_SOURCE:]
    fields: dict[str, object] = {"index": index, "label": label, "source": shown}
    while len(json.dumps(fields, separators=(",", ":"))) > META_BYTES:
        shown = shown[8:]
        fields["source"] = shown
    return fields
