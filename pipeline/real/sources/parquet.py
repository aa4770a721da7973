"""Parquet files with a column of images, as Hugging Face's `datasets` writes them.

An image is a struct of `bytes` and `path`, or plain bytes; names of classes are in the schema's
metadata. Rows are read in small batches, so that a file may be of any size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.real.decode import UnreadableError
from pipeline.real.sources.location import open_file
from pipeline.real.sources.source import (
    Content,
    Entry,
    File,
    Findings,
    Reader,
    Row,
    by_file,
    label_text,
)
from shards.errors import UserError

_BATCH_ROWS = 64
_BUFFER_BYTES = 1 << 20
_LABELS = ("label", "labels", "fine_label", "cls", "class", "target")


@dataclass(frozen=True)
class ParquetSource:
    """Rows of Parquet files, in their order."""

    files: tuple[File, ...]
    image_field: str
    label_field: str | None
    names: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls, files: tuple[File, ...], image_field: str | None, label_field: str | None
    ) -> ParquetSource:
        """That of files whose schema tells which columns have images and labels, unless named.

        Raises:
            UserError: if there is no such column, with those there are.
        """
        with _opening(files[0].url) as file:
            schema = file.schema_arrow
        features = _read_features(schema)
        image = _choose_image(schema, features, image_field, files[0].url)
        label = _choose_label(schema, features, label_field, files[0].url)
        names = features.get(label or "", {}).get("names")
        return cls(files, image, label, tuple(map(str, names)) if names else None)

    def identity(self) -> dict[str, object]:
        """The files, with sizes and times, and the columns."""
        columns = [self.image_field, self.label_field, self.names]
        return {"kind": "parquet", "files": self.files, "columns": columns}

    def list_part(self, part: int, findings: Findings) -> Iterator[Entry]:
        """Rows of one file; one without an image is an entry with a problem.

        Raises:
            UserError: if it cannot be read, or lacks a column that the first file has.
        """
        findings.has_numbers = True
        file = self.files[part]
        name = os.path.basename(file.url)
        with _opening(file.url) as opened:
            translate = self._translation(opened.schema_arrow, file.url)
            self._note(opened.schema_arrow, findings)
            columns = [self.image_field] if self.label_field is None else [
                self.image_field, self.label_field
            ]  # fmt: skip
            absent = next((c for c in columns if c not in opened.schema_arrow.names), None)
            if absent is not None:
                raise UserError(
                    f"{file.url}: has no column {absent!r}, which {self.files[0].url} has; there "
                    f"are {', '.join(opened.schema_arrow.names)}"
                )
            row = 0
            for batch in opened.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
                contents = _contents(batch.column(0))
                sizes = pc.binary_length(contents).to_pylist()
                labels = (
                    [None] * len(batch) if self.label_field is None else batch.column(1).to_pylist()
                )
                for size, value in zip(sizes, labels, strict=True):
                    problem = None if size else "the row has no bytes of an image"
                    label = label_text(value, f"{file.url}, row {row},")
                    if label is not None and translate is not None:
                        label = translate.get(label, label)
                    key = f"{name}:{row}".encode()
                    yield Entry(key, label, part, row, size or 0, file.stamp, problem)
                    row += 1

    def _translation(self, schema: pa.Schema, url: str) -> dict[str, str] | None:
        """Numbers of classes of a file that names them in another order -> those of the first."""
        names = _read_features(schema).get(self.label_field or "", {}).get("names")
        if self.names is None or not names or tuple(map(str, names)) == self.names:
            return None
        strangers = sorted(set(map(str, names)) - set(self.names))
        if strangers:
            raise UserError(
                f"{url}: names a class {strangers[0]!r}, which {self.files[0].url} does not; "
                "fix the metadata of either"
            )
        return {str(number): str(self.names.index(str(n))) for number, n in enumerate(names)}

    def _note(self, schema: pa.Schema, findings: Findings) -> None:
        """Which column has the labels, where that is not plain."""
        features = _read_features(schema)
        classes = [n for n in schema.names if features.get(n, {}).get("_type") == "ClassLabel"]
        columns = ", ".join(schema.names)
        if self.label_field is None:
            findings.note(f"no column is taken for labels, of {columns} (real.label_field)")
        elif len(classes) > 1:
            taken = f"labels are those of {self.label_field}, of {', '.join(classes)}"
            findings.note(f"{taken} (real.label_field)")

    def open(self) -> Reader:
        """Of rows, by the groups that they are in."""
        return _ParquetReader(self)


@contextmanager
def _opening(url: str) -> Iterator[pq.ParquetFile]:
    """A file of which no more is in memory than is being read."""
    with open_file(url) as file:
        try:
            yield pq.ParquetFile(file, pre_buffer=False, buffer_size=_BUFFER_BYTES)
        except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # the disk's, not Arrow's
                raise
            reason = " ".join(str(error).split())
            raise UserError(
                f"{url}: not readable as Parquet ({reason}); fix or remove it"
            ) from None


def _read_features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Column -> what Hugging Face's metadata say of it."""
    try:
        found = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {str(name): value for name, value in found.items() if isinstance(value, dict)}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}


def _choose_image(
    schema: pa.Schema, features: dict[str, dict[str, Any]], wanted: str | None, url: str
) -> str:
    images = [field.name for field in schema if _holds_images(field)]
    if wanted is not None and wanted in images:
        return wanted
    if wanted is None and images:
        stated = [name for name in images if features.get(name, {}).get("_type") == "Image"]
        return str((stated or images)[0])
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    which = "a column of images" if wanted is None else f"a column of images {wanted!r}"
    raise UserError(f"real.image_field: {url} has not {which}; there are {columns}"[:2000])


def _choose_label(
    schema: pa.Schema, features: dict[str, dict[str, Any]], wanted: str | None, url: str
) -> str | None:
    if wanted is not None:
        if wanted not in schema.names:
            raise UserError(
                f"real.label_field: {url} has no column {wanted!r}; there are "
                f"{', '.join(schema.names)}"
            )
        kind = schema.field(wanted).type
        if not _holds_labels(kind):
            raise UserError(
                f"real.label_field: {url} has {kind} in column {wanted!r}, which are no labels; "
                "name a column of whole numbers or of text"[:2000]
            )
        return wanted
    classes = [n for n in schema.names if features.get(n, {}).get("_type") == "ClassLabel"]
    named = [name for name in _LABELS if name in (classes or schema.names)]
    found = (named or classes or [None])[0]
    if found is not None and not _holds_labels(schema.field(found).type):
        return None
    return found


def _holds_images(field: pa.Field) -> bool:
    kind = field.type
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return bool(_is_bytes(kind))


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _holds_labels(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
        or pa.types.is_string(kind) or pa.types.is_large_string(kind)
        or pa.types.is_dictionary(kind)
    )  # fmt: skip


def _contents(column: pa.Array) -> pa.Array:
    """Bytes of each row, null for none."""
    if pa.types.is_struct(column.type):
        return pc.struct_field(column, "bytes")
    return column


class _ParquetReader:
    def __init__(self, source: ParquetSource) -> None:
        self._source = source

    def read(self, rows: Sequence[Row]) -> Iterator[Content | Exception]:
        """Rows of a file must come in their order, as a listing has them."""
        for file, wanted in by_file(rows):
            yield from self._read_file(file, wanted)

    def _read_file(self, index: int, wanted: list[int]) -> Iterator[Content | Exception]:
        with _opening(self._source.files[index].url) as file:
            sizes = [file.metadata.row_group(g).num_rows for g in range(file.num_row_groups)]
            ends = np.cumsum(sizes)
            groups = sorted({int(g) for g in np.searchsorted(ends, wanted, side="right")})
            waiting = iter(wanted)
            row = next(waiting, None)
            for group in groups:
                start = int(ends[group]) - sizes[group]
                batches = file.iter_batches(
                    _BATCH_ROWS, [group], columns=[self._source.image_field], use_threads=False
                )
                for batch in batches:
                    contents = _contents(batch.column(0))
                    while row is not None and row < start + len(batch):
                        content = contents[row - start].as_py()
                        yield content or UnreadableError("the row has no bytes of an image")
                        row = next(waiting, None)
                    start += len(batch)
                    if row is None:
                        return
