"""`python -m pipeline train CONFIG`: shards -> student, on the workers of `engine/launch.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.hardware import CompileMode
from pipeline.config.method import EncodingConfig, OwnMethodConfig
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
from pipeline.records.digests import code_digest, file_digest
from pipeline.records.products import (
    Pool,
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
    GENERATOR_FILE,
    TEACHER_FILE,
    Sampling,
    Teacher,
    check_digest,
    read_teacher_info,
)
from pipeline.terminal.progress import console, progress_bar
from pipeline.train.inputs import TrainingInputs
from pipeline.train.monitor.names import ALIGNMENT, KNN_TOP1, UNIFORMITY
from pipeline.train.monitor.shards import MonitoredShards, monitored_shards
from pipeline.train.perceptual import resolve_perceptual
from pipeline.train.start import START_FILE, load_start, start_digest, write_start
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
    record = find_complete(config.run_dir / "train", _spec(config), Student)
    is_there = record is not None and is_intact(student_file(config), record.outputs.digest)
    return record if is_there else None


def run(config: Config) -> None:
    """Train the student, or go on where an interrupted training stopped."""
    spec = _spec(config)
    sizes = {"synthetic ": config.train.num_synthetic, "real ": config.train.num_real}
    parts = {name: size for name, size in sizes.items() if size}
    check_share(config.ray, "train.global_batch", parts)
    folder = config.run_dir / "train"
    if not config.train.method.trains:
        _take_discriminator(config, spec)
        return
    if isinstance(config.train.method, OwnMethodConfig):
        from pipeline.train.build import method_class

        method_class(config.train.method)  # before anything long begins
    if "perceptual" in spec.inputs:
        console.print(f"train     perceptual term: {spec.inputs['perceptual']}", soft_wrap=True)
    if not config.train.student.is_resnet:  # those take images of any size
        from pipeline.student.backbone import check_backbone

        check_backbone(config.train.student, config.view_size)
    inputs, monitored = _inputs(config), monitored_shards(config)
    init = None
    if is_first_process():  # the others wait for it where workers get ready
        from pipeline.train.loop import CHECKPOINT_FILE

        begin(folder, spec, CHECKPOINT_FILE)
        init = write_start(config, folder)
    with workers_ready(config.hardware.device):
        if is_first_process():
            _check_shards(inputs)
        training = _training(config, spec, inputs, monitored)
        run_training(training, config.ray, config.hardware.device)
        if is_first_process():
            student = Student(
                digest=file_digest(student_file(config)),
                pool_size=_pool_size(config, training.total),
                synthetic=_synthetic_origins(folder, spec),
                init=init,
            )
            write_record(folder, spec, student)


def _take_discriminator(config: Config, spec: Spec) -> None:
    """Its weights are the student; nothing is trained."""
    path = config.teacher_folder / DISCRIMINATOR_FILE
    info = read_teacher_info(config.teacher_folder)
    if info.discriminator is None:
        raise UserError(f"{config.teacher_folder}: this teacher has no discriminator")
    check_digest(config.teacher_folder, info, DISCRIMINATOR_FILE)
    write_atomic(student_file(config), path.read_bytes())
    student = Student(digest=file_digest(student_file(config)), pool_size=0)
    write_record(config.run_dir / "train", spec, student)


def describe(config: Config, record: Record[Student]) -> str:
    """One line for the terminal."""
    method, epochs = config.train.method, record.config["epochs"]
    how = f"{method.name}, {epochs} epochs" if method.trains else f"{method.name}, not trained"
    return f"{student_file(config)}, {how}"


def _spec(config: Config) -> Spec:
    train = config.train
    inputs = {"real": require_real(config).outputs.digests["train"]}
    if train.reads_pool:
        pool = require_pool(config)
        inputs |= _pool_inputs(config, pool)
    if train.needs_teacher:
        info = read_teacher_info(config.teacher_folder)
        network = GENERATOR_FILE if train.method.trains else DISCRIMINATOR_FILE
        inputs["teacher"] = info.digests.get(network, "")
    if train.renders:
        inputs["sampling"] = str(_sampling(config))
    if train.num_synthetic and train.method.reads_features and train.features == "all":
        inputs["features"] = ", ".join(_features(config))  # the shards may hold more than asked for
    if isinstance(train.method, EncodingConfig):
        inputs["perceptual"] = resolve_perceptual(train.method)
    if isinstance(train.method, OwnMethodConfig):
        inputs["code"] = code_digest(train.method.name, "train.method.name")
    if (digest := start_digest(config)) is not None:
        inputs["init"] = digest
    return Spec.of("train", train, inputs)


def _pool_inputs(config: Config, pool: Record[Pool]) -> dict[str, str]:
    """What the pool is by its spec; its bytes, which are others on another kind of machine, are
    in the product of the training.
    """
    inputs = {"pool": pool.outputs.key, "pool size": str(pool.outputs.num_samples)}
    if config.train.method.reads_features:
        inputs["feature type"] = pool.config["feature_dtype"]
    return inputs


def _synthetic_origins(folder: Path, spec: Spec) -> tuple[str, ...]:
    """Which synthetic samples the finished training in `folder` has seen, as its checkpoint says:
    digests of pools, or where samples were drawn.
    """
    import torch

    from pipeline.engine.state import load_state
    from pipeline.train.loop import CHECKPOINT_FILE

    state = load_state(folder / CHECKPOINT_FILE, torch.device("cpu"), spec.fingerprint)
    assert state is not None
    return tuple(state["synthetic"])


def _pool_size(config: Config, samples_seen: int) -> int:
    """Different synthetic samples that the student could see."""
    if config.train.reads_pool:
        return require_pool(config).outputs.num_samples
    steps = samples_seen // config.train.global_batch
    return steps * config.train.num_synthetic


def _sampling(config: Config) -> Sampling:
    generate = config.generate
    return Sampling(
        generate.seed,
        generate.noise,
        generate.truncation_psi,
        generate.truncation_cutoff,
        generate.classes,
    )


def _features(config: Config) -> tuple[str, ...]:
    """Names of the features to read."""
    train = config.train
    if not (train.num_synthetic and train.method.reads_features):
        return ()
    if train.features != "all":
        encodes = isinstance(train.method, EncodingConfig)  # which says itself what it needs
        has_teacher = (config.teacher_folder / TEACHER_FILE).exists()
        if W in train.features and has_teacher and not encodes:
            read_teacher_info(config.teacher_folder).select([W], "train.features")
        return train.features
    if train.renders:
        info = read_teacher_info(config.teacher_folder)
        return tuple(name for name, _ in info.select(config.generate.features))
    return require_pool(config).outputs.features


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
        features=_features(config),
        teacher=Teacher(config.teacher_folder, config.teacher.factory),
        sampling=_sampling(config),
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
