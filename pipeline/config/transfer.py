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
    """Linear probes on other data sets (Ericsson et al. 2021; Yang et al. 2022, Table 3)."""

    root: UserPath | None = unrecorded(None)
    """Folder with the data sets, in torchvision's layout."""
    sets: Literal["all"] | Annotated[tuple[SetName, ...], Field(min_length=1)] = "all"
    """Data sets to measure; `all` takes those that are found, and says where the others belong."""
    batch: Positive = unrecorded(64)
    """Images per batch."""
    loader_workers: NonNegative = unrecorded(0)
    """Processes that decode images."""
