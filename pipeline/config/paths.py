"""The `paths` section of a config: where files go.

Neighbours: `root.py` has the other sections; of no fingerprint, as `ray` and `hardware` are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from pipeline.config.fields import PositiveFloat, Section, UserPath
from shards.errors import UserError
from shards.storage import check_location


def _check_store(location: str) -> str:
    try:
        check_location(location)
    except UserError as error:
        raise ValueError(str(error)) from None
    return location.rstrip("/") if "://" in location else location


class PathsConfig(Section):
    """Where files go. Not part of any fingerprint."""

    store: Annotated[str, AfterValidator(_check_store)] = "store"
    """Content-addressed shards, shared by every run: a folder, `s3://bucket/…` or
    `gs://bucket/…`.
    """
    cache: UserPath = Path("~/.cache/squeeze-and-span").expanduser()
    """Local copies of a remote store's shards."""
    cache_gb: PositiveFloat = 50.0
    """Room for them, in GB of 10⁹ bytes; the least recently used go first."""
    runs: UserPath = Path("runs")
    """One folder per run: teacher, student, results, report."""
