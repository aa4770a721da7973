"""Some images of every class, as sections name them: labels for a probe, images of one's own."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

_PER_CLASS, _PERCENT = re.compile(r"([1-9]\d*)_per_class"), re.compile(r"(\d+(?:\.\d+)?)_percent")


def _is_few(labels: str) -> bool:
    share = _PERCENT.fullmatch(labels)
    return bool(_PER_CLASS.fullmatch(labels) or (share and 0 < float(share[1]) < 100))


def _check_labels(labels: str) -> str:
    if not _is_few(labels):
        raise ValueError(f"must be such as 10_per_class or 5_percent, got {labels!r}")
    return labels


FewLabels = Annotated[str, AfterValidator(_check_labels)]
"""`n_per_class` or `p_percent`."""


def _check_limit(limit: object) -> object:
    is_number = isinstance(limit, int) and not isinstance(limit, bool) and limit > 0
    if not is_number and not (isinstance(limit, str) and _is_few(limit)):
        raise ValueError(
            f"must be a number of images, or such as 10_per_class or 5_percent, got {limit!r}"
        )
    return limit


Limit = Annotated[int | str, BeforeValidator(_check_limit)]
"""So many of all images, in the classes' shares, or as `FewLabels`."""


def count_labels(labels: str, class_size: int) -> int:
    """Images of a class of `class_size` that have their labels under `labels`, at least 1."""
    per_class = _PER_CLASS.fullmatch(labels)
    if per_class:
        return min(int(per_class[1]), class_size)
    share = _PERCENT.fullmatch(labels)
    if share is None:
        raise ValueError(f"{labels!r} is neither n_per_class nor p_percent")
    return max(1, round(float(share[1]) / 100 * class_size))
