"""What a training reads, as plain values that travel to workers, which open it for themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.config.train import TrainConfig
from pipeline.records.products import PoolShards, RealShards
from pipeline.teacher.description import Sampling, Teacher, read_teacher_info

if TYPE_CHECKING:
    from pipeline.config.hardware import CompileMode
    from pipeline.teacher.interface import TeacherGenerator
    from pipeline.train.data import TrainingShards


@dataclass(frozen=True)
class TrainingInputs:
    """Real images, and synthetic samples from a pool or straight from the teacher."""

    real: RealShards
    pool: PoolShards | None
    """None for a training that renders, or has no synthetic images."""
    features: tuple[str, ...]
    """Names of the features to read."""
    teacher: Teacher
    sampling: Sampling
    """Which samples a training renders, and how many at once, in which arithmetic."""
    render_batch: int
    precision: str
    view_size: int
    """Side of the views, in pixels."""

    def open(
        self, config: TrainConfig, device: Any, compile_networks: CompileMode = "off"
    ) -> TrainingShards:
        """Readers, and the renderer on `device`; raises UserError if shards are missing."""
        from pipeline.train.data import TrainingShards
        from pipeline.train.online import OnlineSamples

        synthetic = None if self.pool is None else self.pool.open()
        if not config.renders:
            return TrainingShards(self.real.open(), synthetic, self.view_size, self.features)
        info = read_teacher_info(self.teacher.folder)
        info.check_sampling(self.sampling)
        features = info.select(self.features, "train.features")
        generator = self.load_generator(device)
        online = OnlineSamples(
            generator, self.sampling, features, self.render_batch, compile_networks
        )
        return TrainingShards(self.real.open(), online, self.view_size)

    def load_generator(self, device: Any) -> TeacherGenerator:
        """The frozen teacher on `device`, in the precision that `generate` names."""
        from pipeline.teacher.checkpoint import load_renderer

        return load_renderer(self.teacher, device, self.precision)
