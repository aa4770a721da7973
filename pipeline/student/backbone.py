"""The student's backbone: what training learns, evaluation probes and users load with torchvision
or timm alone.

Neighbours: `libraries.py` has the networks that torchvision and timm know by name, `train/methods/`
put a projector on it, `extraction.py` computes representations with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from pipeline.config.student import StudentConfig
from pipeline.samples.seeding import torch_generator
from pipeline.student.libraries import FIELD, timm_network, torchvision_network
from shards.errors import UserError

_TORCHVISION_WIDTH = 64
_RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


class Backbone(nn.Module):
    """Normalised images [B, 3, R, R] -> representation [B, representation_dim]."""

    representation_dim: int
    classifiers: tuple[str, ...] = ("fc",)
    """Where the library has what is left out."""


def is_of_classifier(backbone: Backbone, name: str) -> bool:
    """Whether a tensor of that name in its library's file is of the classifier."""
    return name.startswith(tuple(f"{part}." for part in backbone.classifiers))


class StudentResNet(ResNet, Backbone):
    """torchvision's ResNet-18 or ResNet-50 without its classifier, at any width, with the CIFAR or
    the ImageNet stem.

    Keys and, at width 64, shapes of the state dict are torchvision's, `fc` left out. The CIFAR stem
    is a 3x3 convolution with stride 1 and no max-pool. The last BN of each residual branch starts
    at zero. The representation is 8 x width wide, of ResNet-50 32 x.
    """

    def __init__(
        self, architecture: str = "resnet18", width: int = _TORCHVISION_WIDTH, stem: str = "cifar"
    ) -> None:
        block, num_blocks = _RESNETS[architecture]
        self.width = width
        super().__init__(block, num_blocks, zero_init_residual=True)
        self.representation_dim = 8 * width * block.expansion
        if stem == "cifar":
            self.conv1 = nn.Conv2d(3, width, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        else:
            self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        nn.init.kaiming_normal_(self.conv1.weight, mode="fan_out", nonlinearity="relu")
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Identity()

    def _make_layer(
        self, block: Any, planes: int, blocks: int, stride: int = 1, dilate: bool = False
    ) -> Any:
        if planes == _TORCHVISION_WIDTH:  # the first stage: torchvision has set its own input width
            self.inplanes = self.width
        return super()._make_layer(
            block, planes * self.width // _TORCHVISION_WIDTH, blocks, stride, dilate
        )


def build_backbone(config: StudentConfig, seed: int) -> Backbone:
    """An untrained backbone whose weights depend on architecture and `seed` only: the one that
    training starts from.

    Raises:
        UserError: for an architecture that neither torchvision nor timm has, or an option that it
            does not take.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_generator(seed, "backbone/init").initial_seed())
        return _construct(config)


def load_backbone(
    config: StudentConfig, path: Path, remedy: str = "delete its folder and run `make train`"
) -> Backbone:
    """The trained backbone in `path`; `remedy` is for messages.

    Raises:
        UserError: if the file is missing, damaged or of another architecture.
    """
    backbone = _construct(config)
    try:
        backbone.load_state_dict(load_file(path))
    except (SafetensorError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160]
        raise UserError(f"{path}: not this config's student ({reason}); {remedy}") from None
    return backbone


def check_backbone(config: StudentConfig, side: int) -> None:
    """Try a fresh backbone on blank images, in training and in evaluation.

    Raises:
        UserError: unless it makes one tensor [B, representation_dim] of images [B, 3, R, R].
    """
    backbone = build_backbone(config, seed=0)
    for is_training in (True, False):
        try:
            with torch.no_grad():
                found = backbone.train(is_training)(torch.zeros(2, 3, side, side))
        except Exception as error:  # a network of others' may refuse the size in any way
            reason = " ".join(str(error).split())[:160] or type(error).__name__
            raise UserError(
                f"{FIELD}={config.architecture}: does not take images of {side} px ({reason}); "
                "choose another, another train.view_size, or train.student.options that suit, "
                "such as a ViT's img_size"
            ) from None
        wanted = (2, backbone.representation_dim)
        if not isinstance(found, Tensor) or found.shape != wanted:
            kind = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"{FIELD}={config.architecture}: gives {kind} for two images, not one tensor "
                f"{list(wanted)}; choose another"
            )


def _construct(config: StudentConfig) -> Backbone:
    if config.is_resnet:
        return StudentResNet(config.architecture, config.width, config.stem)
    library, _, name = config.architecture.rpartition(":")
    build = timm_network if library == "timm" else torchvision_network
    return cast(Backbone, build(name, config.options))


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
        normalised = (images - self.mean).div_(self.std)
        return normalised.contiguous(memory_format=torch.channels_last)
