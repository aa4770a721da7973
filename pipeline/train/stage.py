"""`python -m pipeline train CONFIG`: shards -> student, on the workers of `engine/launch.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.hardware import CompileMode
from pipeline.config.method import OwnMethodConfig
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from pipeline.engine.launch import (
    Report,
    Training,
    check_share,
    is_first_process,
    run_training,
    workers_ready,
)
from pipeline.records.digests import file_digest
from pipeline.records.products import (
    Student,
    is_intact,
    pool_shards,
    real_shards,
    require_pool,
    require_real,
    student_file,
)
from pipeline.records.record import Record, begin, find_complete, write_record
from pipeline.records.spec import Spec
from pipeline.teacher.description import (
    DISCRIMINATOR_FILE,
    Teacher,
    check_digest,
    is_finished,
    read_teacher_info,
)
from pipeline.terminal.progress import console, progress_bar
from pipeline.train.inputs import TrainingInputs
from pipeline.train.monitor.names import ALIGNMENT, KNN_TOP1, UNIFORMITY
from pipeline.train.monitor.shards import MonitoredShards, monitored_shards
from pipeline.train.spec import feature_names, sampling_of, training_spec
from pipeline.train.start import (
    START_FILE,
    check_start,
    load_start,
    write_start,
    written_start_digest,
)
from shards.atomic import write_atomic
from shards.errors import UserError
from shards.schema import W
from shards.verify import verify_digests

_SEEN = ((KNN_TOP1, "kNN", 1), (ALIGNMENT, "alignment", 2), (UNIFORMITY, "uniformity", 2))
"""What a monitor measures, how it is called, and its decimals."""


@dataclass(frozen=True)
class StudentTraining:
    """What a worker is told."""

    config: TrainConfig
    folder: Path
    inputs: TrainingInputs
    fingerprint: str
    compile: CompileMode
    monitored: MonitoredShards | None
    """Images by which the student is looked at meanwhile."""


def find(config: Config) -> Record[Student] | None:
    """Record of the student trained in this run, None if it is still to be trained."""
    record = find_complete(config.run_dir / "train", training_spec(config), Student)
    is_there = record is not None and is_intact(student_file(config), record.outputs.digest)
    return record if is_there else None


def check(config: Config) -> None:
    """Whether there is what a new training begins with, before other stages take their time.

    Raises:
        UserError: naming the field of a method, architecture or start that is missing, or a method
            or feature that wants what the teacher, or its pool, does not have.
    """
    if config.train.needs_teacher and is_finished(config.teacher_folder):
        read_teacher_info(config.teacher_folder).check_method(config.train.method.name)
    _check_features(config)
    if not config.train.method.trains:
        return
    if isinstance(config.train.method, OwnMethodConfig):
        from pipeline.train.build import method_class

        method_class(config.train.method)
    if not config.train.student.is_resnet:  # those take images of any size
        from pipeline.student.backbone import check_backbone

        check_backbone(config.train.student, config.view_size)
    check_start(config)


def _check_features(config: Config) -> None:
    train = config.train
    is_asked = train.num_synthetic > 0 and train.method.reads_features
    if train.features == "all" or not is_asked or not is_finished(config.teacher_folder):
        return
    info = read_teacher_info(config.teacher_folder)
    info.select(train.features, "train.features")
    kept = {W, *(name for name, _ in info.select(config.generate.features))}
    lacking = [name for name in train.features if name not in kept]
    if lacking and not train.renders:
        raise UserError(
            f"train.features: {lacking[0]!r} is not among generate.features, which are "
            f"{', '.join(sorted(kept - {W}))}; name it there, too"
        )


def run(config: Config) -> None:
    """Train the student, or go on where an interrupted training stopped."""
    check(config)
    spec = training_spec(config)
    sizes = {"synthetic ": config.train.num_synthetic, "real ": config.train.num_real}
    parts = {name: size for name, size in sizes.items() if size}
    check_share(config.ray, "train.global_batch", parts)
    folder = config.run_dir / "train"
    if not config.train.method.trains:
        _take_discriminator(config, spec)
        return
    if "perceptual" in spec.inputs:
        console.print(f"train     perceptual term: {spec.inputs['perceptual']}", soft_wrap=True)
    inputs, monitored = _inputs(config), monitored_shards(config)
    if is_first_process():  # the others wait for it where workers get ready
        from pipeline.train.loop import CHECKPOINT_FILE

        begin(folder, spec, CHECKPOINT_FILE)
        write_start(config, folder)
    with workers_ready(config.hardware.device):
        if is_first_process():
            _check_shards(inputs)
        training = _training(config, spec, inputs, monitored)
        run_training(training, config.ray, config.hardware.device)
        if is_first_process():
            write_record(folder, spec, _student(config, _saved(config, spec)))


def finish(config: Config) -> Record[Student]:
    """Make the student of an interrupted training, as its checkpoint has it, that of the run.

    Raises:
        UserError: if there is no such training under these settings.
    """
    from pipeline.student.backbone import build_backbone
    from pipeline.train.loop import CHECKPOINT_FILE, export_student

    spec, folder = training_spec(config), config.run_dir / "train"
    if not (folder / CHECKPOINT_FILE).exists():
        raise UserError(f"{folder}: no training was begun and saved; run `make train` first")
    begin(folder, spec, CHECKPOINT_FILE)
    state = _saved(config, spec)
    backbone, prefix = build_backbone(config.train.student, config.train.seed), "backbone."
    backbone.load_state_dict(
        {
            name.removeprefix(prefix): value
            for name, value in state["method"].items()
            if name.startswith(prefix)
        }
    )
    export_student(backbone, config.train, folder)
    return write_record(folder, spec, _student(config, state))


def _take_discriminator(config: Config, spec: Spec) -> None:
    """Its weights are the student; nothing is trained."""
    path = config.teacher_folder / DISCRIMINATOR_FILE
    info = read_teacher_info(config.teacher_folder)
    check_digest(config.teacher_folder, info, DISCRIMINATOR_FILE)
    write_atomic(student_file(config), path.read_bytes())
    student = Student(digest=file_digest(student_file(config)), pool_size=0)
    write_record(config.run_dir / "train", spec, student)


def describe(config: Config, record: Record[Student]) -> str:
    """One line for the terminal."""
    method, epochs = config.train.method, record.config["epochs"]
    how = f"{epochs} epochs" if method.trains else "not trained"
    if (stopped := record.outputs.stopped_at_epoch) is not None:
        how = f"stopped after {stopped:g} of {how}"
    return f"{student_file(config)}, {method.name}, {how}"


def _saved(config: Config, spec: Spec) -> dict[str, Any]:
    """The checkpoint in the run's folder."""
    import torch

    from pipeline.engine.state import load_state
    from pipeline.train.loop import CHECKPOINT_FILE

    path = config.run_dir / "train" / CHECKPOINT_FILE
    state = load_state(path, torch.device("cpu"), spec.fingerprint)
    assert state is not None
    return state


def _student(config: Config, state: dict[str, Any]) -> Student:
    """What the training in the run's folder has left, as its checkpoint says."""
    train, folder = config.train, config.run_dir / "train"
    num_real = require_real(config).outputs.num_samples["train"]
    epoch = state["samples_seen"] / train.global_batch / train.steps_per_epoch(num_real)
    return Student(
        digest=file_digest(student_file(config)),
        pool_size=_pool_size(config, state["samples_seen"]),
        synthetic=tuple(state["synthetic"]),
        init=written_start_digest(config, folder),
        stopped_at_epoch=epoch if epoch < train.epochs else None,
    )


def _pool_size(config: Config, samples_seen: int) -> int:
    """Different synthetic samples that the student could see."""
    if config.train.reads_pool:
        return require_pool(config).outputs.num_samples
    steps = samples_seen // config.train.global_batch
    return steps * config.train.num_synthetic


def _check_shards(inputs: TrainingInputs) -> None:
    """Check every shard's sha256: a damaged one would lose samples or poison the student."""
    readers = [inputs.real.open(), *(inputs.pool.open().readers if inputs.pool else [])]
    with progress_bar("shards") as bar:
        task = bar.add_task("verify", total=sum(len(reader.shards) for reader in readers), note="")
        for reader in readers:
            for _ in verify_digests(reader):
                bar.advance(task)


def _inputs(config: Config) -> TrainingInputs:
    return TrainingInputs(
        real=real_shards(config, "train"),
        pool=pool_shards(config) if config.train.reads_pool else None,
        features=feature_names(config),
        teacher=Teacher(config.teacher_folder, config.teacher.factory),
        sampling=sampling_of(config),
        render_batch=config.generate.render_batch,
        precision=config.generate.precision,
        view_size=config.view_size,
    )


def _training(
    config: Config, spec: Spec, inputs: TrainingInputs, monitored: MonitoredShards | None
) -> Training[StudentTraining]:
    steps = config.train.epochs * config.train.steps_per_epoch(len(inputs.real.open()))
    folder = (config.run_dir / "train").resolve()
    settings = StudentTraining(
        config.train, folder, inputs, spec.fingerprint, config.hardware.compile, monitored
    )
    return Training(
        name="train",
        function=_train_worker,
        settings=settings,
        folder=folder,
        clock="samples_seen",
        total=steps * config.train.global_batch,
        unit="samples",
        note=_Note(),
        run_name=f"{config.name}-{spec.fingerprint[:8]}",
        parts=tuple(n for n in (config.train.num_synthetic, config.train.num_real) if n),
    )


class _Note:
    """The live view: loss, collapse as standard deviation and last known effective rank of the
    first embeddings that the method watches, and what the monitor last saw.
    """

    def __init__(self) -> None:
        self._rank = ""
        self._seen = ""

    def __call__(self, metrics: dict[str, float]) -> str:
        names = [name.removesuffix("_std") for name in metrics if name.endswith("_std")][:2]
        std = "/".join(f"{metrics[f'{name}_std']:.2f}" for name in names)
        ranks = [metrics.get(f"{name}_effective_rank") for name in names]
        known = [f"{rank:.0f}" for rank in ranks if rank is not None]
        self._rank = f" rank {'/'.join(known)}" if known else self._rank
        seen = "".join(
            f" {label} {metrics[name]:.{digits}f}"
            for name, label, digits in _SEEN
            if name in metrics
        )
        self._seen = seen or self._seen
        return f"loss {metrics['loss']:.3g} std {std}{self._rank}{self._seen}"


def _train_worker(training: StudentTraining, device: Any, report: Report) -> None:
    """One worker: `loop.train` on its own readers."""
    from pipeline.train.build import build_method
    from pipeline.train.loop import train
    from pipeline.train.method import MethodContext

    config, inputs = training.config, training.inputs
    shards = inputs.open(config, device, training.compile)
    context = MethodContext(shards.block_channels, lambda: inputs.load_generator(device))
    method = build_method(config, context)
    if config.init is not None:
        load_start(method, training.folder / START_FILE)
    folder, fingerprint = training.folder, training.fingerprint
    compile_mode, monitored = training.compile, training.monitored
    readers = None if monitored is None else monitored.open()
    train(config, shards, method, folder, device, fingerprint, report, compile_mode, readers)
