"""lightly's VICReg step, as its documentation teaches: its transforms of one PIL image at a time in
a DataLoader, its projection head and loss, two passes through the network.

The same as ours are backbone, shape of the projector, strengths of the augmentation, optimiser,
images (held in memory) and batch. solo-learn, whose VICReg would be the second rival, does not
install: its last release wants torch 1.9.1, which has no wheels for Python 3.11.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from benchmarks.speed.view_rivals import as_pictures, lightly_settings
from pipeline.config.train import TrainConfig
from pipeline.student.backbone import build_backbone
from pipeline.train.optimizer import learning_rate


class _Pictures(Dataset[list[Tensor]]):
    """Two random views of every image [B, 3, R, R], uint8."""

    def __init__(self, images: Tensor, config: TrainConfig) -> None:
        transforms: Any = import_module("lightly.transforms.vicreg_transform")
        self.pictures = as_pictures(images)
        self.transform = transforms.VICRegTransform(**lightly_settings(config, images.shape[-1]))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> list[Tensor]:
        views: list[Tensor] = self.transform(self.pictures[index])
        return views


class LightlyVicReg:
    """Networks, loader and optimiser; `run` makes `num_steps` steps.

    Args:
        config: sizes, batch and optimiser; `global_batch` images, two views of each.
        images: uint8 [n, 3, R, R], n at least the batch.
        device: of the networks.
        num_steps: in a turn, which is a pass of the loader: its workers rest between turns, so that
            none has its batches made while another is timed.
        loader_workers: processes that make views; 0 makes them in this one.
        memory_format: ours is channels-last, which lightly leaves to its user.
    """

    def __init__(
        self,
        config: TrainConfig,
        images: Tensor,
        device: torch.device,
        *,
        num_steps: int,
        loader_workers: int,
        memory_format: torch.memory_format,
    ) -> None:
        self.device, self.format, student = device, memory_format, config.student
        heads: Any = import_module("lightly.models.modules.heads")
        losses: Any = import_module("lightly.loss.vicreg_loss")
        backbone = build_backbone(student, config.seed)
        width = backbone.representation_dim
        head = heads.VICRegProjectionHead(
            width, width, student.embedding_dim, student.projector_layers
        )
        self.model = nn.Sequential(backbone, head).to(device).train()
        self.model.to(memory_format=self.format)  # type: ignore[call-overload]
        self.loss = losses.VICRegLoss()
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            lr=learning_rate(config, 0),
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        pictures, batch = _Pictures(images, config), config.global_batch
        self.loader = DataLoader(
            pictures,
            batch_size=batch,
            sampler=RandomSampler(pictures, replacement=True, num_samples=num_steps * batch),
            num_workers=loader_workers,
            persistent_workers=loader_workers > 0,
            pin_memory=device.type == "cuda",
        )

    def run(self) -> None:
        """One turn."""
        for views in self.loader:
            first, second = (
                view.to(self.device, non_blocking=True, memory_format=self.format) for view in views
            )
            loss = self.loss(self.model(first), self.model(second))
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
