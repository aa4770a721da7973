"""The `worth` section of a config: what a teacher adds to real images.

Neighbours: `root.py` has the other sections, `studies/worth/` runs it.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.config.fields import Positive, PositiveFloat, Section, Seeds


def _check_sizes(sizes: tuple[int | str, ...]) -> tuple[int | str, ...]:
    numbers = [size for size in sizes if size != "all"]
    if numbers != sorted(set(numbers)) or "all" in sizes[:-1]:
        raise ValueError("must be in rising order, each once, with `all` last")
    return sizes


class WorthConfig(Section):
    """What the teacher adds: squeeze and span compared with students that learn without the teacher
    or from it alone, at equal views, for several numbers of real images.
    """

    sizes: Annotated[
        tuple[Positive | Literal["all"], ...], Field(min_length=1), AfterValidator(_check_sizes)
    ] = ("all",)
    """Numbers of real images to compare at, rising; `all` is the whole train split. Every seed
    draws its own images.
    """
    seeds: Seeds = (0, 1, 2, 3, 4)
    """Values of `train.seed` and `real.limit_seed`: one training each of every method at every
    size.
    """
    steps: Positive | None = None
    """Steps of every training; by default as many as `train.epochs` is with all images."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None
    """Learning rates to try with every method; by default half of `train.learning_rate`, itself
    and twice that. A single rate is used as it is.
    """
    tuning_size: Positive | None = None
    """Train images with which each rate is tried; the remaining train images judge it. By
    default the largest of `sizes` other than `all`, or four fifths of the train split.
    """
    tuning_seeds: Seeds = (1000,)
    """Values of `train.seed` with which each rate is tried."""
