"""`python -m pipeline train CONFIG`: shards -> student, on the workers of `workers.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config import Config, TrainConfig
from pipeline.progress import progress_bar
from pipeline.record import (
    Recipe,
    Record,
    file_digest,
    find_complete,
    is_intact,
    require_record,
    write_record,
)
from pipeline.workers import (
    Report,
    Training,
    check_share,
    is_first_worker,
    run_training,
    workers_ready,
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
    parts = {"synthetic ": config.train.num_synthetic, "real ": config.train.num_real}
    check_share(config.ray, "train.global_batch", parts)
    folder = config.run_dir / "train"
    with workers_ready(config.ray):
        if is_first_worker():
            _check_shards(config)
        run_training(_training(config, recipe), config.ray)
        if is_first_worker():
            outputs = {
                "student.safetensors": file_digest(folder / "student.safetensors"),
                "pool_size": _pool_size(config),
            }
            write_record(folder, recipe, outputs)


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


def _training(config: Config, recipe: Recipe) -> Training:
    from pipeline.train.loop import steps_per_epoch

    shards = _open_shards(config)
    steps = config.train.epochs * steps_per_epoch(config.train, len(shards.real))
    folder = (config.run_dir / "train").resolve()
    settings = {
        "config": config.train.model_dump_json(),
        "checkpoint_interval_s": config.train.checkpoint_interval_s,
        "folder": str(folder),
        "real": str(shards.real.directory.resolve()),
        "pool": str(shards.synthetic.directory.resolve()),
        "pool_size": len(shards.synthetic),
        "fingerprint": recipe.fingerprint,
    }
    return Training(
        name="train",
        function=_train_worker,
        settings=settings,
        folder=folder,
        clock="samples_seen",
        total=steps * config.train.global_batch,
        unit="samples",
        note=_note,
        run_name=f"{config.name}-{recipe.fingerprint[:8]}",
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


def _train_worker(settings: dict[str, Any], device: Any, report: Report) -> None:
    """One worker: `loop.train` on its own readers."""
    from pipeline.train.data import TrainingShards
    from pipeline.train.loop import train

    config = TrainConfig.model_validate_json(settings["config"])
    config = config.model_copy(update={"checkpoint_interval_s": settings["checkpoint_interval_s"]})
    shards = TrainingShards(
        real=ShardReader(Path(settings["real"]), remedy=_REAL_REMEDY),
        synthetic=ShardReader(
            Path(settings["pool"]), remedy=_POOL_REMEDY, num_samples=settings["pool_size"]
        ),
        features=config.features,
    )
    train(config, shards, Path(settings["folder"]), device, settings["fingerprint"], report)
