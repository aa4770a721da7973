"""A student's training on a pretended GPU: nothing in its steps waits for the device."""

from __future__ import annotations

from contextlib import closing

import pytest

from pipeline.config.train import TrainConfig
from pipeline.train.build import build_method, method_class
from pipeline.train.data import BatchStream, TrainingShards
from pipeline.train.method import MethodContext
from pipeline.train.online import OnlineSamples
from pipeline.train.step import StudentTrainer
from tests.support.fake_cuda import FAKE_CUDA, fake_cuda
from tests.support.tiny_shards import (
    BLOCKS,
    RESOLUTION,
    TRAIN_CONFIG,
    pool_recipe,
    random_generator,
)
from tests.support.trainings import METHODS, changed, config_of, shards_of

pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda':UserWarning")


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_student_training_never_waits_in_a_step(training_shards: TrainingShards, name: str) -> None:
    config = config_of(name)
    assert waits_of_steps(config, shards_of(config, training_shards)) == []


def test_student_training_on_samples_rendered_online_never_waits_in_a_step(
    training_shards: TrainingShards,
) -> None:
    config = changed(TRAIN_CONFIG, source="online")
    with fake_cuda():
        generator = random_generator().to(FAKE_CUDA)
    online = OnlineSamples(generator, pool_recipe().sampling, BLOCKS, 4)
    assert waits_of_steps(config, TrainingShards(training_shards.real, online, RESOLUTION)) == []


def waits_of_steps(config: TrainConfig, shards: TrainingShards) -> list[str]:
    """What waits in a few steps of a training in float32, after everything has been set up."""
    config = changed(config, precision="float32")
    with fake_cuda() as cuda:
        context = MethodContext(shards.block_channels, lambda: random_generator().to(FAKE_CUDA))
        trainer = StudentTrainer(config, build_method(config, context), FAKE_CUDA)
        stream = BatchStream(
            shards, config, method_class(config.method), FAKE_CUDA, rank=0, num_workers=1
        )
        cuda.waits.clear()
        with closing(stream):
            for step in range(4):
                output = trainer.losses(stream.batch(step), step)
                trainer.update(output, step, epoch=0)
        return list(cuda.waits)
