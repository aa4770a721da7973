"""The student's backbone: what training learns, evaluation probes and users load with torchvision
alone.

Neighbours: `train/student.py` puts a projector on it, `eval/extract.py` computes representations
with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from pipeline.seeding import torch_generator
from pipeline.train_config import StudentConfig
from shards.errors import UserError

_TORCHVISION_WIDTH = 64


class ResNet18(ResNet):
    """torchvision's ResNet-18 without its classifier, at any width, with the CIFAR or the ImageNet
    stem.

    Keys and, at width 64, shapes of the state dict are torchvision's, `fc` left out. The CIFAR stem
    is a 3x3 convolution with stride 1 and no max-pool. The last BN of each residual branch starts
    at zero. Normalised images [B, 3, R, R] -> representation [B, 8 width].
    """

    def __init__(self, width: int = _TORCHVISION_WIDTH, stem: str = "cifar") -> None:
        self.width = width
        super().__init__(BasicBlock, [2, 2, 2, 2], zero_init_residual=True)
        if stem == "cifar":
            self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Identity()

    @property
    def representation_dim(self) -> int:
        """Width of the pooled representation: 8 x the first stage's."""
        return 8 * self.width

    def _make_layer(
        self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> Any:
        if planes == _TORCHVISION_WIDTH:  # the first stage: torchvision has set its own input width
            self.inplanes = self.width
        return super()._make_layer(
            block, planes * self.width // _TORCHVISION_WIDTH, blocks, stride, dilate
        )


def build_backbone(config: StudentConfig, seed: int) -> ResNet18:
    """An untrained backbone whose weights depend on `seed` only: the one that training starts
    from.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "backbone/init").initial_seed())
        return ResNet18(config.width, config.stem)


def load_backbone(config: StudentConfig, path: Path) -> ResNet18:
    """The trained backbone in `path`.

    Raises:
        UserError: if the file is missing, damaged or of another architecture.
    """
    backbone = ResNet18(config.width, config.stem)
    try:
        backbone.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(
            f"{path}: not this config's student ({reason}); delete its folder and run `make train`"
        ) from None
    return backbone


class Normalise(nn.Module):
    """uint8 or [0, 1] images [B, 3, R, R] -> (image - mean) / std per channel, channels-last."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Same shape, float32."""
        if images.dtype == torch.uint8:
            images = images.float() / 255
        normalised = (images - self.mean).div_(self.std)  # in place: new pages cost a CPU more
        return normalised.contiguous(memory_format=torch.channels_last)
