"""The `teacher` section of a config: a GAN to distil, and how to train one.

Neighbours: `root.py` has the other sections and fills in `auto_recipe`, `teacher/` trains.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import (
    CodePath,
    Fraction,
    NonNegative,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Section,
    UserPath,
    unrecorded,
)


class TeacherConfig(Section):
    """The GAN to distil, and how `make teacher` trains one (StyleGAN2-ADA; Karras et al. 2020)."""

    checkpoint: UserPath | None = None
    """Folder of the teacher to distil; by default the one that `make teacher` trains in the
    run's folder.
    """
    train_if_missing: bool = unrecorded(False)
    """Whether stage `teacher` trains in the folder `checkpoint` if there is no finished teacher
    yet. `true` by default if a file is laid over the config, so that both runs share a teacher.
    """
    factory: CodePath | None = None
    """Your own code that builds the teacher, as `package.module:callable`; see
    `docs/teachers.md`.
    """
    recipe: Literal["cifar", "auto"] = "cifar"
    """Defaults of the fields below: StyleGAN2-ADA's `cifar` configuration, or `auto`, which
    follows the resolution.
    """
    seed: NonNegative = 0
    """Seed of initial weights, batches, latents and augmentation."""
    z_dim: Positive = 512
    """Width of the latent `z`."""
    w_dim: Positive = 512
    """Width of the mapped latent `w`."""
    num_mapping_layers: Positive = 2
    """Fully connected layers from `z` to `w`."""
    channel_base: Positive = 32768
    """Channels at a resolution are min(channel_base // resolution, channel_max)."""
    channel_max: Positive = 512
    """Channels of the widest block."""
    conv_clamp: PositiveFloat | None = 256.0
    """Clamp of every convolution's output, against overflow in half precision."""
    num_half_blocks: Annotated[int, Field(ge=0, le=16)] = 4
    """Number of highest resolutions that run in half precision, as `precision` says."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of the half-precision blocks; `auto` is bfloat16 on a GPU and float32 on a CPU."""
    discriminator_skips: Literal["orig", "skip", "resnet"] = "orig"
    """Architecture of the discriminator (Karras et al. 2020, "Analyzing and improving", Fig. 7)."""
    mbstd_group_size: Positive = 32
    """Samples per group in the discriminator's minibatch standard deviation."""
    num_images: Positive = 25_000_000
    """Length of the training, in real images shown to the discriminator."""
    global_batch: Positive = 64
    """Images per step."""
    learning_rate: PositiveFloat = 0.0025
    """Learning rate of Adam, β = (0, 0.99), for both networks."""
    r1_gamma: NonNegativeFloat = 0.01
    """Weight of the R1 penalty (Mescheder et al. 2018, Eq. 9)."""
    r1_interval: Positive = 16
    """Steps between two R1 penalties (lazy regularisation)."""
    path_length_weight: NonNegativeFloat = 0.0
    """Weight of path-length regularisation; 0 switches it off."""
    path_length_interval: Positive = 4
    """Steps between two path-length penalties."""
    style_mixing_p: Fraction = 0.0
    """Probability that the higher layers of a batch take their styles from other latents."""
    ema_images: Positive = 500_000
    """Half-life of the generator's moving average, in images."""
    ema_rampup: PositiveFloat | None = 0.05
    """Upper limit of the half-life, as a share of the images seen so far; `null`: no limit."""
    ada_pipe: Literal["bgc", "upright"] = "bgc"
    """Augmentations: `bgc` is the reference's blitting, geometry and colour; `upright` has no
    flips, no turns beyond 20° and no hue, for digits and letters.
    """
    ada_target: Fraction = 0.6
    """Target of E[sign(D(real))] in adaptive augmentation."""
    ada_images: Positive = 500_000
    """Images in which the augmentation probability can move from 0 to 1."""
    ada_interval: Positive = 4
    """Steps between two changes of the augmentation probability."""
    snapshot_images: tuple[Positive, ...] = ()
    """Numbers of images seen at which a copy of the teacher is kept under `snapshots/`."""
    quality_images: Annotated[int, Field(ge=0, le=10**6)] = 5000
    """Images in each measurement of the distance to real images; 0 measures nothing."""
    quality_interval: Positive = 200_000
    """Images seen between two measurements; each snapshot and the end are measured as well."""
    inception_weights: UserPath | None = None
    """File with the weights of the original FID Inception; without it a named stand-in measures
    the distance.
    """

    @model_validator(mode="after")
    def _check(self) -> TeacherConfig:
        if self.global_batch % min(self.mbstd_group_size, self.global_batch):
            raise ValueError("global_batch must be a multiple of mbstd_group_size")
        return self


def auto_recipe(resolution: int) -> dict[str, object]:
    """Fields that StyleGAN2-ADA's `auto` configuration derives from the resolution, for one GPU.

    The reference also lets the batch grow with the number of GPUs; here workers never change what
    is trained.
    """
    batch = min(max(4096 // resolution, 1), 32)
    return {
        "global_batch": batch,
        "mbstd_group_size": min(batch, 4),
        "channel_base": 32768 if resolution >= 512 else 16384,
        "learning_rate": 0.002 if resolution >= 1024 else 0.0025,
        "r1_gamma": 0.0002 * resolution**2 / batch,
        "ema_images": batch * 10_000 // 32,
        "discriminator_skips": "resnet",
        "path_length_weight": 2.0,
        "style_mixing_p": 0.9,
    }
