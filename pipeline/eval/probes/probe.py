"""Probes of one representation: linear and kNN, on all labels and on few of them.

A `ProbeJob` is one fit, independent of every other; `eval/stage.py` lists them, here or on Ray they
become `Score`s. The paper's own, which is trained on images, is in `sgd_training.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import PlainSerializer, PlainValidator

from pipeline.config.eval import EvalConfig
from pipeline.config.subset import count_labels
from pipeline.eval.probes.linear_probe import fit_linear_probe
from pipeline.eval.probes.streamed_probe import RowReport
from pipeline.eval.representation import Representation
from pipeline.measures import knn
from pipeline.results.ledger import Measurement
from pipeline.samples.seeding import numpy_generator
from pipeline.samples.subset import class_sizes, draw_of_each
from shards.errors import UserError

ALL = "all"
Labels = Annotated[
    np.ndarray,
    PlainValidator(lambda labels: np.asarray(labels, np.int64)),
    PlainSerializer(lambda labels: labels.tolist()),
]
"""An array that a file of JSON may keep."""


@dataclass(frozen=True)
class ProbeJob:
    """One probe to fit: which, on which labels, drawn with which seed."""

    probe: str
    labels: str
    seed: int
    fold: int = 0
    """Of the set's, in which it is fitted and scored."""


@dataclass(frozen=True)
class Score:
    """One accuracy, and what it is of."""

    top1: Measurement
    predictions: Labels
    """[M] int64: labels of the test images as predicted."""
    curve: tuple[float, ...] = ()
    """Of a probe with epochs: after every one, in percent; the last is the result."""


def list_jobs(config: EvalConfig) -> list[ProbeJob]:
    """The fits that want nothing but a representation. On all labels nothing is drawn, so one seed
    suffices.
    """
    settings = [(ALL, config.seeds[:1]), *((few, config.seeds) for few in config.few_labels)]
    return [
        ProbeJob(probe, labels, seed)
        for labels, seeds in settings
        for probe in ("linear", "knn")
        if probe in config.probes
        for seed in seeds
    ]


def run_job(
    job: ProbeJob,
    representation: Representation,
    config: EvalConfig,
    device: torch.device,
    report: RowReport | None = None,
) -> Score:
    """Fit one probe to the train images and score it on the test images."""
    train, targets = representation.train, representation.train_labels
    if job.labels != ALL:
        rows = draw_few_labels(targets, job.labels, job.seed)
        train, targets = train.take(rows), targets[rows]
    if job.probe == "linear":
        probe = fit_linear_probe(train, targets, seed=job.seed, device=device, report=report)
        protocol, predicted = probe.protocol, probe.predict(representation.test)
    else:
        k, temperature = config.knn_k, config.knn_temperature
        protocol = knn.PROTOCOL.format(k=k, temperature=temperature)
        predicted = knn.knn_classify(
            train, targets, representation.test, k=k, temperature=temperature
        )
    percent = 100 * float(np.mean(predicted == representation.test_labels))
    return Score(_top1(representation.name, job, percent, protocol), predicted)


def _top1(representation: str, job: ProbeJob, percent: float, protocol: str) -> Measurement:
    return Measurement(
        metric="top1",
        value=percent,
        probe=job.probe,
        labels=job.labels,
        seed=job.seed,
        representation=representation,
        protocol=protocol,
    )


def check_few_labels(config: EvalConfig, labels: np.ndarray) -> None:
    """Raise `UserError` for few labels that would be all of `labels` [N], or less than one of each
    class, and so be listed under a wrong name.
    """
    sizes = np.unique(labels, return_counts=True)[1].tolist()
    for few in config.few_labels:
        if sum(count_labels(few, size) for size in sizes) == len(labels):
            raise UserError(f"eval.few_labels: {few} are all {len(labels):,} labels; take fewer")
        share, _, unit = few.partition("_")
        if unit == "percent" and float(share) / 100 * len(labels) < len(sizes):
            raise UserError(
                f"eval.few_labels: {few} of {len(labels):,} labels are less than one for each of "
                f"{len(sizes)} classes; take 1_per_class"
            )


def draw_few_labels(labels: np.ndarray, few: str, seed: int) -> np.ndarray:
    """Rows of some samples of every class, sorted; a function of `seed` only.

    `few` is `n_per_class`, all of a smaller class, or `p_percent`.
    """
    counts = {label: count_labels(few, size) for label, size in class_sizes(labels).items()}
    return draw_of_each(labels, counts, numpy_generator(seed, "eval/labels"))
