"""Objects of VOC2007: Faster R-CNN trained and tested (Yang et al. 2022, Table 4).

The protocol is that of detectron2 as Ericsson et al. 2021 configure it, down to the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.config.finetune import FinetuneConfig
from pipeline.engine.gpu import choose_precision
from pipeline.eval.dense.average_precision import AveragePrecision, Detections, Objects
from pipeline.eval.dense.detector import build_detector, resizing_to
from pipeline.eval.dense.feature_maps import fix_batch_norm
from pipeline.eval.dense.task import Task, TestReport, seeded
from pipeline.eval.dense.voc import CLASSES, DetectionExample, VocImages
from pipeline.samples.seeding import numpy_generator
from pipeline.student.backbone import StudentResNet


class DetectionTask(Task[list[DetectionExample]]):
    """A detector on `device`. The backbone, some parts of it frozen, becomes its own."""

    decays_all = True

    def __init__(
        self,
        config: FinetuneConfig,
        backbone: StudentResNet,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
    ) -> None:
        self._config = config
        self._device = device
        self._train = VocImages(config, "train")
        self.num_train = len(self._train)
        if config.batch_norm == "fixed":
            fix_batch_norm(backbone)
        precision = choose_precision(config.precision, device)
        with seeded(config.seed, "finetune/init", 0, device):
            detector = build_detector(backbone, len(CLASSES), config, mean, std, precision)
        self.network = self._detector = detector.to(device)

    def load(self, rows: np.ndarray, step: int) -> list[DetectionExample]:
        """Examples, some of them flipped; see `Task.load`."""
        generator = numpy_generator(self._config.seed, "finetune/flips", step)
        is_flipped = generator.random(len(rows)) < self._config.flip_p
        examples = [self._train[row] for row in rows.tolist()]
        return [
            flip(example) if flipped else example
            for example, flipped in zip(examples, is_flipped, strict=True)
        ]

    def loss(self, batch: list[DetectionExample]) -> Tensor:
        """Of the proposals and of the boxes: whether there is something, which class, and where."""
        images = [self._to_image(example) for example in batch]
        targets = [
            {
                "boxes": example.objects.boxes.to(self._device),
                "labels": example.objects.labels.to(self._device),
            }
            for example in batch
        ]
        losses: dict[str, Tensor] = self._detector(images, targets)
        return torch.stack(list(losses.values())).sum()

    @torch.no_grad()
    def evaluate(self, report: TestReport) -> dict[str, float]:
        """`AP`, `AP50` and `AP75` in percent."""
        self._detector.eval()
        images, scores = VocImages(self._config, "test"), AveragePrecision()
        for row in range(len(images)):
            example = images[row]
            with resizing_to(self._detector, self._config.test_sides[0]):
                (found,) = self._detector([self._to_image(example)])
            parts = {name: found[name].cpu() for name in ("boxes", "labels", "scores")}
            scores.add(Detections(**parts), example.objects)
            report(row + 1)
        return scores.compute()

    def _to_image(self, example: DetectionExample) -> Tensor:
        return example.image.to(self._device).float() / 255


def flip(example: DetectionExample) -> DetectionExample:
    """Left becomes right."""
    left, top, right, bottom = example.objects.boxes.unbind(1)
    width = example.image.shape[2]
    boxes = torch.stack([width - right, top, width - left, bottom], 1)
    objects: Objects = replace(example.objects, boxes=boxes)
    return DetectionExample(example.image.flip(2), objects)
