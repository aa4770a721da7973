"""Sizes at which a benchmark takes a moment."""

from __future__ import annotations

from pipeline.config.root import Config
from pipeline.teacher.architectures.stylegan2 import StyleGAN2Architecture


def tiny_arch(**changes: float) -> StyleGAN2Architecture:
    sizes = {"resolution": 16, "z_dim": 8, "w_dim": 12, "num_mapping_layers": 2}
    return StyleGAN2Architecture(**{**sizes, "channel_base": 128, "channel_max": 16, **changes})  # type: ignore[arg-type]


def tiny_config() -> Config:
    teacher = {"z_dim": 8, "w_dim": 8, "channel_base": 64, "channel_max": 8, "global_batch": 4}
    return Config.model_validate(
        {
            "name": "tiny",
            "real": {"resolution": 8},
            "teacher": teacher,
            "generate": {"samples_per_shard": 24},
            "train": {"global_batch": 8, "student": {"width": 4, "embedding_dim": 16}},
        }
    )
