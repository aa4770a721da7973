"""What the sections of a config are made of."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

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
        raise ValueError("duplicate seed; name each once")
    return values


Seeds = Annotated[tuple[NonNegative, ...], Field(min_length=1), AfterValidator(_check_distinct)]


def spelled(pattern: str, rule: str) -> AfterValidator:
    """Refuses a text unless `pattern` fits all of it; `rule` says what it must, in words."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"must {rule}, got {text!r}")
        return text

    return AfterValidator(check)


CodePath = Annotated[str, spelled(r"[\w.]+:\w+", "be code as package.module:name")]
"""The user's own code."""


class Section(BaseModel):
    """A frozen model that knows its fields and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    version: ClassVar[int] = 1
    """Of the defaults: to be raised when one of them changes, which makes other results of what
    leaves the field out.
    """


def unrecorded(default: Any) -> Any:
    """A field that says where or how fast, and so nothing about a result: no record has it."""
    return Field(default=default, json_schema_extra={"is_recorded": False})


def is_recorded(field: FieldInfo) -> bool:
    """Whether a field determines a result."""
    extra = field.json_schema_extra
    return not isinstance(extra, dict) or bool(extra.get("is_recorded", True))
