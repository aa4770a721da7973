"""`python -m pipeline train CONFIG`: shards -> student, in this process, under `torchrun`, or on
Ray Train.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline import cluster
from pipeline.config import Config
from pipeline.metrics import read_metrics
from pipeline.progress import console, progress_bar
from pipeline.record import (
    Recipe,
    Record,
    file_digest,
    find_complete,
    is_intact,
    require_record,
    write_record,
)
from shards.errors import UserError
from shards.reader import ShardReader
from shards.verify import verify_shards

_REAL_REMEDY = "run `make real` again"
_POOL_REMEDY = "run `make generate` again"


def find(config: Config) -> Record | None:
    """Record of the student trained in this run, None if it is still to be trained."""
    folder = config.run_dir / "train"
    record = find_complete(folder, _recipe(config))
    return record if is_intact(folder / "student.safetensors", record) else None


def run(config: Config) -> None:
    """Train the student, or go on where an interrupted training stopped."""
    recipe = _recipe(config)
    _check_workers(config)
    is_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
    if is_torchrun:
        _train_under_torchrun(config, recipe)
    elif config.ray.train_workers > 1 or cluster.is_external():
        _check_shards(config)
        _train_on_ray(config, recipe)
    else:
        _check_shards(config)
        _train_here(config, recipe)
    if os.environ.get("RANK", "0") == "0" or not is_torchrun:
        folder = config.run_dir / "train"
        outputs = {
            "student.safetensors": file_digest(folder / "student.safetensors"),
            "pool_size": _pool_size(config),
        }
        write_record(folder, recipe, outputs)
    if is_torchrun:
        import torch.distributed as dist

        dist.barrier()
        dist.destroy_process_group()


def describe(config: Config, record: Record) -> str:
    """One line for the terminal."""
    return f"{config.run_dir / 'train' / 'student.safetensors'}, {record.config['epochs']} epochs"


def _recipe(config: Config) -> Recipe:
    real = require_record(config.run_dir / "real", "real", config.real)
    pool = require_record(config.run_dir / "generate", "generate", config.generate)
    if pool.outputs["resolution"] != config.real.resolution:
        raise UserError(
            f"{pool.outputs['folder']}: shards of {pool.outputs['resolution']} px, but "
            "real.resolution is "
            f"{config.real.resolution}; run `make generate` with a teacher of that resolution"
        )
    inputs = {"real": real.outputs["digests"]["train"], "pool": pool.outputs["digest"]}
    return Recipe.of("train", config.train, inputs)


def _pool_size(config: Config) -> int:
    return int(require_record(config.run_dir / "generate", "generate").outputs["num_samples"])


def _open_shards(config: Config) -> Any:
    from pipeline.train.data import TrainingShards

    real = require_record(config.run_dir / "real", "real", config.real)
    pool = require_record(config.run_dir / "generate", "generate", config.generate)
    return TrainingShards(
        real=ShardReader(Path(real.outputs["folder"]) / "train", remedy=_REAL_REMEDY),
        synthetic=ShardReader(
            Path(pool.outputs["folder"]),
            remedy=_POOL_REMEDY,
            num_samples=pool.outputs["num_samples"],
        ),
    )


def _check_workers(config: Config) -> None:
    workers = int(os.environ.get("WORLD_SIZE", config.ray.train_workers))
    for name, part in (("synthetic", config.train.num_synthetic), ("real", config.train.num_real)):
        if part % workers:
            raise UserError(
                f"ray.train_workers: {workers} workers cannot share {part} {name} images per step; "
                "change train.global_batch"
            )


def _check_shards(config: Config) -> None:
    """Read every shard once against its sha256: a damaged one would lose samples silently or poison
    the student.
    """
    shards = _open_shards(config)
    with progress_bar("shards") as bar:
        task = bar.add_task(
            "verify", total=len(shards.real.shards) + len(shards.synthetic.shards), note=""
        )
        for reader, remedy in ((shards.real, _REAL_REMEDY), (shards.synthetic, _POOL_REMEDY)):
            for _ in verify_shards(reader.directory, reader.shards, f"delete it and {remedy}"):
                bar.advance(task)


def _train_here(config: Config, recipe: Recipe) -> None:
    """One worker: the loop in this process, with a progress bar."""
    from pipeline.device import choose_device
    from pipeline.train.loop import steps_per_epoch, train

    shards = _open_shards(config)
    total = (
        config.train.epochs
        * steps_per_epoch(config.train, len(shards.real))
        * config.train.global_batch
    )
    folder = config.run_dir / "train"
    folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("samples") as bar:
        task = bar.add_task("train", total=total, note="")

        def report(samples_seen: int, metrics: dict[str, float]) -> None:
            bar.update(task, completed=samples_seen, note=_note(metrics))

        train(
            config.train,
            shards,
            folder,
            choose_device(config.ray.device),
            recipe.fingerprint,
            report,
        )


def _note(metrics: dict[str, float]) -> str:
    """The live view: loss, and collapse as standard deviation and effective rank of synthetic /
    squeezed side.
    """
    return (
        f"loss {metrics['loss']:.1f} std "
        f"{metrics['synthetic_std']:.2f}/{metrics['squeezed_std']:.2f}"
        f" rank {metrics['synthetic_effective_rank']:.0f}/{metrics['squeezed_effective_rank']:.0f}"
    )


def _train_under_torchrun(config: Config, recipe: Recipe) -> None:
    import torch
    import torch.distributed as dist

    from pipeline.device import choose_device
    from pipeline.train.loop import train

    device = choose_device(config.ray.device)
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    folder = config.run_dir / "train"
    folder.mkdir(parents=True, exist_ok=True)
    if dist.get_rank() == 0:
        _check_shards(config)
    dist.barrier()

    def report(samples_seen: int, metrics: dict[str, float]) -> None:
        if dist.get_rank() == 0:
            console.print(f"{samples_seen:>12,} samples  {_note(metrics)}")

    train(config.train, _open_shards(config), folder, device, recipe.fingerprint, report)


def _train_on_ray(config: Config, recipe: Recipe) -> None:
    """Several workers or a cluster: Ray Train starts, watches and restarts them; the loop resumes
    by itself.
    """
    cluster.connect(config.ray)
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from pipeline.train.loop import METRICS_FILE, steps_per_epoch

    folder = (config.run_dir / "train").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    shards = _open_shards(config)
    total = (
        config.train.epochs
        * steps_per_epoch(config.train, len(shards.real))
        * config.train.global_batch
    )
    with progress_bar("samples") as bar:
        task = bar.add_task("train", total=total, note="")

        gpus = config.ray.gpus_per_worker
        trainer = TorchTrainer(
            _ray_worker,
            train_loop_config={
                "config": config.model_dump_json(),
                "checkpoint_interval_s": config.train.checkpoint_interval_s,
                "folder": str(folder),
                "shards": [
                    str(shards.real.directory.resolve()),
                    str(shards.synthetic.directory.resolve()),
                ],
                "num_synthetic": len(shards.synthetic),
                "fingerprint": recipe.fingerprint,
            },
            scaling_config=ScalingConfig(
                num_workers=config.ray.train_workers,
                use_gpu=gpus > 0,
                resources_per_worker={"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1},
            ),
            run_config=RunConfig(
                name=f"{config.name}-{recipe.fingerprint[:8]}",
                storage_path=str(folder / "ray"),
                failure_config=FailureConfig(max_failures=3),
            ),
        )
        show = lambda metrics: bar.update(  # noqa: E731
            task, completed=metrics["samples_seen"], note=_note(metrics)
        )
        with _following(folder / METRICS_FILE, show):
            trainer.fit()


@contextmanager
def _following(path: Path, show: Callable[[dict[str, float]], None]) -> Iterator[None]:
    """Pass the last line of the metrics that rank 0 writes to `show` every second, while the block
    runs.
    """
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(1):
            rows = read_metrics(path)
            if rows:
                show(rows[-1])

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _ray_worker(settings: dict[str, Any]) -> None:
    """One Ray Train worker: `loop.train` on its own readers."""
    import ray.train
    import ray.train.torch

    from pipeline.train.data import TrainingShards
    from pipeline.train.loop import train

    config = Config.model_validate_json(settings["config"]).train
    config = config.model_copy(update={"checkpoint_interval_s": settings["checkpoint_interval_s"]})
    real, pool = (Path(path) for path in settings["shards"])
    shards = TrainingShards(
        real=ShardReader(real, remedy=_REAL_REMEDY),
        synthetic=ShardReader(pool, remedy=_POOL_REMEDY, num_samples=settings["num_synthetic"]),
    )

    def report(samples_seen: int, metrics: dict[str, float]) -> None:
        ray.train.report({"samples_seen": samples_seen, **metrics})

    device = ray.train.torch.get_device()
    train(config, shards, Path(settings["folder"]), device, settings["fingerprint"], report)
