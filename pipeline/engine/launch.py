"""How a training runs on one or many workers: in this process, under `torchrun`, or on Ray Train.

Trainers, the probe by SGD and fine-tuning hand in a top-level function and plain settings; it is
called with this worker's device and a function to report progress with, after `torch.distributed`
has been set up where there are several. Imports neither torch nor Ray before it is asked to run
something.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pipeline.cluster import capacity, connection, monitoring
from pipeline.config.ray import RayConfig
from pipeline.engine.metrics import read_metrics
from pipeline.terminal.progress import console, progress_bar
from shards.errors import UserError

Report = Callable[[int, dict[str, float]], bool]
"""Called with the clock and metrics after each logged step, on every worker, and if one likes after
others with no metrics; says whether to save now, because the cluster has announced that it will
take a worker's host away.
"""
S = TypeVar("S")
_LOOK_S = 1.0
_REPORT_S = 2.0
"""Ray Train takes a worker's report every two seconds, and lets it wait that brings more."""


@dataclass(frozen=True)
class Training(Generic[S]):
    """What the workers run and how its progress is shown."""

    name: str
    function: Callable[[S, Any, Report], None]
    """(settings, torch device, report) -> nothing; what it makes, it leaves in files."""
    settings: S
    folder: Path
    """Shared by all workers; `metrics.jsonl` in it is followed when they are elsewhere."""
    clock: str
    """Name of the position in `metrics.jsonl`, such as samples_seen."""
    total: int
    unit: str
    note: Callable[[dict[str, float]], str]
    run_name: str
    """Names the run on Ray: another one for other settings."""
    parts: tuple[int, ...] = ()
    """Of a global batch, which the workers must divide."""
    work: Literal["train", "eval"] = "train"
    """Where it runs: on `ray.train_workers`; `eval`: on one worker of `ray.eval_workers`."""


def is_torchrun() -> bool:
    """Whether `torchrun` started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def count_workers(config: RayConfig) -> int:
    """Workers that a training will have; of "all", which fits in any case, the fewest."""
    return int(
        os.environ.get("WORLD_SIZE", 1 if config.train_workers == "all" else config.train_workers)
    )


def is_first_process() -> bool:
    """Whether this process speaks and keeps records: the only one, or torchrun's rank 0."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def workers_ready(device: str) -> Iterator[None]:
    """Within the block, torchrun's processes can wait for one another; nothing elsewhere."""
    if not is_torchrun():
        yield
        return
    import torch
    import torch.distributed as dist

    from pipeline.engine.device import choose_device

    is_cuda = choose_device(device).type == "cuda"
    if is_cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if is_cuda else "gloo")
    yield
    dist.barrier()
    dist.destroy_process_group()


def run_training(training: Training[S], config: RayConfig, device: str) -> None:
    """Run it to the end on the workers that `config` asks for; `device` as `hardware.device`, of
    which Ray's workers ask Ray.
    """
    training.folder.mkdir(parents=True, exist_ok=True)
    if is_torchrun():
        if training.work == "eval":
            refuse_torchrun(training.name.strip())
        _run_under_torchrun(training, device)
    elif _is_for_ray(training, config):
        _run_on_ray(training, config)
    else:
        _run_here(training, device)


def _is_for_ray(training: Training[Any], config: RayConfig) -> bool:
    if training.work == "train":
        return config.train_workers != 1 or connection.is_external()
    wants_worker = config.eval_workers != 0 or connection.is_external()
    return wants_worker and not connection.is_in_task()


def check_share(config: RayConfig, field: str, parts: dict[str, int]) -> None:
    """Raise `UserError` unless the workers divide each of the `parts` of a global batch."""
    workers = count_workers(config)
    for name, part in parts.items():
        if part % workers:
            raise UserError(
                f"ray.train_workers: {workers} workers cannot share {part} {name}images per step; "
                f"change {field}"
            )


def refuse_torchrun(name: str) -> None:
    """Raise `UserError` under torchrun, for what one process does."""
    if is_torchrun():
        raise UserError(f"{name}: runs in one process; start it without torchrun")


def _run_here(training: Training[S], device: str) -> None:
    from pipeline.engine.device import choose_device

    with progress_bar(training.unit) as bar:
        task = bar.add_task(training.name, total=training.total, start=False, note="")

        def report(position: int, metrics: dict[str, float]) -> bool:
            shown = min(position, training.total)
            bar.start_task(task)  # of a training that goes on, what was done before is no rate
            if metrics:
                bar.update(task, note=training.note(metrics))
            bar.update(task, completed=shown)
            return False

        training.function(training.settings, choose_device(device), report)


def _run_under_torchrun(training: Training[S], wanted: str) -> None:
    import torch
    import torch.distributed as dist

    from pipeline.engine.device import choose_device

    device = choose_device(wanted)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))

    def report(position: int, metrics: dict[str, float]) -> bool:
        if dist.get_rank() == 0:
            console.print(f"{position:>12,} {training.unit}  {training.note(metrics)}")
        return False

    training.function(training.settings, device, report)


def _run_on_ray(training: Training[S], config: RayConfig) -> None:
    """Ray Train starts, watches and restarts the workers; the training resumes by itself."""
    connection.connect(config)
    from ray.train import FailureConfig, RunConfig, ScalingConfig, WorkerGroupError
    from ray.train.torch import TorchTrainer

    num_workers = 1
    if training.work == "train":
        num_workers = capacity.choose_train_workers(config, training.parts)
    capacity.require(config, training.work, num_workers)
    with progress_bar(training.unit) as bar:
        task = bar.add_task(training.name, total=training.total, start=False, note="")
        trainer: Any = TorchTrainer(
            _ray_worker,  # type: ignore[arg-type]  # Ray Train's older version returns nothing
            train_loop_config={
                "function": training.function,
                "settings": training.settings,
                "clock": training.clock,
                "run_name": training.run_name,
            },
            scaling_config=ScalingConfig(
                num_workers=num_workers,
                use_gpu=config.gpus_per_worker > 0,
                resources_per_worker=capacity.needs(config, training.work),
                placement_strategy=config.placement.upper(),
            ),
            run_config=RunConfig(
                name=training.run_name,
                storage_path=str((training.folder / "ray").resolve()),
                failure_config=FailureConfig(max_failures=3),
            ),
        )

        def show() -> None:
            rows = read_metrics(training.folder / "metrics.jsonl")
            if rows:
                bar.start_task(task)
                shown = min(rows[-1][training.clock], training.total)
                bar.update(task, completed=shown, note=training.note(rows[-1]))

        try:
            mistake = watch(trainer.fit, show).return_value
        except WorkerGroupError as error:
            failures = error.worker_failures.values()
            mistake = next((str(each) for each in failures if isinstance(each, UserError)), None)
            if mistake is None:
                raise
        if mistake is not None:
            raise UserError(mistake)


def _ray_worker(packed: dict[str, Any]) -> str | None:
    """One Ray Train worker. Of a worker that is alone it returns a user's mistake, which another
    try would not mend; of several it is raised, so that Ray ends the others.
    """
    import ray.train
    import ray.train.torch
    import torch

    device = ray.train.torch.get_device()
    is_first = ray.train.get_context().get_world_rank() == 0
    is_alone = ray.train.get_context().get_world_size() == 1  # else all report as often
    clock, work = packed["clock"], packed["run_name"]
    before: list[int] = []
    reported_at: list[float] = []

    def report(position: int, metrics: dict[str, float]) -> bool:
        if not metrics:
            return False
        if is_first:
            monitoring.count("samples_trained", position - before[-1] if before else 0, work)
            before[:] = [position]
            if "loss" in metrics:
                monitoring.show("loss", metrics["loss"], work)
        if "loader_wait_share" in metrics:
            monitoring.show("loader_wait_share", metrics["loader_wait_share"], work)
        if device.type == "cuda":
            monitoring.show("gpu_memory_bytes", torch.cuda.max_memory_allocated(device), work)
        now = time.monotonic()
        if is_alone and reported_at and now - reported_at[-1] < _REPORT_S:
            return False
        reported_at[:] = [now]
        ray.train.report({clock: position, **metrics})
        return ray.train.get_preemption_info() is not None

    try:
        packed["function"](packed["settings"], device, report)
    except UserError as error:
        if not is_alone:
            raise
        return str(error)
    return None


def watch(work: Callable[[], Any], look: Callable[[], None]) -> Any:
    """What `work` returns, while this thread calls `look` every second and once at the end.

    Signals are answered here: in the main thread Ray Train takes Ctrl-C for itself, also later on.
    """
    ended = Future[Any]()

    def run() -> None:
        try:
            ended.set_result(work())
        except BaseException as error:
            ended.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not ended.done():
        wait([ended], timeout=_LOOK_S)
        look()
    return ended.result()
