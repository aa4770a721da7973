"""Independent probes of one representation, one after the other or spread over a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline import cluster
from pipeline.config import Config
from pipeline.device import choose_device
from pipeline.eval.extract import Representation
from pipeline.eval.probes import ProbeJob, Score, run_job
from pipeline.eval_config import EvalConfig

_MAX_RETRIES = 4


def run_jobs(
    jobs: Sequence[ProbeJob], representation: Representation, config: Config
) -> Iterator[Score]:
    """Fit the probes of `jobs`; scores come in the order of the jobs, on Ray as well."""
    if config.ray.eval_workers == 0 or not jobs:
        device = choose_device(config.ray.device)
        for job in jobs:
            yield run_job(job, representation, config.eval, device)
        return
    yield from _run_on_ray(jobs, representation, config)


def _run_on_ray(
    jobs: Sequence[ProbeJob], representation: Representation, config: Config
) -> Iterator[Score]:
    cluster.connect(config.ray)
    import ray

    task = ray.remote(_run_task).options(
        num_cpus=1, num_gpus=config.ray.gpus_per_worker, max_retries=_MAX_RETRIES
    )
    shared = ray.put(representation)  # once, however many probes
    waiting = [task.remote(job, shared, config.eval) for job in jobs]
    running = set(waiting)
    try:
        for reference in waiting:
            while reference in running:
                running -= set(cluster.wait_for_any(running))
            yield ray.get(reference)
    finally:
        for reference in running:
            ray.cancel(reference)


def _run_task(job: ProbeJob, representation: Representation, config: EvalConfig) -> Score:
    """Runs in a Ray worker, on one processor and, if it was lent one, a GPU."""
    import torch

    torch.set_num_threads(1)
    return run_job(job, representation, config, choose_device("auto"))
