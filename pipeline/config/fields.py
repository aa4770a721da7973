"""What the sections of a config are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0, le=10**12)]
NonNegative = Annotated[int, Field(ge=0, lt=2**32)]
Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
UserPath = Annotated[Path, AfterValidator(Path.expanduser)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
ImageCodec = Literal["npy", "png", "webp", "jpg"]
Rgb = tuple[Finite, Finite, Finite]


def _check_distinct(values: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(values)) < len(values):
        raise ValueError("a seed is there twice")
    return values


Seeds = Annotated[tuple[NonNegative, ...], Field(min_length=1), AfterValidator(_check_distinct)]


class Section(BaseModel):
    """A frozen model that knows its fields and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
