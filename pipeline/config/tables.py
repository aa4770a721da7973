"""The `tables` section of a config: which rows of the paper's tables, and how often.

Neighbours: `root.py` has the other sections, `studies/tables/` runs them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline.config.fields import Positive, Section, Seeds


class TablesConfig(Section):
    """The paper's tables, run on this config (Yang et al. 2022, Tables 1, 2 and 5)."""

    seeds: Seeds = (0, 1, 2)
    """Values of `train.seed`: one training each for every row."""
    epochs: Positive | None = None
    """Epochs of every training; by default `train.epochs`."""
    rows: Annotated[
        Literal["all"] | Annotated[tuple[str, ...], Field(min_length=1)],
        BeforeValidator(
            lambda rows: rows if rows == "all" or not isinstance(rows, str) else [rows]
        ),
    ] = "all"
    """Ways to train: `all`, or names of files in `configs/methods/`, without `.yaml`."""
    paper: Literal["cifar10", "cifar100", "stl10", "imagenet100", "imagenet"] | None = None
    """The paper's data set that this config repeats; its published numbers are shown beside
    yours.
    """
