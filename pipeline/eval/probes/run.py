"""Independent probes of one representation, one after the other or spread over a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.cluster.tasks import Listed, Places, run_tasks, share
from pipeline.config.eval import EvalConfig
from pipeline.config.root import Config
from pipeline.engine.device import choose_device
from pipeline.eval.extract import Representation
from pipeline.eval.probes.probe import ProbeJob, Score, run_job


def run_jobs(
    jobs: Sequence[ProbeJob], representation: Representation, config: Config
) -> Iterator[Score]:
    """Fit the probes of `jobs`; scores come in the order of the jobs, on Ray as well."""
    if config.ray.eval_workers == 0 or not jobs:
        device = choose_device(config.hardware.device)
        for job in jobs:
            yield run_job(job, representation, config.eval, device)
        return
    places = Places(config.ray, "eval", config.ray.eval_workers)
    shared = share(representation, places)  # once, however many probes
    done: dict[int, Score] = {}
    next_place = 0
    with run_tasks(
        _run_task, Listed(range(len(jobs))), lambda n: (jobs[n], shared, config.eval), places
    ) as ended:
        for place, answer in ended:
            done[place] = answer.get()
            while next_place in done:
                yield done.pop(next_place)
                next_place += 1


def _run_task(job: ProbeJob, representation: Representation, config: EvalConfig) -> Score:
    """Runs in a Ray worker, on one processor and, if it was lent one, a GPU."""
    import torch

    torch.set_num_threads(1)
    return run_job(job, representation, config, choose_device("auto"))
