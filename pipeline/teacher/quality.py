"""Feature spaces in which a teacher's images are compared with the real ones, by
`measures/distances.py`.

In the feature space "inception" the Fréchet and the kernel distance are FID and KID; its weights
are a file that the user has, nothing is downloaded. Without it the space is "random-convnet", a
network that was never trained (as in Naeem et al. 2020, "Reliable fidelity and diversity metrics"):
its distances rank generators of one data set but are not FID and compare with no other space's. On
digits and CIFAR-10 at 16 and 32 px, over growing noise, blur, shuffled patches, averaged pairs and
lost classes or images, the mean rank correlation with the strength is at least 0.99 for the Fréchet
and 0.97 for the kernel distance. Variants (average pooling, centred filters, features scaled by 1/f
noise), measured at 16 px, differed by at most 0.03.
"""

from __future__ import annotations

import io
import pickle
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.samples.seeding import torch_generator
from shards.errors import UserError

_STAGE_WIDTHS = (32, 64, 64, 64)
_INCEPTION_LAYER = "2048"  # torch-fidelity's name of the last pooled features


@dataclass(frozen=True)
class FeatureSpace:
    """A frozen network with the name that belongs beside every distance measured in it."""

    name: str
    num_features: int
    network: nn.Module

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features [B, D] float32 of `images` [B, 1 or 3, R, R] uint8 on the network's device.

        Grey images are repeated to three channels.

        Raises:
            ValueError: for another type or shape.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            found = f"{list(images.shape)} {images.dtype}"
            raise ValueError(f"images are {found}, not [B, 1 or 3, R, R] torch.uint8")
        features: Tensor = self.network(images.expand(-1, 3, -1, -1))
        return features


def build_feature_space(weights: Path | None, device: torch.device) -> FeatureSpace:
    """The feature space "inception" for `weights`, else "random-convnet", on `device`.

    `weights` is torch-fidelity's file of the original FID network, weights-inception-2015-12-05;
    it is read as tensors only. "random-convnet" is the same on every call, whatever the state of
    torch's own generator, which it leaves alone.

    Raises:
        UserError: if `weights` is missing or holds something else.
    """
    if weights is None:
        network: nn.Module = RandomConvNet()
        name, num_features = "random-convnet", 2 * (3 + sum(_STAGE_WIDTHS))
    else:
        network = _Inception(weights)
        name, num_features = "inception", int(_INCEPTION_LAYER)
    return FeatureSpace(name, num_features, network.eval().requires_grad_(False).to(device))


class RandomConvNet(nn.Module):
    """uint8 images [B, 3, R, R] -> float32 [B, 454]: mean and deviation over positions of the
    pixels and of four stages of 3x3 convolution, ReLU and max-pool with He-normal weights.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch_generator(0, "teacher/quality/random-convnet")
        self.convs = nn.ModuleList()
        num_channels = 3
        for width in _STAGE_WIDTHS:
            conv = nn.utils.skip_init(nn.Conv2d, num_channels, width, 3, padding=1, bias=False)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu", generator=generator)
            self.convs.append(conv)
            num_channels = width

    def forward(self, images: Tensor) -> Tensor:
        """Mean and deviation of stage after stage, side by side."""
        x = images.float() / 127.5 - 1
        x = x.contiguous(memory_format=torch.channels_last)  # +35 % images/s on a CPU core
        features = [_summarise(x)]
        for conv in self.convs:
            x = F.relu(conv(x))
            features.append(_summarise(x))
            if x.shape[-1] > 1:
                x = F.max_pool2d(x, 2)
        return torch.cat(features, 1)


def _summarise(x: Tensor) -> Tensor:
    variance, mean = torch.var_mean(x, (2, 3), correction=0)
    return torch.cat([mean, (variance + 1e-4).sqrt()], 1)


class _Inception(nn.Module):
    def __init__(self, weights: Path) -> None:
        # here because the package takes seconds to import and few runs have the weights
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ModuleNotFoundError:
            raise UserError(
                "teacher.inception_weights: the FID Inception network comes with torch-fidelity; "
                "pip install 'torch-fidelity>=0.4,<0.5', or unset the field"
            ) from None

        super().__init__()
        try:
            # torch-fidelity unpickles whatever a path holds, so it gets a copy of tensors only.
            copy = io.BytesIO()
            torch.save(torch.load(weights, map_location="cpu", weights_only=True), copy)
            copy.seek(0)
            self.extractor = FeatureExtractorInceptionV3(
                "inception", [_INCEPTION_LAYER], feature_extractor_weights_path=copy
            )
        except (
            pickle.UnpicklingError,
            OSError,
            RuntimeError,
            EOFError,
            TypeError,
            ValueError,
            KeyError,
        ) as error:
            reason = " ".join(str(error).split())[:160]
            raise UserError(
                f"{weights}: not the weights of the FID Inception network ({reason}); give "
                "torch-fidelity's weights-inception-2015-12-05 file or none"
            ) from None

    def forward(self, images: Tensor) -> Tensor:
        (features,) = self.extractor(images)
        return torch.as_tensor(features)
