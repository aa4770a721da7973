"""What determines a student: its section of the config, and the digests of what it is trained on.

Neighbours: `stage.py` trains what is described here; nothing imports torch, since this is asked
before anything is done.
"""

from __future__ import annotations

from pipeline.config.method import EncodingConfig, OwnMethodConfig
from pipeline.config.root import Config
from pipeline.records.digests import code_digest
from pipeline.records.products import Pool, require_pool, require_real
from pipeline.records.record import Record
from pipeline.records.sets import require_set
from pipeline.records.spec import Spec
from pipeline.teacher.description import (
    DISCRIMINATOR_FILE,
    GENERATOR_FILE,
    TEACHER_FILE,
    Sampling,
    read_teacher_info,
)
from pipeline.train.perceptual import resolve_perceptual
from pipeline.train.start import start_digest
from shards.errors import UserError
from shards.schema import W


def training_spec(config: Config) -> Spec:
    """Section `train` and the digests of what is trained on.

    Raises:
        UserError: if something of that is not there.
    """
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
        inputs["sampling"] = str(sampling_of(config))
    if train.num_synthetic and train.method.reads_features and train.features == "all":
        # the shards may hold more than asked for
        inputs["features"] = ", ".join(feature_names(config))
    if isinstance(train.method, EncodingConfig):
        inputs["perceptual"] = resolve_perceptual(train.method)
    if isinstance(train.method, OwnMethodConfig):
        inputs["code"] = code_digest(train.method.name, "train.method.name")
    if train.patience:
        inputs["monitor"] = _monitored(config)
    if (digest := start_digest(config)) is not None:
        inputs["init"] = digest
    return Spec.of("train", train, inputs)


def _monitored(config: Config) -> str:
    """By what a training with patience is ended."""
    monitor = config.train.monitor
    real = require_set(config, monitor.set) if monitor.set else require_real(config)
    if not real.outputs.class_names:
        raise UserError(
            "train.patience: counts looks at kNN accuracy, and these images have no labels; name "
            "labelled ones by train.monitor.set, or leave patience out"
        )
    digests = " ".join(digest[:16] for _, digest in sorted(real.outputs.digests.items()))
    return f"every {monitor.every_epochs} epochs, {monitor.samples} samples of {digests}"


def _pool_inputs(config: Config, pool: Record[Pool]) -> dict[str, str]:
    """What the pool is by its spec; its bytes, which are others on another kind of machine, are
    in the product of the training.
    """
    inputs = {"pool": pool.outputs.key, "pool size": str(pool.outputs.num_samples)}
    if config.train.method.reads_features:
        inputs["feature type"] = pool.config["feature_dtype"]
    return inputs


def sampling_of(config: Config) -> Sampling:
    """How the teacher's samples are drawn."""
    generate = config.generate
    return Sampling(
        generate.seed,
        generate.noise,
        generate.truncation_psi,
        generate.truncation_cutoff,
        generate.classes,
    )


def feature_names(config: Config) -> tuple[str, ...]:
    """Names of the features to read; raises UserError for one that the teacher does not have."""
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
