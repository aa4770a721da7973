"""The `eval` section of a config: what is measured of a student, and how.

Neighbours: `root.py` has the other sections, `eval/` does the measuring.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipeline.config.fields import (
    Positive,
    PositiveFloat,
    Section,
    Seeds,
    spelled,
    unrecorded,
)
from pipeline.config.labelled_set import LabelledSets
from pipeline.config.subset import FewLabels


class EvalConfig(Section):
    """Probes on frozen representations, and the comparison of the two domains."""

    probes: Annotated[tuple[Literal["linear", "knn", "linear_sgd"], ...], Field(min_length=1)] = (
        "linear",
        "knn",
    )
    """Classifiers that are fitted to frozen representations. `linear`: logistic regression;
    `knn`: nearest neighbours; `linear_sgd`: the paper's own, trained by SGD on random views of
    all labelled images, which needs a GPU.
    """
    few_labels: tuple[FewLabels, ...] = ("10_per_class",)
    """Label budgets of `linear` and `knn`, in addition to all labels: `n_per_class`, or
    `p_percent` of every class (at least one image).
    """
    seeds: Seeds = (0, 1, 2)
    """Seeds that draw the few labels; results are means over them."""
    knn_k: Positive = 200
    """Number of neighbours that vote."""
    knn_temperature: PositiveFloat = 0.1
    """A neighbour's vote has weight exp(cosine / temperature)."""
    sgd_recipe: Literal["cifar", "stl10"] = "cifar"
    """Settings of `linear_sgd`: the paper's for CIFAR, or those for STL-10 (LARS, batches of
    4096).
    """
    sgd_epochs: Positive = 90
    """Epochs of `linear_sgd`."""
    sets: LabelledSets = unrecorded({})
    """Labelled sets of your own, by name; the student is measured on each. Records hold their
    content instead of their place.
    """
    baselines: bool = True
    """Whether raw pixels and the untrained student are probed as well."""
    control: (
        Annotated[str, spelled(r"[\w-]+", "be the name of a file of configs/methods/")] | None
    ) = unrecorded(None)
    """Another way to train the student, shown beside this run's results: the name of a file in
    `configs/methods/`, without `.yaml`. `run` trains it as run NAME-CONTROL, on the same real
    images for the same number of steps.
    """
    domain_samples: Annotated[int, Field(ge=0, le=10**6)] = 10_000
    """Largest number of images per domain in the comparison of domains (gap, neighbourhoods,
    memorisation, teacher distances). Time grows with its square; 0 skips the comparison.
    """
    embedding_samples: Annotated[int, Field(ge=0, le=20_000)] = 1000
    """Synthetic samples in the embedding plot; 0 draws none."""
