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
    """Where files go."""

    store: Annotated[str, AfterValidator(_check_store)] = "store"
    """Content-addressed shards, shared by all runs: a folder, `s3://bucket/…` or
    `gs://bucket/…`.
    """
    cache: UserPath = Path("~/.cache/squeeze-and-span").expanduser()
    """Local copies of a remote store's shards."""
    cache_gb: PositiveFloat = 50.0
    """Size of the cache in GB (10⁹ bytes); the least recently used shards are removed first."""
    runs: UserPath = Path("runs")
    """Folder of all runs; each has its teacher, student, results and report in a folder of its
    own.
    """
