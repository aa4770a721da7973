"""The student S_θ: torchvision's ResNet-18 as backbone, and a projector (Yang et al. 2022, section 4)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, ResNet

from pipeline.config import StudentConfig

_TORCHVISION_WIDTH = 64


class ResNet18(ResNet):
    """torchvision's ResNet-18 without its classifier, at any width, with the CIFAR or the ImageNet stem.

    Keys and, at width 64, shapes of the state dict are torchvision's, `fc` left out. The CIFAR stem is a 3x3
    convolution with stride 1 and no max-pool. The last BN of each residual branch starts at zero.
    """

    def __init__(self, width: int = _TORCHVISION_WIDTH, stem: str = "cifar") -> None:
        self.width = width
        super().__init__(BasicBlock, [2, 2, 2, 2], zero_init_residual=True)
        if stem == "cifar":
            self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()  # type: ignore[assignment]
        else:
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Identity()  # type: ignore[assignment]

    @property
    def representation_dim(self) -> int:
        """Width of the pooled representation: 8 x the first stage's."""
        return 8 * self.width

    def _make_layer(self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False) -> Any:
        if planes == _TORCHVISION_WIDTH:  # the first stage: torchvision has set its own input width
            self.inplanes = self.width
        return super()._make_layer(block, planes * self.width // _TORCHVISION_WIDTH, blocks, stride, dilate)


def build_projector(in_features: int, out_features: int, num_layers: int) -> nn.Sequential:
    """[Linear(d -> d, no bias)-BN-ReLU] x (num_layers - 1), Linear(d -> out, no bias)."""
    layers: list[nn.Module] = []
    for _ in range(num_layers - 1):
        layers += [nn.Linear(in_features, in_features, bias=False), nn.BatchNorm1d(in_features), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(in_features, out_features, bias=False))


class Student(nn.Module):
    """Backbone and projector; downstream uses the backbone's output alone."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.backbone = ResNet18(config.width, config.stem)
        self.projector = build_projector(
            self.backbone.representation_dim, config.embedding_dim, config.projector_layers
        )

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images [B, 3, R, R] -> embedding [B, embedding_dim]."""
        embedding: Tensor = self.projector(self.backbone(images))
        return embedding
