"""A class for every pixel: UperNet on ADE20K's, pyramid pooling on the directions of NYUv2's
surface normals (Yang et al. 2022, Table 4).

The protocol is that of the code of Ericsson et al. 2021, which has it from Zhou et al. 2018 and
Goyal et al. 2019.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.finetune import FinetuneConfig
from pipeline.engine.gpu import choose_precision
from pipeline.eval.dense.angular_error import AngularError
from pipeline.eval.dense.codebook import expected_direction, find_directions, nearest_direction
from pipeline.eval.dense.feature_maps import FeatureMaps, dilate, fix_batch_norm
from pipeline.eval.dense.mean_iou import MeanIoU
from pipeline.eval.dense.pixelwise_sets import ADE20K_CLASSES, DenseExample, DenseImages
from pipeline.eval.dense.pyramid_pooling import PyramidPoolingHead, initialise
from pipeline.eval.dense.sizes import fit, pad_batch, resize_image, resize_labels, to_tensor
from pipeline.eval.dense.task import Task, TestReport, seeded
from pipeline.eval.dense.upernet import UperNetHead
from pipeline.samples.seeding import numpy_generator
from pipeline.student.backbone import Normalise, StudentResNet


@dataclass(frozen=True)
class DenseBatch:
    """Images and labels of a step, each at a size of its own, on the CPU."""

    images: tuple[Tensor, ...]
    """uint8 [3, H_i, W_i]."""
    labels: tuple[Tensor, ...]
    """As in `DenseExample`."""


class DenseNetwork(nn.Module):
    """Normalised images [B, 3, H, W] -> logits [B, K, h, w]."""

    def __init__(self, maps: FeatureMaps, head: nn.Module) -> None:
        super().__init__()
        self.maps = maps
        self.head = head

    def forward(self, images: Tensor) -> Tensor:
        """As the class says."""
        logits: Tensor = self.head(self.maps(images))
        return logits


class DenseTask(Task[DenseBatch]):
    """What both tasks share: sizes, the loss of labelled pixels, the mean prediction over sizes."""

    decays_all = False
    multiple: int
    """Heights and widths are multiples of it."""
    no_label: int
    """Value of labels where there is none."""

    def __init__(
        self,
        config: FinetuneConfig,
        backbone: StudentResNet,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
    ) -> None:
        self.config = config
        self.device = device
        self.train = DenseImages(config, "train")
        self.num_train = len(self.train)
        self._normalise = Normalise(mean, std).to(device)
        self._precision = choose_precision(config.precision, device)
        if config.batch_norm == "fixed":
            fix_batch_norm(backbone)
        with seeded(config.seed, "finetune/init", 0, device):
            self.network = self.build_network(backbone)
        self.network.to(device)
        if device.type == "cuda":  # the CPU's backward pass of a strided 1x1 kernel crashes with it
            self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @abstractmethod
    def build_network(self, backbone: StudentResNet) -> nn.Module:
        """The network, its head drawn from torch's global generator."""

    @abstractmethod
    def classes(self, labels: Tensor) -> Tensor:
        """Classes int64 [B, H, W] of labels [B, ·, H, W], -1 where there is none."""

    def load(self, rows: np.ndarray, step: int) -> DenseBatch:
        """Images with labels, all of one shorter side, some of them flipped; see `Task.load`."""
        generator = numpy_generator(self.config.seed, "finetune/views", step)
        short = int(generator.choice(self.config.short_sides))
        is_flipped = generator.random(len(rows)) < self.config.flip_p
        images, labels = [], []
        for row, flipped in zip(rows.tolist(), is_flipped, strict=True):
            example = self.train[row]
            size = fit(_size(example), short, self.config.long_side)
            image = to_tensor(resize_image(example.image, *size))
            label = resize_labels(example.labels, *size)
            images.append(image.flip(2) if flipped else image)
            labels.append(label.flip(2) if flipped else label)
        return DenseBatch(tuple(images), tuple(labels))

    def loss(self, batch: DenseBatch) -> Tensor:
        """Mean cross-entropy of the labelled pixels, at the resolution of the logits."""
        images = [self._normalise(image.to(self.device)[None])[0] for image in batch.images]
        labels = [label.to(self.device) for label in batch.labels]
        logits = self._logits(pad_batch(images, self.multiple, 0))
        padded = pad_batch(labels, self.multiple, self.no_label)
        classes = self.classes(resize_labels(padded, *logits.shape[2:]))
        total = F.cross_entropy(logits, classes, ignore_index=-1, reduction="sum")
        return total / (classes >= 0).sum().clamp(min=1)

    @torch.no_grad()
    def predict(self, example: DenseExample) -> Tensor:
        """Probabilities float32 [K, H, W], the mean of those at all `test_sides`."""
        total: Tensor | None = None
        height, width = _size(example)
        for short in self.config.test_sides:
            size = fit((height, width), short, self.config.long_side, self.multiple)
            image = to_tensor(resize_image(example.image, *size)).to(self.device)
            logits = self._logits(self._normalise(image[None]))
            logits = F.interpolate(logits, size=(height, width), mode="bilinear")
            found = logits[0].softmax(0)
            total = found if total is None else total.add_(found)
        assert total is not None
        return total.div_(len(self.config.test_sides))

    def _logits(self, images: Tensor) -> Tensor:
        is_half = self._precision != torch.float32
        with torch.autocast(self.device.type, self._precision, enabled=is_half):
            logits: Tensor = self.network(images)
        return logits.float()


class SegmentationTask(DenseTask):
    """The 150 classes of ADE20K."""

    multiple = 32
    no_label = -1

    def build_network(self, backbone: StudentResNet) -> nn.Module:
        """UperNet."""
        maps = FeatureMaps(backbone)
        head = UperNetHead(maps.channels, self.config.head_channels, ADE20K_CLASSES)
        initialise(head)
        return DenseNetwork(maps, head)

    def classes(self, labels: Tensor) -> Tensor:
        """The labels themselves."""
        return labels[:, 0]

    def evaluate(self, report: TestReport) -> dict[str, float]:
        """`mean_iou` in [0, 1], `pixel_accuracy` in percent."""
        self.network.eval()
        images, scores = DenseImages(self.config, "test"), MeanIoU(ADE20K_CLASSES, self.device)
        for row in range(len(images)):
            example = images[row]
            scores.add(self.predict(example).argmax(0), example.labels[0].to(self.device))
            report(row + 1)
        return scores.compute()


class NormalsTask(DenseTask):
    """The surface normals of NYUv2, by the mean of some directions."""

    multiple = 8
    no_label = 0

    def build_network(self, backbone: StudentResNet) -> nn.Module:
        """PSPNet; the directions are in its state, so that a resumed training has the same."""
        config = self.config
        directions = find_directions(self.train, config.normal_clusters, config.seed)
        dilate(backbone)
        maps = FeatureMaps(backbone)
        head = PyramidPoolingHead(maps.channels, config.head_channels, len(directions))
        initialise(head)
        network = DenseNetwork(maps, head)
        network.register_buffer("directions", directions)
        return network

    @property
    def directions(self) -> Tensor:
        """[K, 3] float32, unit vectors."""
        return self.network.get_buffer("directions")

    def classes(self, labels: Tensor) -> Tensor:
        """The nearest directions."""
        return nearest_direction(labels, self.directions)

    def evaluate(self, report: TestReport) -> dict[str, float]:
        """Angles in degrees and shares in percent; see `AngularError.compute`."""
        self.network.eval()
        images, scores = DenseImages(self.config, "test"), AngularError(self.device)
        for row in range(len(images)):
            example = images[row]
            found = expected_direction(self.predict(example), self.directions)
            scores.add(found, example.labels.to(self.device))
            report(row + 1)
        return scores.compute()


def _size(example: DenseExample) -> tuple[int, int]:
    return example.image.height, example.image.width
