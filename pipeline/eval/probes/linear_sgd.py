"""The paper's linear probe: a linear layer trained by SGD on random views of the labelled images,
through the frozen backbone (Yang et al. 2022, appendix; the protocol of Chen and He 2021).

On a GPU nothing waits for the device but the top-1 after every epoch. Neighbours:
`labelled_views.py` has the batches, `lars.py` the rates of large ones; `linear_probe.py` fits a
linear classifier to representations without views.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.augment import AugmentConfig
from pipeline.config.train import TrainConfig
from pipeline.eval.probes.labelled_views import LabelledViews, ProbeImages
from pipeline.eval.probes.lars import TRUST, adapt_gradients
from pipeline.samples.seeding import torch_generator
from pipeline.student.backbone import Normalise
from shards.errors import UserError

_MOMENTUM = 0.9
_INITIAL_DEVIATION = 0.01
_IMAGES_AT_ONCE = 512  # through the backbone, which bounds its memory in a batch of thousands
_CROP_AND_FLIP = AugmentConfig(crop_scale=(0.08, 1.0), jitter_p=0, grayscale_p=0)
PROTOCOL = (
    "linear layer by {optimizer}, momentum 0.9, no weight decay, cross-entropy, on the frozen "
    "backbone in evaluation mode ({precision}); weights from N(0, 0.01²), bias from 0; {epochs} "
    "epochs, each of all labelled train images in a fresh order; batch {batch}, the last of an "
    "epoch smaller; learning rate {learning_rate:g} x {batch}/256, cosine to 0 per epoch; train "
    "images: {views}; test images as they are; top-1 after the last epoch, not of the best"
)
ProbeReport = Callable[[int, int, str], None]
"""Called after every step with the images seen, those of the whole probe, and a short note."""


@dataclass(frozen=True)
class ProbeSettings:
    """How the linear layer is trained; the defaults are the paper's for CIFAR."""

    epochs: int = 90
    batch: int = 256
    """May be larger than the data set, which then is one batch."""
    learning_rate: float = 30.0
    """Base rate, times batch / 256, whatever the number of images."""
    optimizer: Literal["sgd", "lars"] = "sgd"
    """`lars`: SGD with layer-wise adaptive rates."""
    augment: AugmentConfig = _CROP_AND_FLIP
    """Views of the train images; the default is torchvision's of `RandomResizedCrop` and
    `RandomHorizontalFlip`, as in the code that the paper's authors released.
    """
    precision: torch.dtype = torch.float32
    """Arithmetic of the frozen backbone, under autocast; the linear layer is float32."""

    @property
    def protocol(self) -> str:
        """All of it in one sentence, to stand beside the result."""
        return PROTOCOL.format(
            optimizer="SGD" if self.optimizer == "sgd" else f"LARS (trust {TRUST:g})",
            precision=str(self.precision).removeprefix("torch."),
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            views=_describe_views(self.augment),
        )


LARGE_BATCH = ProbeSettings(batch=4096, learning_rate=0.1, optimizer="lars")
"""The paper's settings for STL-10."""


@dataclass(frozen=True)
class ProbeCurve:
    """What a probe has reached."""

    top1: tuple[float, ...]
    """Of the test images after every epoch, in percent."""
    predictions: np.ndarray
    """[M] int64: labels of the test images as predicted after the last epoch."""

    @property
    def last(self) -> float:
        """The result."""
        return self.top1[-1]


class LinearHead:
    """The layer that is trained, representation [B, D] -> logits [B, K], and its optimiser. Its
    initial weights depend on `seed` only.
    """

    def __init__(
        self, num_features: int, num_classes: int, optimizer: Literal["sgd", "lars"], *, seed: int
    ) -> None:
        self.layer = nn.utils.skip_init(nn.Linear, num_features, num_classes)
        generator = torch_generator(seed, "probe/head")
        nn.init.normal_(self.layer.weight, std=_INITIAL_DEVIATION, generator=generator)
        nn.init.zeros_(self.layer.bias)
        self._is_lars = optimizer == "lars"
        self._sgd = torch.optim.SGD(self.layer.parameters(), lr=0.0, momentum=_MOMENTUM)

    def update(self, features: Tensor, classes: Tensor, rate: float) -> None:
        """One step at learning rate `rate` on `features` [B, D] float32 of `classes` [B] int64."""
        self._sgd.param_groups[0]["lr"] = rate
        self._sgd.zero_grad(set_to_none=True)
        F.cross_entropy(self.layer(features), classes).backward()
        if self._is_lars:
            adapt_gradients(self.layer.parameters())
        self._sgd.step()

    @torch.no_grad()
    def classify(self, features: Tensor) -> Tensor:
        """Classes [B] int64 of `features` [B, D]."""
        classes: Tensor = self.layer(features).argmax(1)
        return classes


def learning_rate(settings: ProbeSettings, epoch: int) -> float:
    """Rate in `epoch`: linear in the batch, cosine to 0, stepped per epoch."""
    base = settings.learning_rate * settings.batch / 256
    return base * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))


def train_linear_probe(
    backbone: nn.Module,
    images: ProbeImages,
    config: TrainConfig,
    settings: ProbeSettings,
    device: torch.device,
    *,
    seed: int,
    report: ProbeReport | None = None,
) -> ProbeCurve:
    """Train a linear layer on views of `images` as `backbone` represents them.

    Args:
        backbone: normalised images [B, 3, R, R] -> representation [B, D]. It is moved to `device`
            and put into evaluation mode, but not trained.
        images: to train on and to test on; the classes are the labels of the train images.
        config: of the backbone's training; says how images are normalised.
        settings: of the probe.
        device: to compute on.
        seed: of order, views and initial weights: the same seed, the same result on the same
            hardware.
        report: called after every step.

    Raises:
        UserError: if representations are not finite.
    """
    frozen = _Frozen(backbone, config, settings.precision, device)
    classes, targets = np.unique(images.train_labels, return_inverse=True)
    names, wanted = (torch.from_numpy(x).to(device) for x in (classes, images.test_labels))
    test = torch.cat([frozen(part) for part in images.test_batches(device)])
    _check_finite(test)
    head = LinearHead(test.shape[1], len(classes), settings.optimizer, seed=seed)
    head.layer.to(device)
    images = replace(images, train_labels=targets)
    views = LabelledViews(images, settings.batch, settings.augment, seed=seed, device=device)
    top1, note = list[float](), ""
    with closing(views):
        for epoch in range(settings.epochs):
            rate = learning_rate(settings, epoch)
            for step in range(views.num_steps):
                batch, classes_seen = views.batch(epoch * views.num_steps + step)
                head.update(frozen(batch), classes_seen, rate)
                if report is not None:
                    seen = epoch * views.num_images
                    seen += min((step + 1) * settings.batch, views.num_images)
                    report(seen, settings.epochs * views.num_images, note)
            _check_finite(head.layer.weight)
            top1.append(_top1(names[head.classify(test)], wanted))
            note = f"top-1 {top1[-1]:.1f}"
    return ProbeCurve(tuple(top1), names[head.classify(test)].cpu().numpy())


class _Frozen:
    """Images [B, 3, R, R], uint8 or in [0, 1], -> representation [B, D] float32."""

    def __init__(
        self,
        backbone: nn.Module,
        config: TrainConfig,
        precision: torch.dtype,
        device: torch.device,
    ) -> None:
        self._backbone = backbone.eval().to(device)
        self._normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
        self._precision = precision
        self._device = device

    @torch.no_grad()  # not inference mode, whose tensors the linear layer could not learn from
    def __call__(self, images: Tensor) -> Tensor:
        parts = [self._normalise(part) for part in images.split(_IMAGES_AT_ONCE)]
        is_mixed = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled=is_mixed):
            return torch.cat([self._backbone(part) for part in parts]).float()


def _top1(predicted: Tensor, wanted: Tensor) -> float:
    return 100 * float((predicted == wanted).double().mean())


def _check_finite(values: Tensor) -> None:
    if not values.isfinite().all():
        raise UserError(
            "train: the student's representations are not finite; train it again with a lower "
            "train.learning_rate"
        )


def _describe_views(augment: AugmentConfig) -> str:
    if not augment.enabled:
        return "as they are"
    (smallest, largest), (narrowest, widest) = augment.crop_scale, augment.crop_ratio
    crop = f"area {smallest:g}-{largest:g}, aspect ratio {narrowest:.3g}-{widest:.3g}"
    others = {
        "rotation up to ±": augment.rotation_deg,
        "horizontal flip p ": augment.flip_p,
        "colour jitter p ": augment.jitter_p,
        "grayscale p ": augment.grayscale_p,
        "blur p ": augment.blur_p,
    }
    shown = [f"{name}{value:g}" for name, value in others.items() if value]
    return ", ".join([f"random resized crop ({crop})", *shown])
