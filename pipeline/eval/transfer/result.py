"""What the transfer evaluation hands on: a number for each data set."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.eval.transfer.sets import Metric


@dataclass(frozen=True)
class Transfer:
    """The evaluation as a whole: data set -> score in percent."""

    scores: dict[str, float]


@dataclass(frozen=True)
class TransferResult:
    """One cell of the transfer table; `score` is `metric` on the test images in percent.

    `is_published` says whether there were as many images as the published data set has.
    """

    dataset: str
    metric: Metric
    score: float
    inverse_penalty: float
    num_train: int
    num_val: int
    num_test: int
    is_published: bool
    split_digest: str
    protocol: str
