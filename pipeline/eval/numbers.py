"""What an evaluation has measured -> rows of the ledger; and the files of the run that show them.

Neighbours: `stage.py` writes the files; the report and other pages read the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pipeline.config.root import Config
from pipeline.records.products import require_pool, require_real
from pipeline.results.ledger import Benchmark, Measurement, Number, append
from pipeline.results.lineage import lineage_of, read_lineage, split_digest
from pipeline.results.query import group

CLASSIFICATION = "classification"
DOMAINS = "domains"
_DOMAIN_FIELDS = ("metric", "representation", "value", "low", "high", "protocol", "expected",
                  "p_value")  # fmt: skip


def append_numbers(
    config: Config,
    fingerprint: str,
    accuracies: Sequence[Measurement],
    domains: Sequence[Measurement],
    device: str,
) -> list[Number]:
    """Append the numbers of the evaluation with `fingerprint` to the ledger of `paths.runs`."""
    real = require_real(config).outputs
    student = read_lineage(config, device)
    note = _describe_sizes(config)
    accuracies, domains = (
        [replace(found, protocol=f"{found.protocol}{note}") for found in these]
        for these in (accuracies, domains)
    )
    accuracy, gap = (
        Benchmark(
            task=task,
            dataset=config.real.source,
            split_digest=split_digest(real, "train", "test"),
        )
        for task in (CLASSIFICATION, DOMAINS)
    )
    numbers = [
        Number.of(lineage_of(found.representation, config, student), accuracy, found)
        for found in accuracies
    ]
    numbers += [Number.of(student, gap, found) for found in domains]
    append(config.paths.runs, fingerprint, numbers)
    return numbers


def _describe_sizes(config: Config) -> str:
    """What a protocol says of sizes: nothing where all agree."""
    sizes = {config.view_size, config.real.resolution}
    if config.train.reads_pool:
        sizes.add(require_pool(config).outputs.resolution)
    if len(sizes) == 1:
        return ""
    return f"; images at {config.view_size} px, resized bicubically with antialiasing"


def accuracy_rows(
    numbers: Sequence[Number], curves: Mapping[str, Sequence[float]]
) -> list[dict[str, Any]]:
    """Content of `results.json`: a row for each representation, probe and kind of labels, with what
    its student learned from. Accuracies in percent, standard deviation over `seeds` (ddof 1, 0 for
    one seed).

    Args:
        numbers: of one evaluation.
        curves: representation -> accuracy after every epoch of the probe that has epochs. The best
            is chosen on the test images, and so no result.
    """
    student = next(number for number in numbers if number.representation == "student")
    rows = []
    for found in group([number for number in numbers if number.task == CLASSIFICATION]):
        first, summary = found.first, found.summary
        curve = curves.get(first.representation, ()) if first.probe == "linear_sgd" else ()
        rows.append({
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
