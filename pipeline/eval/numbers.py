"""What an evaluation has measured -> rows of the ledger, with all that they depend on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pipeline.config.root import Config
from pipeline.records.products import require_real
from pipeline.results.ledger import Number, append
from pipeline.results.lineage import lineage_of, read_lineage, split_digest

if TYPE_CHECKING:
    from pipeline.eval.domains.compare import DomainNumber
    from pipeline.eval.probes.probe import Score


def append_numbers(
    config: Config,
    fingerprint: str,
    scores: Sequence[Score],
    domains: Sequence[DomainNumber],
    device: str,
) -> None:
    """Append the numbers of the evaluation with `fingerprint` to the ledger of `paths.runs`."""
    real = require_real(config).outputs
    student, now = read_lineage(config, device), datetime.now(UTC)
    dataset, split = config.real.source, split_digest(real, "train", "test")
    numbers = [
        Number(
            **asdict(lineage_of(score.representation, config, student)),
            created_at=now,
            dataset=dataset,
            split_digest=split,
            task="classification",
            metric="top1",
            value=score.top1,
            probe=score.probe,
            labels=score.labels,
            seed=score.seed,
            representation=score.representation,
            protocol=score.protocol,
        )
        for score in scores
    ]
    numbers += [
        Number(
            **asdict(student),
            created_at=now,
            dataset=dataset,
            split_digest=split,
            task="domains",
            metric=number.metric,
            value=number.value,
            low=number.low,
            high=number.high,
            probe="",
            labels="",
            seed=config.eval.seeds[0],
            representation=number.representation,
            protocol=number.protocol,
        )
        for number in domains
    ]
    append(config.paths.runs, fingerprint, numbers)
