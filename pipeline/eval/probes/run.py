"""Independent probes of one representation, one after the other or spread over a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.cluster import capacity, connection
from pipeline.cluster.tasks import InFlight
from pipeline.config.eval import EvalConfig
from pipeline.config.root import Config
from pipeline.engine.device import choose_device
from pipeline.eval.extract import Representation
from pipeline.eval.probes.probe import ProbeJob, Score, run_job

_MAX_RETRIES = 4


def run_jobs(
    jobs: Sequence[ProbeJob], representation: Representation, config: Config
) -> Iterator[Score]:
    """Fit the probes of `jobs`; scores come in the order of the jobs, on Ray as well."""
    if config.ray.eval_workers == 0 or not jobs:
        device = choose_device(config.hardware.device)
        for job in jobs:
            yield run_job(job, representation, config.eval, device)
        return
    yield from _run_on_ray(jobs, representation, config)


def _run_on_ray(
    jobs: Sequence[ProbeJob], representation: Representation, config: Config
) -> Iterator[Score]:
    connection.connect(config.ray)
    capacity.require(config.ray, "eval")
    import ray

    task = ray.remote(_run_task).options(
        **capacity.task_options(config.ray, "eval"), max_retries=_MAX_RETRIES
    )
    shared = ray.put(representation)  # once, however many probes
    bound = capacity.Limit(config.ray, "eval", config.ray.eval_workers)
    in_flight = InFlight[int](lambda index: task.remote(jobs[index], shared, config.eval))
    waiting = list(reversed(range(len(jobs))))
    done: dict[int, Score] = {}
    try:
        for index in range(len(jobs)):
            while index not in done:
                while waiting and len(in_flight) < bound.now:
                    in_flight.add(waiting.pop())
                done.update((place, ray.get(reference)) for reference, place in in_flight.ended())
            yield done.pop(index)
    finally:
        in_flight.cancel()


def _run_task(job: ProbeJob, representation: Representation, config: EvalConfig) -> Score:
    """Runs in a Ray worker, on one processor and, if it was lent one, a GPU."""
    import torch

    torch.set_num_threads(1)
    return run_job(job, representation, config, choose_device("auto"))
