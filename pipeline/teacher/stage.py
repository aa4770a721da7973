"""`python -m pipeline teacher CONFIG`: real shards -> a teacher of one's own, under the run's
folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.root import Config
from pipeline.config.teacher import TeacherConfig
from pipeline.engine.launch import (
    Report,
    Training,
    check_share,
    is_first_worker,
    run_training,
    workers_ready,
)
from pipeline.records.products import real_shards
from pipeline.records.record import (
    Recipe,
    Record,
    current_commit,
    find_complete,
    installed_versions,
    require_record,
    write_record,
)
from pipeline.teacher.description import read_teacher_info
from pipeline.terminal.progress import console


def find(config: Config) -> Record | None:
    """Record of the teacher trained in this run, None if it is still to be trained."""
    record = find_complete(config.trained_teacher_folder, _recipe(config))
    if record is not None:
        read_teacher_info(config.trained_teacher_folder)
    return record


def run(config: Config) -> None:
    """Train the teacher, or go on where an interrupted training stopped."""
    folder, recipe = config.trained_teacher_folder, _recipe(config)
    parts = {"": config.teacher.global_batch}
    if config.teacher.path_length_weight:
        parts["path-length "] = config.teacher.global_batch // 2
    check_share(config.ray, "teacher.global_batch", parts)
    settings = {
        "config": config.teacher.model_dump_json(),
        "resolution": config.real.resolution,
        "compile": config.hardware.compile,
        "folder": str(folder.resolve()),
        "real": real_shards(config, "train"),
        "fingerprint": recipe.fingerprint,
        "origin": {
            "kind": "training",
            "config": recipe.config,
            "real_sha256": recipe.inputs["real"],
            "commit": current_commit(),
            "versions": installed_versions(),
        },
    }
    training = Training(
        name="teacher",
        function=_train_worker,
        settings=settings,
        folder=folder.resolve(),
        clock="images_seen",
        total=config.teacher.num_images,
        unit="images",
        note=_note,
        run_name=f"{config.name}-teacher-{recipe.fingerprint[:8]}",
        parts=(config.teacher.global_batch,),
    )
    with workers_ready(config.hardware.device):
        run_training(training, config.ray, config.hardware.device)
        if is_first_worker():
            info = read_teacher_info(folder)
            outputs = {
                "digests": info.digests,
                "images_seen": info.origin["images_seen"],
                "quality": info.origin["quality"],
            }
            write_record(folder, recipe, outputs)
    console.print(f"teacher   samples of it: {folder / 'samples.png'}", soft_wrap=True)
    if config.teacher_folder != folder:
        console.print(
            f"          this config distils {config.teacher.checkpoint}; to use the new one: "
            f"teacher.checkpoint={folder} name=…",
            soft_wrap=True,
        )


def describe(config: Config, record: Record) -> str:
    """One line for the terminal."""
    text = f"{config.trained_teacher_folder}, {record.outputs['images_seen']:,} images seen"
    quality = record.outputs.get("quality")
    if quality:
        text += f", {_distances(quality)} ({quality['feature_space']})"
    return text


def _recipe(config: Config) -> Recipe:
    real = require_record(config.run_dir / "real", "real", config.real)
    inputs = {"real": real.outputs["digests"]["train"]}
    return Recipe.of("teacher", config.teacher, inputs).without("checkpoint", "factory")


def _note(metrics: dict[str, float]) -> str:
    """The live view: losses, augmentation, and distances where they were just measured."""
    text = (
        f"G {metrics['loss_generator']:.2f}  D {metrics['loss_discriminator']:.2f}  "
        f"p {metrics['augment_p']:.2f}"
    )
    return f"{text}  {_distances(metrics)}" if "frechet_distance" in metrics else text


def _distances(quality: dict[str, Any]) -> str:
    return f"Fréchet {quality['frechet_distance']:.3g}  kernel {quality['kernel_distance']:.3g}"


def _train_worker(settings: dict[str, Any], device: Any, report: Report) -> None:
    """One worker: `train_loop.train_teacher` on its own reader."""
    from pipeline.teacher.training.loop import train_teacher
    from pipeline.teacher.training.step import TeacherTrainer
    from shards.verify import verified

    config = TeacherConfig.model_validate_json(settings["config"])
    reader = verified(settings["real"].open())
    train_teacher(
        TeacherTrainer(config, settings["resolution"], device, settings["compile"]),
        lambda rows: reader.gather("image", rows),
        len(reader),
        Path(settings["folder"]),
        settings["fingerprint"],
        report,
        settings["origin"],
    )
