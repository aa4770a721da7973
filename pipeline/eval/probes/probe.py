"""Probes of one representation: linear and kNN, on all labels and on few of them; the paper's own.

A `ProbeJob` is one fit, independent of every other; `eval/stage.py` lists them, here or on Ray they
become `Score`s, and `summarise` makes the rows of `results.json`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from pipeline.config.eval import EvalConfig, count_labels
from pipeline.config.root import Config
from pipeline.engine.gpu import choose_precision
from pipeline.eval import knn
from pipeline.eval.extract import Representation
from pipeline.eval.probes.labelled_views import ProbeImages
from pipeline.eval.probes.linear_probe import fit_linear_probe
from pipeline.eval.probes.linear_sgd import (
    LARGE_BATCH,
    ProbeReport,
    ProbeSettings,
    train_linear_probe,
)
from pipeline.samples.seeding import numpy_generator
from shards.errors import UserError

ALL = "all"


@dataclass(frozen=True)
class ProbeJob:
    """One probe to fit: which, on which labels, drawn with which seed."""

    probe: str
    labels: str
    seed: int


@dataclass(frozen=True)
class Score:
    """One accuracy, measured once."""

    representation: str
    probe: str
    labels: str
    seed: int
    top1: float
    """Percent."""
    protocol: str
    predictions: np.ndarray
    """[M] int64: labels of the test images as predicted."""
    curve: tuple[float, ...] = ()
    """Of a probe with epochs: after every one, in percent; the last is the result."""


@dataclass(frozen=True)
class Result:
    """One row of `results.json`; accuracies in percent, standard deviation over `seeds` (ddof 1, 0
    for one seed).
    """

    representation: str
    probe: str
    labels: str
    top1_mean: float
    top1_std: float
    seeds: list[int]
    protocol: str
    top1_best: float | None = None
    """Of the best epoch, for a probe with epochs: chosen on the test images, and so no result."""


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
    job: ProbeJob, representation: Representation, config: EvalConfig, device: torch.device
) -> Score:
    """Fit one probe to the train images and score it on the test images."""
    train, targets = representation.train, representation.train_labels
    if job.labels != ALL:
        rows = draw_few_labels(targets, job.labels, job.seed)
        train, targets = train[rows], targets[rows]
    if job.probe == "linear":
        probe = fit_linear_probe(train, targets, seed=job.seed, device=device)
        protocol, predicted = probe.protocol, probe.predict(representation.test)
    else:
        k, temperature = config.knn_k, config.knn_temperature
        protocol = knn.PROTOCOL.format(k=k, temperature=temperature)
        predicted = knn.knn_classify(
            train, targets, representation.test, k=k, temperature=temperature
        )
    top1 = 100 * float(np.mean(predicted == representation.test_labels))
    return Score(representation.name, job.probe, job.labels, job.seed, top1, protocol, predicted)


def run_sgd_probe(
    name: str,
    backbone: nn.Module,
    images: ProbeImages,
    config: Config,
    device: torch.device,
    report: ProbeReport,
) -> Score:
    """The paper's probe of the representation `name`, which `backbone` makes, on all labels."""
    recipe = ProbeSettings() if config.eval.sgd_recipe == "cifar" else LARGE_BATCH
    settings = replace(
        recipe,
        epochs=config.eval.sgd_epochs,
        precision=choose_precision(config.train.precision, device),
    )
    seed = config.eval.seeds[0]
    curve = train_linear_probe(
        backbone, images, config.train, settings, device, seed=seed, report=report
    )
    protocol, predictions = settings.protocol, curve.predictions
    return Score(name, "linear_sgd", ALL, seed, curve.last, protocol, predictions, curve.top1)


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
    generator = numpy_generator(seed, "eval/labels")
    rows = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rows.append(generator.permutation(members)[: count_labels(few, len(members))])
    return np.sort(np.concatenate(rows))


def summarise(scores: Sequence[Score]) -> Iterator[Result]:
    """One row for all seeds of a representation, probe and number of labels, in order."""
    groups: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        groups.setdefault((score.representation, score.probe, score.labels), []).append(score)
    for group in groups.values():
        first, values = group[0], [score.top1 for score in group]
        yield Result(
            first.representation,
            first.probe,
            first.labels,
            round(float(np.mean(values)), 3),
            round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 3),
            [score.seed for score in group],
            first.protocol,
            round(max(first.curve), 3) if first.curve else None,
        )
