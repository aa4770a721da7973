"""Faster R-CNN with the student under a feature pyramid (Ren et al. 2015; Lin et al. 2017): all of
it torchvision's but the backbone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN

from pipeline.config.finetune import FinetuneConfig
from pipeline.eval.dense.feature_maps import LAYERS, layer_channels
from pipeline.student.backbone import StudentResNet

_NUM_LEVELS = len(LAYERS) + 1  # and one pooled from the coarsest
_ASPECT_RATIOS = (0.5, 1.0, 2.0)
_PROPOSALS = 1000


class HalfPyramid(nn.Module):
    """A feature pyramid computed in `precision` under autocast, whose maps leave it as float32.

    Not all of the detector is: torchvision decodes boxes in the type of its heads' outputs, and
    bfloat16 has 8 bits for a coordinate of up to 1333.
    """

    def __init__(self, pyramid: BackboneWithFPN, precision: torch.dtype) -> None:
        super().__init__()
        self.pyramid = pyramid
        self.out_channels = pyramid.out_channels
        self._precision = precision

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Normalised images [B, 3, H, W] -> maps [B, D, h, w] by level, finest first."""
        is_half = self._precision != torch.float32
        with torch.autocast(images.device.type, self._precision, enabled=is_half):
            maps = self.pyramid(images)
        return {name: features.float() for name, features in maps.items()}


def build_detector(
    backbone: StudentResNet,
    num_classes: int,
    config: FinetuneConfig,
    mean: Sequence[float],
    std: Sequence[float],
    precision: torch.dtype,
) -> FasterRCNN:
    """A detector whose new layers are drawn from torch's global generator.

    In training it takes images [3, H, W] in [0, 1] with `boxes` [N, 4] float32 (left, top, right,
    bottom in pixels) and `labels` [N] int64 from 1, and gives its losses; in evaluation it gives
    `boxes`, `labels` and `scores` of up to 100 detections for each image.
    """
    layers = {name: str(index) for index, name in enumerate(LAYERS)}
    pyramid = BackboneWithFPN(backbone, layers, layer_channels(backbone), config.head_channels)
    sides = [(config.smallest_anchor * 2**level,) for level in range(_NUM_LEVELS)]
    return FasterRCNN(
        HalfPyramid(pyramid, precision),
        num_classes=num_classes + 1,  # class 0 is the background
        min_size=list(config.short_sides),
        max_size=config.long_side,
        image_mean=list(mean),
        image_std=list(std),
        rpn_anchor_generator=AnchorGenerator(tuple(sides), (_ASPECT_RATIOS,) * _NUM_LEVELS),
        rpn_post_nms_top_n_train=_PROPOSALS,
    )


@contextmanager
def resizing_to(detector: FasterRCNN, side: int) -> Iterator[None]:
    """Inside the block, images are resized to a shorter side of `side` in evaluation, where
    torchvision takes the last of the training's sides.
    """
    sides = detector.transform.min_size
    detector.transform.min_size = (side,)
    try:
        yield
    finally:
        detector.transform.min_size = sides
