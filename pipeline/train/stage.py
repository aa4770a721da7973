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
from pipeline.stores import pool_shards, real_shards
from pipeline.workers import (
    Report,
    Training,
    check_share,
    is_first_worker,
    run_training,
    workers_ready,
)
from shards.errors import UserError
from shards.verify import verify_digests


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
    if config.train.features == "all":  # the shards may hold more than was asked for
        inputs["features"] = ", ".join(pool.outputs["features"])
    return Recipe.of("train", config.train, inputs)


def _pool_size(config: Config) -> int:
    return int(require_record(config.run_dir / "generate", "generate").outputs["num_samples"])


def _open_shards(config: Config) -> Any:
    from pipeline.train.data import TrainingShards

    features = _features(config)
    return TrainingShards(real_shards(config, "train").open(), pool_shards(config).open(), features)


def _features(config: Config) -> tuple[str, ...]:
    """Names of the features to distil."""
    if config.train.features != "all":
        return config.train.features
    pool = require_record(config.run_dir / "generate", "generate", config.generate)
    return tuple(pool.outputs["features"])


def _check_shards(config: Config) -> None:
    """Read every shard once against its sha256: a damaged one would lose samples silently or poison
    the student.
    """
    shards = _open_shards(config)
    readers = [shards.real, *shards.synthetic.readers]
    with progress_bar("shards") as bar:
        task = bar.add_task("verify", total=sum(len(reader.shards) for reader in readers), note="")
        for reader in readers:
            for _ in verify_digests(reader):
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
        "real": real_shards(config, "train"),
        "pool": pool_shards(config),
        "features": _features(config),
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
        settings["real"].open(), settings["pool"].open(), tuple(settings["features"])
    )
    train(config, shards, Path(settings["folder"]), device, settings["fingerprint"], report)
