"""`python -m pipeline teacher CONFIG`: real shards -> a teacher, under the run's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.hardware import CompileMode
from pipeline.config.root import Config
from pipeline.config.teacher import TeacherConfig
from pipeline.engine.launch import (
    Report,
    Training,
    check_share,
    is_first_process,
    run_training,
    workers_ready,
)
from pipeline.records.environment import current_commit, installed_versions
from pipeline.records.products import RealShards, TrainedTeacher, real_shards, require_real
from pipeline.records.record import Record, find_complete, write_record
from pipeline.records.spec import Spec
from pipeline.teacher.description import read_teacher_info
from pipeline.terminal.progress import console
from shards.errors import UserError


@dataclass(frozen=True)
class TeacherTraining:
    """What a worker is told."""

    config: TeacherConfig
    resolution: int
    folder: Path
    real: RealShards
    fingerprint: str
    compile: CompileMode
    origin: dict[str, Any]
    """Of the teacher, for `teacher.json`."""


def find(config: Config) -> Record[TrainedTeacher] | None:
    """Record of the teacher trained in this run, None if it is still to be trained."""
    record = find_complete(config.trained_teacher_folder, _spec(config), TrainedTeacher)
    if record is not None:
        read_teacher_info(config.trained_teacher_folder)
    return record


def run(config: Config) -> None:
    """Train the teacher, or go on where an interrupted training stopped."""
    folder, spec = config.trained_teacher_folder, _spec(config)
    parts = {"": config.teacher.global_batch}
    if config.teacher.path_length_weight:
        parts["path-length "] = config.teacher.global_batch // 2
    check_share(config.ray, "teacher.global_batch", parts)
    settings = TeacherTraining(
        config.teacher,
        config.real.resolution,
        folder.resolve(),
        real_shards(config, "train"),
        spec.fingerprint,
        config.hardware.compile,
        origin={
            "kind": "training",
            "config": spec.config,
            "real_sha256": spec.inputs["real"],
            "num_real": require_real(config).outputs.num_samples["train"],
            "commit": current_commit(),
            "versions": installed_versions(),
        },
    )
    training = Training(
        name="teacher",
        function=_train_worker,
        settings=settings,
        folder=folder.resolve(),
        clock="images_seen",
        total=config.teacher.num_images,
        unit="images",
        note=_note,
        run_name=f"{config.name}-teacher-{spec.fingerprint[:8]}",
        parts=(config.teacher.global_batch,),
    )
    with workers_ready(config.hardware.device):
        run_training(training, config.ray, config.hardware.device)
        if is_first_process():
            info = read_teacher_info(folder)
            seen, quality = info.origin["images_seen"], info.origin["quality"]
            write_record(folder, spec, TrainedTeacher(info.digests, seen, quality))
    console.print(f"teacher   samples of it: {folder / 'samples.png'}", soft_wrap=True)
    if config.teacher_folder != folder:
        console.print(
            f"          this config distils {config.teacher.checkpoint}; to use the new one: "
            f"teacher.checkpoint={folder} name=…",
            soft_wrap=True,
        )


def describe(config: Config, record: Record[TrainedTeacher]) -> str:
    """One line for the terminal."""
    text = f"{config.trained_teacher_folder}, {record.outputs.images_seen:,} images seen"
    quality = record.outputs.quality
    if quality:
        text += f", {_distances(quality)} ({quality['feature_space']})"
    return text


def _spec(config: Config) -> Spec:
    if config.real.limit is not None:
        raise UserError(
            "real.limit: a teacher learns from all images; train one without the limit, under "
            "another name, and give its folder as teacher.checkpoint"
        )
    if (side := config.real.resolution) & (side - 1):
        raise UserError(
            f"real.resolution: training a teacher needs a power of two, not {side}; train it "
            "on images of another size, under another name, and give its folder as "
            "teacher.checkpoint"
        )
    inputs = {"real": require_real(config).outputs.digests["train"]}
    return Spec.of("teacher", config.teacher, inputs).without("checkpoint", "factory")


def _note(metrics: dict[str, float]) -> str:
    """The live view: losses, augmentation, and distances where they were just measured."""
    text = (
        f"G {metrics['loss_generator']:.2f}  D {metrics['loss_discriminator']:.2f}  "
        f"p {metrics['augment_p']:.2f}"
    )
    return f"{text}  {_distances(metrics)}" if "frechet_distance" in metrics else text


def _distances(quality: dict[str, Any]) -> str:
    return f"Fréchet {quality['frechet_distance']:.3g}  kernel {quality['kernel_distance']:.3g}"


def _train_worker(training: TeacherTraining, device: Any, report: Report) -> None:
    """One worker: `train_loop.train_teacher` on its own reader."""
    from pipeline.teacher.training.loop import train_teacher
    from pipeline.teacher.training.step import TeacherTrainer
    from shards.verify import verified

    reader = verified(training.real.open())
    train_teacher(
        TeacherTrainer(training.config, training.resolution, device, training.compile),
        lambda rows: reader.gather("image", rows),
        len(reader),
        training.folder,
        training.fingerprint,
        report,
        training.origin,
    )
