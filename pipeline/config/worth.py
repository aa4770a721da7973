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
        raise ValueError("numbers of images must rise, and `all` is the last")
    return sizes


class WorthConfig(Section):
    """Squeeze and span beside students that learn without the teacher, or from it alone, at equal
    views, for some numbers of real images.
    """

    sizes: Annotated[
        tuple[Positive | Literal["all"], ...], Field(min_length=1), AfterValidator(_check_sizes)
    ] = ("all",)
    """Numbers of real images that the students have, rising; `all` is the whole train split. Every
    seed draws its own.
    """
    seeds: Seeds = (0, 1, 2, 3, 4)
    """Trainings of every method at every size: values of `train.seed` and of `real.limit_seed`."""
    steps: Positive | None = None
    """Of every training; unset: as many as `train.epochs` makes of all images."""
    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] | None = None
    """Tried with every method; unset: half of `train.learning_rate`, once and twice that. A single
    one is taken as it is.
    """
    tuning_size: Positive | None = None
    """Train images with which each rate is tried; the train images left out judge it. Unset: the
    largest of `sizes` but `all`, or four fifths of the train split.
    """
    tuning_seeds: Seeds = (1000,)
    """Trainings with each rate."""
