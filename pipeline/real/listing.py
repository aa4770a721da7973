"""What a source holds, found out once: a Parquet file of entries in the store, and what they were
found in, by which a change is noticed.

A listing is current while the folders that it is from have the times they had, nothing having been
added to them, removed or renamed; up to `MAX_CHECKED` files each of them has its size and time,
too. Files that hold many images have theirs always. Of a remote folder nothing is looked at again:
delete its listing to have it listed anew. Neighbours: `sources/` lists, `rows.py` reads.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain, islice

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from pipeline.real.sources.folder import FilesSource, FolderSource
from pipeline.real.sources.location import is_remote
from pipeline.real.sources.source import ENTRY_SCHEMA, Entry, Findings, Source, entries_table
from shards.errors import UserError
from shards.storage import Folder

LISTINGS = "listings"
MAX_CHECKED = 100_000
_CHUNK = 10_000
_VERSION = 1
MAX_CLASSES = 100_000


@dataclass(frozen=True)
class Listing:
    """Entries of a source, `NAME.parquet` in the store's `listings/`; this is `NAME.json`."""

    name: str
    num_entries: int
    digest: str
    """SHA-256 of all of them."""
    labels: tuple[str, ...]
    """Every different one, sorted."""
    has_numbers: bool
    """Whether labels that look like numbers are."""
    names: tuple[str, ...] | None
    """Of classes by number, if the source says so."""
    num_unlabelled: int
    left_out: dict[str, int]
    folders: tuple[tuple[str, int], ...]
    """Folders and the times of their last change, in ns."""
    notes: tuple[str, ...] = ()
    """Lines for users."""
    version: int = _VERSION


def find_listing(source: Source, store: Folder) -> Listing | None:
    """The listing of `source`, None if there is none that is current."""
    folder, name = store / LISTINGS, _name(source)
    try:
        listing: Listing = TypeAdapter(Listing).validate_json(folder.read(f"{name}.json"))
    except (FileNotFoundError, ValidationError):
        return None
    if listing.version != _VERSION or folder.size(f"{name}.parquet") is None:
        return None
    try:
        if any(os.stat(path).st_mtime_ns != time for path, time in listing.folders):
            return None
        if not _has_same_files(source, listing, folder):
            return None
    except OSError:
        return None
    return listing


def _has_same_files(source: Source, listing: Listing, folder: Folder) -> bool:
    """Whether local image files, if they are not too many, are as they were."""
    if not isinstance(source, FolderSource | FilesSource):
        return True
    if listing.num_entries > MAX_CHECKED:
        return True
    for entry in read_entries(folder, listing):
        path = source.locate(entry.source)
        if is_remote(path):
            return True
        if entry.problem is not None:  # a link that led nowhere
            if os.path.exists(path):
                return False
            continue
        found = os.stat(path)
        if (found.st_size, found.st_mtime_ns) != (entry.size, entry.stamp):
            return False
    return True


Parts = Iterable[tuple[Iterable[pa.Table], Findings]]
"""Entries of each part of a source, in the order of parts, and what else was found; the findings
are whole when the entries have been iterated."""


def num_parts(source: Source) -> int:
    """Parts of a source that are listed each by itself."""
    return len(source.files) or 1


def list_here(source: Source) -> Parts:
    """Parts listed by this process."""
    for part in range(num_parts(source)):
        findings = Findings()
        yield tables_of(source.list_part(part, findings)), findings


def tables_of(entries: Iterable[Entry]) -> Iterator[pa.Table]:
    """Entries in columns, some at a time."""
    waiting = iter(entries)
    return map(entries_table, iter(lambda: list(islice(waiting, _CHUNK)), []))


def take_listing(
    source: Source, store: Folder, parts: Parts, watch: Callable[[int], None] = lambda count: None
) -> Listing:
    """List a source and leave the listing in the store, in memory some entries at a time.

    Args:
        source: what is listed.
        store: where listings are.
        parts: of the source.
        watch: hears how many entries there are so far.

    Raises:
        UserError: if the source cannot be listed, or has as many classes as images.
    """
    name = _name(source)
    left_out: dict[str, int] = {}
    folders: list[tuple[str, int]] = []
    notes: list[str] = []
    labels: set[str] = set()
    digest = hashlib.sha256()
    num_entries = num_unlabelled = 0
    has_numbers = False
    with (
        (store / LISTINGS).writing(f"{name}.parquet") as path,
        pq.ParquetWriter(path, ENTRY_SCHEMA) as writer,
    ):
        for tables, findings in parts:
            for table in tables:
                writer.write_table(table)
                num_entries += len(table)
                num_unlabelled += table["label"].null_count
                labels.update(table["label"].unique().drop_null().to_pylist())
                for values in zip(*(column.to_pylist() for column in table.columns), strict=True):
                    digest.update(repr(values).encode())
                if len(labels) > MAX_CLASSES:
                    raise UserError(
                        f"real.label_field: over {MAX_CLASSES:,} different labels, which cannot "
                        "be classes; name another field"
                    )
                watch(num_entries)
            for kind, count in findings.left_out.items():
                left_out[kind] = left_out.get(kind, 0) + count
            folders += findings.folders
            notes += findings.notes
            has_numbers |= findings.has_numbers
    listing = Listing(
        name,
        num_entries,
        digest.hexdigest(),
        tuple(sorted(labels)),
        has_numbers,
        source.names,
        num_unlabelled,
        left_out,
        tuple(folders),
        tuple(dict.fromkeys(notes)),
    )
    content = json.dumps(asdict(listing)).encode()
    (store / LISTINGS).write(f"{name}.json", content)
    return listing


def read_tables(folder: Folder, listing: Listing) -> Iterator[pa.Table]:
    """Entries of a listing in `folder`, some at a time."""
    with folder.reading(f"{listing.name}.parquet") as file:
        parquet = pq.ParquetFile(file, pre_buffer=False)
        for group in range(parquet.num_row_groups):
            yield parquet.read_row_group(group, use_threads=False)


def read_entries(folder: Folder, listing: Listing) -> Iterator[Entry]:
    """The same one by one."""
    rows = (
        zip(*(column.to_pylist() for column in table.columns), strict=True)
        for table in read_tables(folder, listing)
    )
    return (Entry(*row) for row in chain.from_iterable(rows))


def _name(source: Source) -> str:
    text = json.dumps(source.identity(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
