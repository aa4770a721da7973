"""What a layout makes of a file. Neighbour: `layouts.py` lists the layouts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.teacher.architecture import DiscriminatorArchitecture, GeneratorArchitecture
from pipeline.teacher.importing.infer import Converted


class Imported(NamedTuple):
    """The networks of a file."""

    layout: str
    """Name of the layout, for people."""
    generator: Converted[GeneratorArchitecture]
    discriminator: Converted[DiscriminatorArchitecture] | None = None
    notes: tuple[str, ...] = ()
    """What a person should know: one sentence each."""
    weights: str = ""
    """Which key, file or tensors of the source the generator's weights are."""
    is_averaged: bool | None = None
    """Whether those are averaged over the training; None where nothing in the file says so."""


@contextmanager
def naming(file: Path | None) -> Iterator[None]:
    """Says that a misfit is in `file`, where it is another than the first."""
    try:
        yield
    except ValueError as error:
        if file is None:
            raise
        raise ValueError(f"in {file}: {error}") from None
