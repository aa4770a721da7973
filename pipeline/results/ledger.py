"""The ledger: every number that an evaluation has measured, with all that it depends on, for all
runs under `paths.runs`.

`results.parquet` there is a folder that pyarrow, pandas and duckdb read as one table. It holds one
part for each evaluation, named by its run and fingerprint. A part appears when it is complete, and
no two evaluations share one, so that any number of commands may append at once without a lock.
Neighbours: `lineage.py` says where a student comes from; `query.py` reads.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from shards.atomic import remove_stale, write_atomic
from shards.errors import UserError

LEDGER = "results.parquet"
SUPERSEDED = ".superseded"
"""Folder inside the ledger of parts that another measurement has replaced; readers of Parquet pass
over names with a dot.
"""
SCHEMA_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Where a number comes from: student, shards, teacher, and the process that measured it."""

    run: str
    method: str
    variant: str
    batch_norm: str
    """`separate` or `joint`; empty of what was not trained."""
    train_seed: int | None
    """`train.seed`; None of what was not trained from a seed."""
    epochs: int
    training_digest: str | None
    """Of config and inputs of the training less its seed: trainings that share it are
    repetitions.
    """
    student_digest: str | None
    """SHA-256 of the student's weights; None of a baseline."""
    pool_key: str | None
    pool_size: int | None
    """Different synthetic samples that the training could see."""
    teacher_digest: str | None
    """SHA-256 of the teacher's weights."""
    commit: str | None
    versions: str
    """JSON, package -> version."""
    device: str
    created_at: datetime
    """With a time zone."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What a number was measured on."""

    task: str
    """Such as `classification`, `domains`, `transfer`."""
    dataset: str
    split_digest: str
    """Of what exactly was measured on."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One value, measured once, and how; `Number` says of what."""

    metric: str
    """Such as `top1`, `mean_per_class`, `squared_mmd_cubic`."""
    value: float
    """Finite; accuracies in percent."""
    low: float | None = None
    """Ends of an interval that belongs to this value alone; the protocol says which. Of a test,
    that of values without an effect.
    """
    high: float | None = None
    expected: float | None = None
    """Of a comparison of equal distributions, where that is not 0."""
    p_value: float | None = None
    """Of a test."""
    probe: str = ""
    labels: str = ""
    """`all`, or such as `10_per_class`."""
    seed: int
    """Of the evaluation: the draw of few labels, a probe's initial weights."""
    representation: str = "student"
    """`student`, `untrained_student` or `raw_pixels`."""
    protocol: str
    """How it was measured, in words: numbers of different protocols are never mixed. A remark in
    brackets at the end, such as by which engine or for which reason, makes no other protocol.
    """


@dataclass(frozen=True, kw_only=True)
class Number(Measurement, Benchmark, Lineage):
    """One row of the ledger: what was measured, on what, of what."""

    @classmethod
    def of(cls, lineage: Lineage, benchmark: Benchmark, found: Measurement) -> Number:
        """The row of what was `found`."""
        return cls(**asdict(lineage), **asdict(benchmark), **asdict(found))


PROVENANCE = ("commit", "versions", "device", "created_at")
"""What may differ between two records of the same measurement."""
_IDENTITY = ("task", "dataset", "split_digest", "metric", "probe", "labels", "seed",
             "representation", "protocol")  # fmt: skip
_NULLABLE = ("train_seed", "training_digest", "student_digest", "pool_key", "pool_size",
             "teacher_digest", "commit", "low", "high", "expected", "p_value")  # fmt: skip
_TYPES = {
    **dict.fromkeys(("train_seed", "epochs", "pool_size", "seed"), pa.int64()),
    **dict.fromkeys(("value", "low", "high", "expected", "p_value"), pa.float64()),
    "created_at": pa.timestamp("us", tz="UTC"),
}
ARROW_SCHEMA = pa.schema(
    [
        pa.field(name, _TYPES.get(name, pa.string()), nullable=name in _NULLABLE)
        for name in Number.__dataclass_fields__
    ]
)


def append(runs_folder: Path, fingerprint: str, numbers: Sequence[Number]) -> Path:
    """Record what the evaluation with `fingerprint` has measured of one run; returns its part.

    The same evaluation again does not double its rows: a part with the same values stays as it is;
    one with others, measured by other code or on another device, is kept under `SUPERSEDED` and
    replaced.

    Raises:
        ValueError: for no numbers, numbers of several runs, the same number twice, or one that is
            not finite.
    """
    _check(numbers)
    path = part_path(runs_folder, numbers[0].run, fingerprint)
    if path.exists():
        try:
            found = _read_part(path)
        except UserError:  # damaged: measuring again is the remedy
            found = []
        if [_measured(number) for number in found] == [_measured(number) for number in numbers]:
            return path
        if found:
            old = path.read_bytes()
            digest = hashlib.sha256(old).hexdigest()[:8]
            write_atomic(path.parent / SUPERSEDED / f"{path.stem}-{digest}.parquet", old)
    write_atomic(path, _encode(fingerprint, numbers))
    remove_stale(path.parent)
    return path


def part_path(runs_folder: Path, run: str, fingerprint: str) -> Path:
    """The part of an evaluation, whether it is there or not."""
    return runs_folder / LEDGER / f"{run}-{fingerprint[:16]}.parquet"


def is_appended(runs_folder: Path, run: str, fingerprint: str) -> bool:
    """Whether the ledger has the numbers of an evaluation, undamaged."""
    path = part_path(runs_folder, run, fingerprint)
    try:
        return path.exists() and bool(_read_part(path))
    except UserError:
        return False


def read_ledger(runs_folder: Path, runs: Collection[str] | None = None) -> list[Number]:
    """All numbers, or those of the named `runs`, whose parts alone are read then; those of the
    earliest evaluation first; none where nothing was evaluated yet.

    Raises:
        UserError: naming a part that is damaged or of another version.
    """
    paths = sorted((runs_folder / LEDGER).glob("*.parquet"))
    parts = [_read_part(path) for path in paths if runs is None or _run_of(path) in runs]
    parts.sort(key=lambda part: part[0].created_at)
    return [number for part in parts for number in part]


def read_evaluation(runs_folder: Path, run: str, fingerprint: str) -> list[Number]:
    """Numbers of one evaluation, in the order in which they were measured.

    Raises:
        UserError: if they are gone or damaged.
    """
    path = part_path(runs_folder, run, fingerprint)
    if not path.exists():
        raise UserError(f"{path}: the numbers of {run} are gone; run `make eval` again")
    return _read_part(path)


def list_runs(runs_folder: Path) -> list[str]:
    """Names of the runs that have numbers, by the names of the parts."""
    paths = sorted((runs_folder / LEDGER).glob("*.parquet"))
    return list(dict.fromkeys(_run_of(path) for path in paths))


def _run_of(path: Path) -> str:
    return path.stem.rpartition("-")[0] or path.stem


def _check(numbers: Sequence[Number]) -> None:
    if len({number.run for number in numbers}) != 1:
        raise ValueError("an evaluation has numbers, all of one run")
    keys = Counter(_identity(number) for number in numbers)
    for key, count in keys.items():
        if count > 1:
            raise ValueError(f"{count} numbers of the same measurement: {key}")
    for number in numbers:
        values = (number.value, number.low, number.high, number.expected, number.p_value)
        if not all(math.isfinite(value) for value in values if value is not None):
            raise ValueError(f"{number.metric} of {_identity(number)} is not finite: {values}")


def _identity(number: Number) -> tuple[object, ...]:
    return tuple(getattr(number, name) for name in _IDENTITY)


def _measured(number: Number) -> Number:
    """`number` less its provenance, for comparison."""
    return replace(number, commit=None, versions="", device="", created_at=datetime.min)


def _encode(fingerprint: str, numbers: Sequence[Number]) -> bytes:
    metadata = {"schema_version": str(SCHEMA_VERSION), "fingerprint": fingerprint}
    schema = ARROW_SCHEMA.with_metadata(metadata)
    buffer = io.BytesIO()
    table = pa.Table.from_pylist([asdict(number) for number in numbers], schema=schema)
    pq.write_table(table, buffer, write_page_checksum=True)
    return buffer.getvalue()


def _read_part(path: Path) -> list[Number]:
    """Numbers of one part, at least one."""
    content = path.read_bytes()
    try:
        # Without threads: Arrow's own may outlive the interpreter, and abort it.
        file = pq.ParquetFile(
            pa.BufferReader(content), pre_buffer=False, page_checksum_verification=True
        )
        table = file.read(use_threads=False)
        metadata = {k.decode(): v.decode() for k, v in (table.schema.metadata or {}).items()}
        version = metadata.get("schema_version")
        if version in ("1", "2"):
            table = _upgrade(table)
        elif version is not None and version != str(SCHEMA_VERSION):
            raise UserError(
                f"{path}: numbers of schema {version}, this version reads {SCHEMA_VERSION}; "
                f"{_remedy(path)}"
            )
        if not table.schema.equals(ARROW_SCHEMA) or not table.num_rows:
            raise ValueError("not a part of this ledger")
        numbers = [Number(**row) for row in table.to_pylist()]
    except (pa.ArrowException, OSError, MemoryError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: damaged ({reason}); {_remedy(path)}") from None
    return numbers


def _upgrade(table: pa.Table) -> pa.Table:
    """A part of schema 1, when all trainings were of joint batch normalisation, or of schema 2,
    without `expected` and `p_value`, as one of today's.
    """
    variants = table.column("variant").to_pylist()
    added = {
        "batch_norm": ["joint" if variant else "" for variant in variants],
        "expected": [None] * len(variants),
        "p_value": [None] * len(variants),
    }
    for name, values in added.items():
        if name not in table.column_names:
            field = ARROW_SCHEMA.field(name)
            table = table.append_column(field, pa.array(values, field.type))
    return table.select(ARROW_SCHEMA.names)


def _remedy(path: Path) -> str:
    return (
        f"delete it and, with the config of {path.parent.parent / _run_of(path)}, type what "
        "measured it again: `make eval`, `python -m pipeline transfer` or `python -m pipeline "
        "finetune`"
    )
