"""The `sweep` section of a config: trainings that differ in one thing.

Neighbours: `root.py` has the other sections, `studies/sweeps/` runs them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from pipeline.config.fields import Positive, Section, Seeds


def _check_sizes(sizes: tuple[int, ...]) -> tuple[int, ...]:
    if list(sizes) != sorted(set(sizes)):
        raise ValueError("must be in rising order, each once")
    return sizes


class SweepConfig(Section):
    """Teachers of rising quality (Yang et al. 2022, Fig. 4), and pools of rising size."""

    seeds: Seeds = (0, 1, 2)
    """Values of `train.seed`: one training each at every point."""
    epochs: Positive | None = None
    """Epochs of every training; by default `train.epochs`."""
    pool_sizes: (
        Annotated[tuple[Positive, ...], Field(min_length=1), AfterValidator(_check_sizes)] | None
    ) = None
    """Pool sizes of `pool-sweep`, rising. By default `generate.num_samples`, a quarter of it, a
    quarter of that and so on: at most five, each at least one step's synthetic images.
    """
