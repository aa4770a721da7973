"""What the paper's linear probe trains, how, and at what rates: a linear layer, its optimiser, and
the settings of both recipes (Yang et al. 2022, appendix; the protocol of Chen and He 2021).

Neighbours: `linear_sgd.py` trains it on views, `engine/lars.py` has the rates of large batches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.augment import AugmentConfig
from pipeline.engine.lars import TRUST, adapt_gradients
from pipeline.samples.seeding import torch_generator

_MOMENTUM = 0.9
_INITIAL_DEVIATION = 0.01
_CROP_AND_FLIP = AugmentConfig(crop_scale=(0.08, 1.0), jitter_p=0, grayscale_p=0)
PROTOCOL = (
    "linear layer by {optimizer}, momentum 0.9, no weight decay, cross-entropy, on the frozen "
    "backbone in evaluation mode ({precision}); weights from N(0, 0.01²), bias from 0; {epochs} "
    "epochs, each of all labelled train images in a fresh order; batch {batch}, the last of an "
    "epoch smaller; learning rate {learning_rate:g} x {batch}/256, cosine to 0 per epoch; train "
    "images: {views}; test images as they are; top-1 after the last epoch, not of the best"
)


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
    seed: int = 0
    """Of order, views and initial weights: the same seed, the same result on the same hardware."""

    @property
    def protocol(self) -> str:
        """All of it but the seed in one sentence, to stand beside the result."""
        return PROTOCOL.format(
            optimizer="SGD" if self.optimizer == "sgd" else f"LARS (trust {TRUST:g})",
            precision=str(self.precision).removeprefix("torch."),
            epochs=self.epochs,
            batch=self.batch,
            learning_rate=self.learning_rate,
            views=describe_views(self.augment),
        )


LARGE_BATCH = ProbeSettings(batch=4096, learning_rate=0.1, optimizer="lars")
"""The paper's settings for STL-10."""


class LinearHead:
    """The layer that is trained, representation [B, D] -> logits [B, K], and its optimiser. Its
    initial weights depend on `seed` only, and on a CPU its result not on the number of threads.
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
        with _one_thread():
            F.cross_entropy(self.layer(features), classes).backward()
            if self._is_lars:
                adapt_gradients(self.layer.parameters())
        self._sgd.step()

    @torch.no_grad()
    def classify(self, features: Tensor) -> Tensor:
        """Classes [B] int64 of `features` [B, D]."""
        with _one_thread():
            classes: Tensor = self.layer(features).argmax(1)
        return classes

    def state_dict(self) -> dict[str, Any]:
        """Layer and momentum."""
        return {"layer": self.layer.state_dict(), "optimizer": self._sgd.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.layer.load_state_dict(state["layer"])
        self._sgd.load_state_dict(state["optimizer"])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Within the block, this thread computes alone: a product of matrices that is shared by several
    is summed in another order (10 classes of 512 features: 1e-7 of the largest weight), and a
    worker has others than a process by itself.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def learning_rate(settings: ProbeSettings, epoch: int) -> float:
    """Rate in `epoch`: linear in the batch, cosine to 0, stepped per epoch."""
    base = settings.learning_rate * settings.batch / 256
    return base * 0.5 * (1 + math.cos(math.pi * epoch / settings.epochs))


def describe_views(augment: AugmentConfig) -> str:
    """In words, as protocols have them."""
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
