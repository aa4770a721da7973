"""The student's backbone: what training learns, evaluation probes and users load with torchvision
or timm alone.

Neighbours: `train/methods/` put a projector on it, `eval/extract.py` computes representations with
it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd
from torchvision import models
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import StochasticDepth

from pipeline.config.student import StudentConfig
from pipeline.samples.seeding import torch_generator
from shards.errors import UserError

_FIELD = "train.student.architecture"
_TORCHVISION_WIDTH = 64
_RESNETS: dict[str, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
    "resnet18": (BasicBlock, [2, 2, 2, 2]),
    "resnet50": (Bottleneck, [3, 4, 6, 3]),
}


class Backbone(nn.Module):
    """Normalised images [B, 3, R, R] -> representation [B, representation_dim]."""

    representation_dim: int


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
        UserError: for an architecture that neither torchvision nor timm has.
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
                f"{_FIELD}={config.architecture}: does not take images of {side} px ({reason}); "
                "choose another, or another train.view_size"
            ) from None
        wanted = (2, backbone.representation_dim)
        if not isinstance(found, Tensor) or found.shape != wanted:
            kind = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"{_FIELD}={config.architecture}: gives {kind} for two images, not one tensor "
                f"{list(wanted)}; choose another"
            )


def _construct(config: StudentConfig) -> Backbone:
    if config.is_resnet:
        return StudentResNet(config.architecture, config.width, config.stem)
    library, _, name = config.architecture.rpartition(":")
    network = _timm_network(name) if library == "timm" else _torchvision_network(name)
    for module in network.modules():  # a step is a function of its number, randomness inside is not
        if isinstance(module, _DropoutNd | StochasticDepth):
            module.p = 0.0
    return network


def _torchvision_network(name: str) -> Backbone:
    """A classifier of torchvision's whose last linear layer passes its input on."""
    known = models.list_models(module=models)
    if name not in known:
        raise _unknown(name, known, "torchvision")
    network = models.get_model(name, weights=None)
    linear = [key for key, module in network.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise UserError(f"{_FIELD}={name}: has no linear classifier to leave out; choose another")
    parent, _, child = linear[-1].rpartition(".")
    network.representation_dim = network.get_submodule(linear[-1]).in_features
    setattr(network.get_submodule(parent), child, nn.Identity())
    return cast(Backbone, network)


def _timm_network(name: str) -> Backbone:
    try:
        import timm
    except ImportError:
        raise UserError(f"{_FIELD}=timm:{name}: timm is not installed; pip install timm") from None
    if not timm.is_model(name):
        raise _unknown(name, timm.list_models(), "timm")
    try:
        network = timm.create_model(name, pretrained=False, num_classes=0)
    except RuntimeError as error:  # of the part of the name behind the dot
        raise UserError(f"{_FIELD}=timm:{name}: {error}; leave the tag out") from None
    network.representation_dim = getattr(network, "head_hidden_size", network.num_features)
    return cast(Backbone, network)


def _unknown(name: str, known: Iterable[str], library: str) -> UserError:
    near = difflib.get_close_matches(name, list(known), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "see its documentation for the names"
    return UserError(f"{_FIELD}: {library} has no {name}; {hint}")


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
