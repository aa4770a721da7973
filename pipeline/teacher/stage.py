"""`python -m pipeline teacher CONFIG`: real shards -> a teacher of one's own, under the run's
folder.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.progress import console
from pipeline.record import (
    Recipe,
    Record,
    current_commit,
    find_complete,
    installed_versions,
    require_record,
    write_record,
)
from pipeline.teacher.architecture import read_teacher_info


def find(config: Config) -> Record | None:
    """Record of the teacher trained in this run, None if it is still to be trained."""
    record = find_complete(config.run_dir / "teacher", _recipe(config))
    if record is not None:
        read_teacher_info(config.run_dir / "teacher")
    return record


def run(config: Config) -> None:
    """Train the teacher, or go on where an interrupted training stopped."""
    from pipeline.device import choose_device
    from pipeline.teacher.checkpoint import save_teacher
    from pipeline.teacher.train import (
        TeacherTrainer,
        build_architecture,
        save_samples,
        train_teacher,
    )
    from shards.verify import open_verified

    folder, recipe = config.run_dir / "teacher", _recipe(config)
    real = require_record(config.run_dir / "real", "real", config.real)
    remedy = "delete it and run `make real` again"
    reader = open_verified(Path(real.outputs["folder"]) / "train", remedy=remedy)
    arch = build_architecture(config.teacher, config.real.resolution)
    trainer = TeacherTrainer.create(config.teacher, arch, choose_device(config.ray.device))
    train_teacher(
        trainer, lambda rows: reader.gather("image", rows), len(reader), folder, recipe.fingerprint
    )
    training = {
        "config": recipe.config,
        "images_seen": trainer.images_seen,
        "real_sha256": recipe.inputs["real"],
        "commit": current_commit(),
        "versions": installed_versions(),
    }
    info = save_teacher(folder, trainer.generator_ema, trainer.discriminator, training)
    save_samples(trainer.generator_ema, folder / "samples.png")
    write_record(folder, recipe, {"digests": info.digests, "images_seen": trainer.images_seen})
    console.print(f"teacher   samples of it: {folder / 'samples.png'}")
    if config.teacher.checkpoint is not None:
        console.print(
            f"          this config distils {config.teacher.checkpoint}; to use the new one: "
            f"ARGS='teacher.checkpoint={folder} name=…'"
        )


def describe(config: Config, record: Record) -> str:
    """One line for the terminal."""
    return f"{config.run_dir / 'teacher'}, {record.outputs['images_seen']:,} images seen"


def _recipe(config: Config) -> Recipe:
    real = require_record(config.run_dir / "real", "real", config.real)
    return Recipe.of("teacher", config.teacher, {"real": real.outputs["digests"]["train"]}).without(
        "checkpoint"
    )
