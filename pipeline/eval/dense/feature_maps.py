"""The student as a source of feature maps: parts that stay fixed, dilation in place of strides.

Neighbours: `detector.py`, `pyramid_pooling.py` and `upernet.py` put heads on what is made here.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torchvision.models._utils import IntermediateLayerGetter

from pipeline.student.backbone import StudentResNet

LAYERS = ("layer1", "layer2", "layer3", "layer4")
_PARTS = {"stem": ("conv1", "bn1"), **{name: (name,) for name in LAYERS}}


class FixedBatchNorm(nn.BatchNorm2d):
    """Batch normalisation with the statistics, scale and shift that it has, in training, too."""

    def train(self, mode: bool = True) -> FixedBatchNorm:
        """Stays in evaluation mode."""
        return super().train(False)


def fix_batch_norm(module: nn.Module) -> None:
    """Replace all batch normalisation inside `module` by one that is not trained."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.BatchNorm2d:
                setattr(parent, name, _fixed(child))


def freeze(backbone: StudentResNet, last: str) -> None:
    """Fix weights and batch normalisation in place from the stem up to and with `last`, which is
    `none`, `stem`, or `layer1` … `layer4`.
    """
    if last == "none":
        return
    for part, names in _PARTS.items():
        for name in names:
            module = backbone.get_submodule(name)
            module.requires_grad_(False)
            if type(module) is nn.BatchNorm2d:
                setattr(backbone, name, _fixed(module))
            else:
                fix_batch_norm(module)
        if part == last:
            return


def dilate(backbone: StudentResNet) -> None:
    """Take the strides out of layer3 and layer4 and dilate what follows them, in place: their maps
    have the resolution of layer2's, and at every 2nd and 4th pixel the values they had before.

    torchvision's `replace_stride_with_dilation=[False, True, True]`, which its BasicBlock refuses
    (Yu and Koltun 2016; Zhao et al. 2017).
    """
    dilation = 1
    for name in ("layer3", "layer4"):
        for convolution in _convolutions(backbone.get_submodule(name)):
            has_stride = convolution.stride != (1, 1)
            if has_stride:
                convolution.stride = (1, 1)
            if convolution.kernel_size != (1, 1):
                reach = dilation if has_stride else 2 * dilation
                convolution.dilation = convolution.padding = (reach, reach)
        dilation *= 2


def layer_channels(backbone: StudentResNet) -> list[int]:
    """Widths of the maps of layer1 … layer4."""
    return [backbone.representation_dim // 8 * 2**index for index in range(len(LAYERS))]


class FeatureMaps(nn.Module):
    """Normalised images [B, 3, H, W] -> maps of layer1 … layer4 [B, C_k, H_k, W_k], finest first.

    With the ImageNet stem H_k = H / 4, 8, 16, 32, with the CIFAR stem H / 1, 2, 4, 8; a dilated
    backbone's two last maps are as large as its second.
    """

    def __init__(self, backbone: StudentResNet) -> None:
        super().__init__()
        self.channels = layer_channels(backbone)
        self.body = IntermediateLayerGetter(backbone, {name: name for name in LAYERS})

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """As the class says."""
        return list(self.body(images).values())


def _fixed(norm: nn.BatchNorm2d) -> FixedBatchNorm:
    fixed = FixedBatchNorm(norm.num_features, norm.eps).to(norm.weight)
    fixed.load_state_dict(norm.state_dict())
    return fixed.requires_grad_(False).eval()


def _convolutions(module: nn.Module) -> Iterator[nn.Conv2d]:
    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            yield child
