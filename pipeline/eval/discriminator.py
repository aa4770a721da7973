"""Features of the GAN's discriminator, a baseline that trains nothing (Yang et al. 2022, Eq. 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.config.method import DiscriminatorConfig
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from pipeline.student.view_size import bring_to_size
from pipeline.teacher.architectures.sizes import RGBA
from pipeline.teacher.checkpoint import read_discriminator
from pipeline.teacher.description import read_teacher_info
from pipeline.teacher.features import captured, pool_features
from pipeline.teacher.interface import TeacherDiscriminator


class DiscriminatorBackbone(nn.Module):
    """Normalised images [B, 3, V, V], brought to the discriminator's size -> features [B, D].

    `multi`: the outputs of all blocks above 4 px, pooled, and of the last but one layer; `single`:
    of that layer alone. It sees the standard deviation of its batch (Karras et al. 2018).
    """

    def __init__(
        self,
        discriminator: TeacherDiscriminator,
        level: Literal["multi", "single"],
        train: TrainConfig,
    ) -> None:
        super().__init__()
        self.discriminator = discriminator
        blocks = discriminator.blocks if level == "multi" else []
        self._names = [*blocks, discriminator.last]
        self.register_buffer("mean", torch.tensor(train.pixel_mean)[:, None, None])
        self.register_buffer("std", torch.tensor(train.pixel_std)[:, None, None])
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        arch = self.discriminator.arch
        images = 2 * bring_to_size(images * self.std + self.mean, arch.resolution) - 1
        if arch.image_channels == 1:
            images = images.mean(1, keepdim=True)
        elif arch.image_channels == RGBA:
            images = torch.cat([images, torch.ones_like(images[:, :1])], 1)  # opaque
        labels = images.new_zeros(len(images), arch.num_classes) if arch.num_classes else None
        with captured(self.discriminator.feature_root, self._names) as found:
            self.discriminator(images, labels)
        return pool_features({name: found[name] for name in self._names})


def load_discriminator_backbone(config: Config, path: Path) -> DiscriminatorBackbone:
    """The discriminator whose weights are in `path`, of the run's teacher.

    Raises:
        UserError: if the teacher has none, or another one.
    """
    assert isinstance(config.train.method, DiscriminatorConfig)
    info = read_teacher_info(config.teacher_folder)
    discriminator = read_discriminator(path, info)
    return DiscriminatorBackbone(discriminator, config.train.method.level, config.train)
