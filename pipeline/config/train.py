"""The `train` section of a config: how a student is trained.

Defaults are the paper's CIFAR table (Yang et al. 2022, appendix). Neighbours: `student.py`,
`augment.py`, `method.py`, `optimizer.py` and `monitor.py` have the sections inside this one,
`root.py` the other sections.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.augment import AugmentConfig
from pipeline.config.fields import (
    Fraction,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Rgb,
    Section,
    unrecorded,
)
from pipeline.config.method import EncodingConfig, MethodConfig, SqueezeAndSpanConfig
from pipeline.config.monitor import MonitorConfig
from pipeline.config.optimizer import OptimizerConfig
from pipeline.config.student import StudentConfig


class TrainConfig(Section):
    """How a student is trained: the settings that all methods share."""

    seed: NonNegative = 0
    """Seed of initial weights, sample order and augmentation."""
    epochs: Positive = 800
    """Length of the training. One epoch is num_real // global_batch steps, at least 1."""
    global_batch: Positive = 512
    """Images per step over all workers, synthetic and real together."""
    method: MethodConfig = SqueezeAndSpanConfig()
    """The way to train: its `name`, and its own settings."""
    variant: Literal["paper", "release"] = "paper"
    """What to follow where the paper and its released code differ. `release`: squeezed features
    are not regularised, all synthetic images of a step share one augmentation, and each worker
    has its own statistics; with `real.source: cifar100` the defaults of `squeeze_and_span` and
    `vicreg` become λ = μ = 10, ν = 1.
    """
    batch_norm: Literal["separate", "joint"] = "separate"
    """What batch normalisation computes its statistics over. `separate`, as the release: a
    forward pass for synthetic views and for each view of the real images; with VICReg and
    SimSiam one for the first and one for the second views. `joint`: one pass for all views.
    """
    images: Literal["both", "synthetic", "real"] = "both"
    """Domains of the images in a batch."""
    source: Literal["cached", "online"] = "cached"
    """Where synthetic samples come from: `cached` reads the pool, `online` renders new samples
    for every step (on a GPU from latents drawn there).
    """
    features: Literal["all"] | Annotated[tuple[str, ...], Field(min_length=1)] = "all"
    """Stored features to distil: `all`, or a list of names, `w` among them."""
    synthetic_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """α: share of synthetic images in a batch of both domains, and weight of the squeeze
    objective.
    """
    learning_rate: PositiveFloat = 0.03
    """Base learning rate, multiplied by global_batch / 256; cosine to 0, stepped per epoch, without
    warm-up, unless `optimizer` says otherwise.
    """
    momentum: Fraction = 0.9
    """Momentum of SGD and LARS."""
    weight_decay: NonNegativeFloat = 5e-4
    """Weight decay, on every parameter unless `optimizer.decay` says otherwise."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """Optimiser and schedule."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the networks; losses and weights are always float32. `auto` is bfloat16 on
    a GPU that supports it, else float32.
    """
    pixel_mean: Rgb = (0.4914, 0.4822, 0.4465)
    """Mean of each channel, for images in [0, 1]; the default is CIFAR's."""
    pixel_std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] = (0.2023, 0.1994, 0.2010)
    """Standard deviation of each channel; the default is CIFAR's."""
    student: StudentConfig = StudentConfig()
    """Backbone and projector."""
    patience: NonNegative = 0
    """Looks of the monitor in a row without a better kNN accuracy after which training ends, with
    the student as it then is; 0: never. Name a `monitor.set` that is not what you test on.
    """
    init: str | None = None
    """Weights to start from; unset, random ones. A file (safetensors, or a state dict of torch) or
    published weights of the student's architecture (`torchvision:ResNet18_Weights.IMAGENET1K_V1`,
    `timm:a1_in1k`) for the backbone; or the name of a finished run, for the backbone and, where
    that run has the same method, its other networks. Nothing is downloaded.
    """
    view_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Side of the views that the student sees, in pixels; by default `real.resolution`. Random
    views are cut from stored images of any size; whole images are resized to it.
    """
    augment: AugmentConfig = AugmentConfig()
    """Random views of both domains."""
    shuffle_samples: Positive = 262_144
    """Samples that are shuffled together, from shards in random order; a smaller pool is
    shuffled as a whole.
    """
    resident: Literal["auto", "off"] = unrecorded("auto")
    """Whether each worker keeps its shards in the memory of its GPU: `auto` if images and
    features take at most half of what is free at the start, `off` never. Batches are the same
    either way. On a CPU shards are always streamed.
    """
    checkpoint_interval_s: NonNegativeFloat = unrecorded(20.0)
    """Seconds between two checkpoints."""
    monitor: MonitorConfig = unrecorded(MonitorConfig())
    """How the student is watched while it trains."""

    @property
    def num_synthetic(self) -> int:
        """Synthetic images in the global batch."""
        shares = {"both": self.synthetic_share, "synthetic": 1.0, "real": 0.0}
        return round(self.global_batch * shares[self.images])

    @property
    def num_real(self) -> int:
        """Real images in the global batch."""
        return self.global_batch - self.num_synthetic

    def steps_per_epoch(self, num_real: int) -> int:
        """Steps of one epoch beside `num_real` images: num_real // global_batch as in the paper, at
        least 1.
        """
        return max(1, num_real // self.global_batch)

    @property
    def reads_pool(self) -> bool:
        """Whether batches have samples of the pool."""
        return self.method.trains and self.num_synthetic > 0 and self.source == "cached"

    @property
    def renders(self) -> bool:
        """Whether batches have samples rendered for them."""
        return self.method.trains and self.num_synthetic > 0 and self.source == "online"

    @property
    def needs_teacher(self) -> bool:
        """Whether the teacher itself is used, not only its pool."""
        is_asked = self.method.reads_teacher and (self.num_synthetic > 0 or not self.method.trains)
        return self.renders or is_asked

    @model_validator(mode="after")
    def _check(self) -> TrainConfig:
        sizes = {"synthetic": self.num_synthetic, "real": self.num_real}
        if any(sizes[name] < 2 for name in sizes if self.images in ("both", name)):
            raise ValueError(
                f"global_batch={self.global_batch} with synthetic_share={self.synthetic_share} "
                "leaves fewer than two"
                " images of one domain; raise global_batch"
            )
        if isinstance(self.method, SqueezeAndSpanConfig) and self.images == "real":
            raise ValueError(
                "images=real leaves nothing to distil; span alone is train.method.name=vicreg "
                "with train.images=real"
            )
        if self.optimizer.warmup_epochs >= self.epochs:
            raise ValueError(
                f"optimizer.warmup_epochs={self.optimizer.warmup_epochs:g} are no fewer than "
                f"epochs={self.epochs}; warm up over fewer, or train for more"
            )
        if self.patience and self.monitor.every_epochs == 0:
            raise ValueError(
                f"patience={self.patience} counts looks of the monitor, and "
                "monitor.every_epochs=0 has none; set that, or leave patience out"
            )
        if self.init is not None and not self.method.trains:
            raise ValueError(f"method {self.method.name} trains nothing; leave init out")
        if isinstance(self.method, EncodingConfig):
            self._check_encoding()
        return self

    def _check_encoding(self) -> None:
        """The encoder sees the images that it is to give back, and needs their latents."""
        if self.augment.enabled:
            raise ValueError(
                "method encoding gives images back as they are: set augment.enabled=false"
            )
        if self.images == "real":
            raise ValueError("method encoding needs synthetic images, whose latents are known")
        if self.features != ("w",):
            raise ValueError("method encoding learns the latents: set features=[w]")
