"""All probes of one representation: linear and kNN, on all labels and on a few per class."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from pipeline.config import Config, EvalConfig
from pipeline.eval import knn, linear_probe
from pipeline.eval.extract import Representation
from pipeline.eval.labelled_views import LabelledImages
from pipeline.eval.linear_sgd import (
    LARGE_BATCH,
    ProbeReport,
    ProbeSettings,
    train_linear_probe,
)
from pipeline.gpu import choose_precision
from pipeline.seeding import numpy_generator


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


def draw_few_labels(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Rows of `per_class` samples of every class (all of a smaller class), sorted; a function of
    `seed` only.
    """
    generator = numpy_generator(seed, "eval/labels")
    rows = [
        generator.permutation(np.flatnonzero(labels == label))[:per_class]
        for label in np.unique(labels)
    ]
    return np.sort(np.concatenate(rows))


def run_probes(representation: Representation, config: EvalConfig) -> Iterator[Result]:
    """Yield the results of the probes that want nothing but `representation`. On all labels nothing
    is drawn, so one seed suffices.
    """
    few = f"{config.labels_per_class}_per_class"
    for labels, seeds in (("all", config.seeds[:1]), (few, config.seeds)):
        for probe in (name for name in ("linear", "knn") if name in config.probes):
            scores = [_score(representation, probe, labels, config, seed) for seed in seeds]
            spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else 0.0
            protocol = linear_probe.PROTOCOL if probe == "linear" else _knn_protocol(config)
            yield Result(
                representation.name,
                probe,
                labels,
                round(float(np.mean(scores)), 3),
                round(spread, 3),
                list(seeds),
                protocol,
            )


def run_sgd_probe(
    name: str,
    backbone: nn.Module,
    images: LabelledImages,
    config: Config,
    device: torch.device,
    report: ProbeReport,
) -> Result:
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
    last, best = round(curve.last, 3), round(curve.best, 3)
    return Result(name, "linear_sgd", "all", last, 0.0, [seed], settings.protocol, best)


def _score(
    representation: Representation, probe: str, labels: str, config: EvalConfig, seed: int
) -> float:
    train, targets = representation.train, representation.train_labels
    if labels != "all":
        rows = draw_few_labels(targets, config.labels_per_class, seed)
        train, targets = train[rows], targets[rows]
    if probe == "linear":
        predicted = linear_probe.linear_probe(train, targets, representation.test, seed=seed)
    else:
        predicted = knn.knn_classify(
            train, targets, representation.test, k=config.knn_k, temperature=config.knn_temperature
        )
    return 100 * float(np.mean(predicted == representation.test_labels))


def _knn_protocol(config: EvalConfig) -> str:
    return knn.PROTOCOL.format(k=config.knn_k, temperature=config.knn_temperature)
