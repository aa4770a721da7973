"""Independent probes of one subject on one set, one after the other or spread over a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from pipeline.config.eval import EvalConfig
from pipeline.engine.workers import Shared, Workers
from pipeline.eval.probes.probe import ProbeJob, Score, run_job
from pipeline.eval.probes.streamed_probe import RowReport
from pipeline.eval.representation import Representation


def run_jobs(
    jobs: Sequence[ProbeJob],
    folds: Sequence[Representation],
    config: EvalConfig,
    workers: Workers,
    report: RowReport,
) -> Iterator[tuple[ProbeJob, Score]]:
    """Fit the probes of `jobs`, each to the one of `folds` that it names, as they end; `report`
    hears of the rows that a streamed one reads in this process.
    """
    shared = workers.share(list(folds))  # once, however many probes
    heard = report if workers.are_here else None
    for place, score in workers.run(_fit, [(job, shared, config, heard) for job in jobs]):
        yield jobs[place], score


def _fit(
    job: ProbeJob,
    shared: Shared[list[Representation]],
    config: EvalConfig,
    heard: RowReport | None,
    device: torch.device,
) -> Score:
    """Runs in this process or in a worker."""
    return run_job(job, shared.get()[job.fold], config, device, heard)
