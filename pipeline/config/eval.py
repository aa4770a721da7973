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
    sets: LabelledSets = unrecorded({})
    """Labelled sets of your own, by name, that are measured beside the run's own labels. Not in the
    fingerprint, which has their content.
    """
    baselines: bool = True
    """Whether raw pixels and the untrained student are probed, too."""
    control: (
        Annotated[str, spelled(r"[\w-]+", "be the name of a file of configs/methods/")] | None
    ) = unrecorded(None)
    """Another way to train the student, beside which its results are shown: a file of
    `configs/methods/`, without `.yaml`. `run` trains it, on the same real images for the same
    number of steps, as a run NAME-CONTROL. Not in the fingerprint.
    """
    domain_samples: Annotated[int, Field(ge=0, le=10**6)] = 10_000
    """Most images of each domain that are compared: domain gap, neighbourhoods, memorisation, and
    distances of the teacher. Time grows with the square; 0 compares nothing.
    """
    embedding_samples: Annotated[int, Field(ge=0, le=20_000)] = 1000
    """Synthetic samples in the embedding plot; 0 draws none."""
