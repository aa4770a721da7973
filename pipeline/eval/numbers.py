"""What an evaluation has measured -> rows of the ledger; and the files of the run that show them.

Neighbours: `stage.py` writes the files; the report and other pages read the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pipeline.config.root import Config
from pipeline.records.products import require_pool, require_real
from pipeline.results.ledger import Benchmark, Measurement, Number, append
from pipeline.results.lineage import lineage_of, read_lineage, split_digest
from pipeline.results.query import group

if TYPE_CHECKING:
    from pipeline.eval.labelled import LabelledSet
    from pipeline.eval.probes.probe import Score

CLASSIFICATION = "classification"
DOMAINS = "domains"
SPREAD = "spread"
_DOMAIN_FIELDS = ("metric", "representation", "value", "low", "high", "protocol", "expected",
                  "p_value")  # fmt: skip


@dataclass(frozen=True)
class SetScores:
    """What was found on a labelled set."""

    labelled: LabelledSet
    scores: Sequence[Score]


def append_numbers(
    config: Config,
    fingerprint: str,
    found: Sequence[SetScores],
    domains: Sequence[Measurement],
    spread: Sequence[Measurement],
    device: str,
) -> list[Number]:
    """Append the numbers of the evaluation with `fingerprint` to the ledger of `paths.runs`."""
    student = read_lineage(config, device)
    numbers = []
    for one in found:
        labelled = one.labelled
        benchmark = Benchmark(
            task=CLASSIFICATION, dataset=labelled.name, split_digest=labelled.split_digest
        )
        for score in one.scores:
            lineage = lineage_of(score.top1.representation, config, student)
            numbers.append(Number.of(lineage, benchmark, _noted(config, score.top1)))
    real = require_real(config).outputs
    whole = split_digest(real, "train", "test")
    for task, measured in ((DOMAINS, domains), (SPREAD, spread)):
        benchmark = Benchmark(task=task, dataset=config.real.source, split_digest=whole)
        numbers += [Number.of(student, benchmark, _noted(config, number)) for number in measured]
    append(config.paths.runs, fingerprint, numbers)
    return numbers


def _noted(config: Config, found: Measurement) -> Measurement:
    """With what its protocol says of sizes."""
    return replace(found, protocol=f"{found.protocol}{_describe_sizes(config)}")


def _describe_sizes(config: Config) -> str:
    """What a protocol says of sizes: nothing where all agree."""
    sizes = {config.view_size, config.real.resolution}
    if config.train.reads_pool:
        sizes.add(require_pool(config).outputs.resolution)
    if len(sizes) == 1:
        return ""
    return f"; images at {config.view_size} px, resized bicubically with antialiasing"


def accuracy_rows(
    numbers: Sequence[Number], curves: Mapping[tuple[str, str], Sequence[float]]
) -> list[dict[str, Any]]:
    """Content of `results.json`: a row for each set, representation, probe and kind of labels, with
    what its student learned from. Accuracies in percent, standard deviation over `seeds` (ddof 1, 0
    for one seed).

    Args:
        numbers: of one evaluation.
        curves: set and representation -> accuracy after every epoch of the probe that has epochs.
            The best is chosen on the test images, and so no result.
    """
    rows: list[dict[str, Any]] = []
    student = next((number for number in numbers if number.representation == "student"), None)
    if student is None:
        return rows
    for found in group([number for number in numbers if number.task == CLASSIFICATION]):
        first, summary = found.first, found.summary
        is_sgd = first.probe == "linear_sgd"
        curve = curves.get((first.dataset, first.representation), ()) if is_sgd else ()
        rows.append({
            "set": first.dataset,
            "representation": first.representation,
            "probe": first.probe,
            "labels": first.labels,
            "top1_mean": round(summary.mean, 3),
            "top1_std": round(summary.std or 0.0, 3),
            "seeds": list(found.values),
            "protocol": first.protocol,
            "top1_best": round(max(curve), 3) if curve else None,
            "method": student.method,
            "variant": student.variant,
            "batch_norm": student.batch_norm,
            "pool_size": student.pool_size,
        })  # fmt: skip
    return rows


def domain_rows(numbers: Sequence[Number]) -> list[dict[str, Any]]:
    """Content of `domains.json`: a row for each measure of the two domains."""
    return [
        {name: getattr(number, name) for name in _DOMAIN_FIELDS}
        for number in numbers
        if number.task == DOMAINS
    ]
