"""The `eval` section of a config: what is measured of a student, and how.

Neighbours: `root.py` has the other sections, `eval/` does the measuring.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.config.fields import Positive, PositiveFloat, Section, Seeds

_PER_CLASS, _PERCENT = re.compile(r"([1-9]\d*)_per_class"), re.compile(r"(\d+(?:\.\d+)?)_percent")


def _check_labels(labels: str) -> str:
    share = _PERCENT.fullmatch(labels)
    if not _PER_CLASS.fullmatch(labels) and not (share and 0 < float(share[1]) < 100):
        raise ValueError(f"must be such as 10_per_class or 5_percent, got {labels!r}")
    return labels


FewLabels = Annotated[str, AfterValidator(_check_labels)]
"""`n_per_class` or `p_percent`."""


class EvalConfig(Section):
    """Probes on frozen representations, and how far the two domains are apart."""

    probes: Annotated[tuple[Literal["linear", "knn", "linear_sgd"], ...], Field(min_length=1)] = (
        "linear",
        "knn",
    )
    """`linear`: logistic regression on representations; `knn`; `linear_sgd`: the paper's own, SGD
    on random views of all labelled images, which wants a GPU.
    """
    few_labels: tuple[FewLabels, ...] = ("10_per_class",)
    """How many labels `linear` and `knn` get beside all of them: `n_per_class` of every class, or
    `p_percent` of every class, at least one image.
    """
    seeds: Seeds = (0, 1, 2)
    """Draws of the few labels."""
    knn_k: Positive = 200
    """Neighbours that vote."""
    knn_temperature: PositiveFloat = 0.1
    """Votes weigh exp(cosine / temperature)."""
    sgd_recipe: Literal["cifar", "stl10"] = "cifar"
    """Of `linear_sgd`: the paper's settings for CIFAR, or for STL-10 (LARS, batches of 4096)."""
    sgd_epochs: Positive = 90
    """Of `linear_sgd`."""
    baselines: bool = True
    """Whether raw pixels and the untrained student are probed, too."""
    domain_samples: Annotated[int, Field(ge=0, le=10**6)] = 10_000
    """Most images of each domain that are compared: domain gap, neighbourhoods, memorisation, and
    distances of the teacher. Time grows with the square; 0 compares nothing.
    """
    embedding_samples: Annotated[int, Field(ge=0, le=20_000)] = 1000
    """Synthetic samples in the embedding plot; 0 draws none."""


def count_labels(labels: str, class_size: int) -> int:
    """Images of a class of `class_size` that have their labels under `labels`, at least 1."""
    per_class = _PER_CLASS.fullmatch(labels)
    if per_class:
        return min(int(per_class[1]), class_size)
    share = _PERCENT.fullmatch(labels)
    if share is None:
        raise ValueError(f"{labels!r} is neither n_per_class nor p_percent")
    return max(1, round(float(share[1]) / 100 * class_size))
