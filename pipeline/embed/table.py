"""Embeddings -> a file of rows `source`, `embedding`, `label`, in one of three formats; it appears
when it is complete. Nothing but the names of a safetensors file's rows is in memory as a whole.

- Parquet: a column each, `label` null where an image has none; the description is JSON under
  `METADATA` in the schema's metadata.
- npz: an array each, `label` empty where an image has none; the description is JSON in `metadata`.
- safetensors: tensor `embedding`; `source`, `label` and the description are JSON in the metadata.

Without any labels there is no `label`. Embeddings are float32 [N, D], as the student makes them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.embed.embedded import Embedded
from shards.atomic import atomic_path
from shards.errors import UserError

METADATA = "squeeze-and-span"
_TEXTS = 10_000
"""Written at once."""
_LARGEST_HEADER = 100_000_000
"""Bytes; what safetensors itself reads."""


def choose_format(out: Path | None, kind: str | None) -> str:
    """`kind`, or the format that the suffix of `out` names, or Parquet where there is none.

    Raises:
        UserError: for a format that is not known, and for one that is not the suffix's.
    """
    known = ", ".join(WRITERS)
    if kind is not None and kind not in WRITERS:
        raise UserError(f"--format={kind}: is none of {known}")
    suffix = None if out is None else out.suffix.lower().removeprefix(".")
    if suffix is None or kind == suffix:
        return kind or next(iter(WRITERS))
    if suffix not in WRITERS:
        raise UserError(f"--out={out}: its suffix is none of .{known.replace(', ', ', .')}")
    if kind is not None:
        raise UserError(f"--out={out}: --format={kind} is another format; leave one out")
    return suffix


def write_table(path: Path, kind: str, embedded: Embedded, description: Mapping[str, Any]) -> None:
    """Write a file of format `kind`; `description`, of what made the embeddings, comes with it.

    Raises:
        UserError: if the names are too many for safetensors.
        OSError: if it cannot be written.
    """
    with atomic_path(path) as temporary:
        WRITERS[kind](temporary, embedded, json.dumps(description))


def _write_parquet(path: Path, embedded: Embedded, description: str) -> None:
    width = embedded.num_dims
    fields = [("source", pa.string()), ("embedding", pa.list_(pa.float32(), width))]
    fields += [("label", pa.string())] if embedded.has_labels else []
    schema = pa.schema(fields, {METADATA: description})
    with pq.ParquetWriter(path, schema, use_dictionary=["label"]) as writer:
        for batch in embedded.batches():
            flat = pa.array(batch.embeddings.reshape(-1))
            columns = [
                pa.array(batch.sources, pa.string()),
                pa.FixedSizeListArray.from_arrays(flat, width),
            ]
            columns += [pa.array(batch.labels, pa.string())] if embedded.has_labels else []
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def _write_npz(path: Path, embedded: Embedded, description: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:

        def write(name: str, dtype: str, shape: tuple[int, ...], parts: Iterable[Any]) -> None:
            entry = zipfile.ZipInfo(f"{name}.npy")  # of 1980: the same embeddings, the same bytes
            with archive.open(entry, "w", force_zip64=True) as file:
                header = {"descr": dtype, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for part in parts:
                    file.write(np.ascontiguousarray(part, dtype).data.cast("B"))

        count = len(embedded)
        parts = (batch.embeddings for batch in embedded.batches())
        write("embedding", "<f4", (count, embedded.num_dims), parts)
        for name, place in (("source", 0), ("label", 1)):
            if name == "source" or embedded.has_labels:
                length = max(len(row[place] or "") for row in embedded.names())
                texts = _by_many(row[place] or "" for row in embedded.names())
                write(name, f"<U{max(1, length)}", (count,), texts)
        write("metadata", f"<U{len(description)}", (), [[description]])


def _by_many(texts: Iterator[str]) -> Iterator[list[str]]:
    return iter(lambda: list(islice(texts, _TEXTS)), [])


def _write_safetensors(path: Path, embedded: Embedded, description: str) -> None:
    names: dict[str, list[str | None]] = {"source": [], "label": []}
    for source, label in embedded.names():
        names["source"].append(source)
        names["label"].append(label)
    if not embedded.has_labels:
        del names["label"]
    shape = [len(embedded), embedded.num_dims]
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * shape[0] * shape[1]]}
    texts = {name: json.dumps(column) for name, column in names.items()}
    metadata = {METADATA: description, **texts}
    header = json.dumps({"__metadata__": metadata, "embedding": tensor}).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > _LARGEST_HEADER:
        raise UserError(
            f"--format=safetensors: the names of {len(embedded):,} images take more than the "
            f"{_LARGEST_HEADER // 10**6} MB that its readers allow; take parquet or npz"
        )
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for batch in embedded.batches():
            file.write(np.ascontiguousarray(batch.embeddings, "<f4").data)


Writer = Callable[[Path, Embedded, str], None]
WRITERS: dict[str, Writer] = {
    "parquet": _write_parquet,
    "npz": _write_npz,
    "safetensors": _write_safetensors,
}
