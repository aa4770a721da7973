"""The `transfer` section of a config: data sets to which the student's representations are carried.

Neighbours: `root.py` has the other sections, `eval/transfer/` does the measuring.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import NonNegative, Positive, Section, UserPath, unrecorded

SetName = Literal[
    "aircraft",
    "caltech101",
    "cars",
    "cifar10",
    "cifar100",
    "dtd",
    "flowers",
    "food",
    "pets",
    "sun397",
    "voc2007",
]


class TransferConfig(Section):
    """Linear probes of other data sets (Ericsson et al. 2021; Yang et al. 2022, Table 3)."""

    root: UserPath | None = unrecorded(None)
    """Folder with the data sets, as torchvision lays them out. Not in the fingerprint."""
    sets: Literal["all"] | Annotated[tuple[SetName, ...], Field(min_length=1)] = "all"
    """Which data sets; `all` takes those that are there, and says of the others where they go."""
    batch: Positive = unrecorded(64)
    """Images at a time. Not in the fingerprint."""
    loader_workers: NonNegative = unrecorded(0)
    """Processes that decode images. Not in the fingerprint."""
