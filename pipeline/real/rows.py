"""Which images a split has, in which order and with which labels: `rows-SPLIT.parquet` in the
folder of the shards, a row group for each shard, so that a worker reads just its own.

Neighbours: `listing.py` has all entries and `labels.py` their classes; `pack.py` reads a group.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.config.real import RealConfig
from pipeline.config.subset import count_labels
from pipeline.real.listing import LISTINGS, Listing, read_tables
from pipeline.samples.seeding import numpy_generator
from pipeline.samples.subset import class_sizes, draw_of_each, share_out
from shards.errors import UserError
from shards.storage import Folder

ROW_SCHEMA = pa.schema(
    [
        ("source", pa.binary()),
        ("file", pa.int32()),
        ("position", pa.int64()),
        ("size", pa.int64()),
        ("label", pa.int64()),
        ("problem", pa.string()),
    ]
)


@dataclass(frozen=True)
class Selection:
    """Images of a split: those of a listing that have a class that is wanted, or of them `chosen`
    rows.
    """

    listing: Listing
    numbers: Mapping[str, int]
    """Of the labels whose images are taken."""
    with_unlabelled: bool
    chosen: np.ndarray | None = None
    """Sorted; None for all of them."""
    num_available: int | None = None
    """Images that `chosen` was drawn from, if it was."""


def read_labels(selection: Selection, store: Folder) -> np.ndarray:
    """Labels of all its images, [N] int64, -1 for none; what has no image left out."""
    parts = [
        table.filter(pc.is_null(table["problem"]))["label"].to_numpy()
        for table in _tables(selection, store)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def draw(config: RealConfig, selection: Selection, labels: np.ndarray) -> np.ndarray:
    """Rows of the train images within `config.limit`, sorted.

    Raises:
        UserError: for a limit that there are too few images of.
    """
    limit = config.limit
    sizes = class_sizes(labels)
    if isinstance(limit, str):
        counts = {label: count_labels(limit, size) for label, size in sizes.items()}
    elif limit is not None and len(sizes) <= limit <= len(labels):
        counts = share_out(limit, sizes)
    else:
        raise UserError(
            f"real.limit: {limit:,} of {len(labels):,} train images of {len(sizes)} classes; "
            "take at least one of each, and no more than there are"
        )
    return draw_of_each(labels, counts, numpy_generator(config.limit_seed, "real/limit"))


def write_rows(folder: Folder, split: str, tables: Iterable[pa.Table], rows_per_group: int) -> None:
    """Leave rows in `folder`, in groups of so many."""
    with (
        folder.writing(_file(split)) as path,
        pq.ParquetWriter(path, ROW_SCHEMA, compression="zstd") as writer,
    ):
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(table)
            while sum(map(len, waiting)) >= rows_per_group:
                whole = pa.concat_tables(waiting)
                writer.write_table(whole.slice(0, rows_per_group), rows_per_group)
                waiting = [whole.slice(rows_per_group)]
        rest = pa.concat_tables(waiting) if waiting else ROW_SCHEMA.empty_table()
        if len(rest):
            writer.write_table(rest, rows_per_group)


def rows_of(selection: Selection, store: Folder) -> Iterator[pa.Table]:
    """Its rows, some at a time."""
    if selection.chosen is None:
        yield from _tables(selection, store)
        return
    start = 0
    for table in _tables(selection, store):
        whole = table.filter(pc.is_null(table["problem"]))
        end = start + len(whole)
        first, last = np.searchsorted(selection.chosen, [start, end])
        yield whole.take(pa.array(selection.chosen[first:last] - start))
        start = end


def read_group(folder: Folder, split: str, group: int) -> pa.Table:
    """Rows of one shard."""
    with folder.reading(_file(split)) as file:
        parquet = pq.ParquetFile(file, pre_buffer=False)
        return parquet.read_row_group(group, use_threads=False)


def count_rows(folder: Folder, split: str) -> int | None:
    """Rows that are there, None without any file of them."""
    try:
        with folder.reading(_file(split)) as file:
            return int(pq.ParquetFile(file, pre_buffer=False).metadata.num_rows)
    except FileNotFoundError:
        return None


def read_numbers(folder: Folder, split: str) -> list[int]:
    """Every different label of the rows that are there, -1 for none."""
    with folder.reading(_file(split)) as file:
        labels = pq.ParquetFile(file, pre_buffer=False).read(["label"], use_threads=False)
    numbers: list[int] = labels["label"].unique().to_pylist()
    return numbers


def without(folder: Folder, split: str, lost: Mapping[int, Sequence[int]]) -> Iterator[pa.Table]:
    """Rows of `folder` less those that are `lost` of each group, as rows of its shards: `file` and
    `position` are those of the shard that has the image.
    """
    num_rows = count_rows(folder, split) or 0
    group, start = 0, 0
    while start < num_rows:
        table = read_group(folder, split, group)
        keep = np.setdiff1d(np.arange(len(table)), lost.get(group, ()))
        kept = table.take(pa.array(keep))
        places = {
            "file": pa.array(np.full(len(keep), group), pa.int32()),
            "position": pa.array(np.arange(len(keep)), pa.int64()),
        }
        for name, column in places.items():
            kept = kept.set_column(ROW_SCHEMA.get_field_index(name), name, column)
        yield kept
        start += len(table)
        group += 1


def _tables(selection: Selection, store: Folder) -> Iterator[pa.Table]:
    """Entries of the classes that are wanted, numbered, in columns of `ROW_SCHEMA`."""
    known = pa.array(list(selection.numbers), pa.string())
    numbers = pa.array(list(selection.numbers.values()), pa.int64())
    for table in read_tables(store / LISTINGS, selection.listing):
        places = pc.index_in(table["label"], value_set=known)
        has_none = pc.is_null(table["label"])
        if not selection.with_unlabelled:  # but what has neither label nor image is not lost
            has_none = pc.and_(has_none, pc.is_valid(table["problem"]))
        is_taken = pc.or_(pc.is_valid(places), has_none)
        labels = pc.fill_null(pc.take(numbers, places), -1)
        rows = table.append_column("number", labels).filter(is_taken)
        columns = [rows["number" if name == "label" else name] for name in ROW_SCHEMA.names]
        yield pa.Table.from_arrays(columns, schema=ROW_SCHEMA)


def _file(split: str) -> str:
    return f"rows-{split}.parquet"
