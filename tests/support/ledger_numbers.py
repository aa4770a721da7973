"""Numbers for a ledger, all fields given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pipeline.results.ledger import Measurement, Number

START = datetime(2026, 1, 1, tzinfo=UTC)
FIRST = Number(
    run="digits",
    method="squeeze_and_span",
    variant="paper",
    batch_norm="separate",
    train_seed=0,
    epochs=3,
    training_digest="7" * 64,
    student_digest="a" * 64,
    pool_key="eb2f7625dc97015b",
    pool_size=4000,
    teacher_digest="2" * 64,
    commit=None,
    versions='{"torch": "2.12.1"}',
    device="cpu",
    task="classification",
    dataset="digits",
    split_digest="1" * 64,
    metric="top1",
    value=83.25,
    probe="linear",
    labels="all",
    seed=0,
    representation="student",
    protocol="logistic regression, L-BFGS",
    created_at=START,
)


def number(value: float = 83.25, *, minutes: int = 0, **changes: Any) -> Number:
    """`FIRST` with changes, measured so many minutes later."""
    created_at = START + timedelta(minutes=minutes)
    return Number(**{**vars(FIRST), "value": value, "created_at": created_at, **changes})


def measured(found: Measurement, **changes: Any) -> Number:
    """What an evaluation found, of the student of `FIRST`."""
    return replace(FIRST, **asdict(found), **changes)


def draws(values: Sequence[float], **changes: Any) -> list[Number]:
    """One number for each seed of the evaluation from 0 on."""
    few = {"labels": "10_per_class", **changes}
    return [number(value, seed=seed, **few) for seed, value in enumerate(values)]


def trainings(run: str, values: Sequence[float], **changes: Any) -> list[Number]:
    """One number for each training: another run, seed and student."""
    return [
        number(value, run=f"{run}-seed{seed}", train_seed=seed,
               student_digest=f"{seed}{run}".ljust(64, "0"), **changes)
        for seed, value in enumerate(values)
    ]  # fmt: skip
