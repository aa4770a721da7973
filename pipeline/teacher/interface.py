"""What the rest of the project asks of a generator, whatever its family.

A generator is a torch module with an architecture, names of its blocks, and a forward from latents
to images. Features are not returned: `features.py` takes them from any submodule by its name, so a
family has nothing to do for it. Neighbours: `networks/stylegan2.py`, `networks/dcgan.py` and
`networks/module.py` are the families, `generate/render.py` the user.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.teacher.architecture import DiscriminatorArchitecture, GeneratorArchitecture

NoiseMode = Literal["const", "none"]
Noise = Sequence[Tensor] | NoiseMode


@dataclass(frozen=True)
class GeneratorOutput:
    """`image` [B, C, R, R] float32, nominally in [-1, 1], not clamped; `ws` [B, n, w_dim] float32,
    the mapped latents (n = 1 and `ws` = `z` where a family has none).
    """

    image: Tensor
    ws: Tensor
    small_image: Tensor | None = None
    """[B, C, 128, 128], which FastGAN makes for its discriminator; other families do not."""


def refuse_truncation(truncation_psi: float) -> None:
    """Raise ValueError for a value other than 1: for families without a mapped latent, whose mean
    there would be.
    """
    if truncation_psi != 1:
        raise ValueError("truncation_psi: this family has no mapped latent; only 1 is possible")


def check_labels(labels: Tensor | None, num_classes: int) -> None:
    """Raise ValueError unless `labels` are [B, num_classes], or None where there are no classes."""
    given = None if labels is None else list(labels.shape[1:])
    if given != ([num_classes] if num_classes else None):
        raise ValueError(f"labels: this network has {num_classes} classes, got {given}")


class TeacherGenerator(nn.Module, ABC):
    """Latents -> images; its submodules' outputs are the features."""

    arch: GeneratorArchitecture
    """Sizes: resolution, image_channels, z_dim, w_dim, num_classes, and the family's own."""
    blocks: list[str]
    """Names of the submodules whose outputs are the block features, in order."""
    noise_resolutions: Sequence[int] = ()
    """Side of every noise map the generator takes, in order; most families take none."""
    half_dtype: torch.dtype | None = None
    """float16 or bfloat16, if it renders in that; None: in float32."""

    @property
    def feature_root(self) -> nn.Module:
        """The module within which feature names are looked up."""
        return self

    def truncate_latents(self, z: Tensor, truncation_psi: float) -> Tensor:
        """Latents [B, z_dim] of samples of a truncation, of `z` [B, z_dim] ~ N(0, I): `z` itself
        but in a family that is truncated in `z`, whose `forward` takes latents that are.
        """
        return z

    def set_precision(self, dtype: torch.dtype) -> None:
        """Render in float32, float16 or bfloat16, of which the architecture lists those that the
        family's maps stay finite in. Weights stay float32, as do mapped latents.
        """
        self.half_dtype = None if dtype == torch.float32 else dtype

    def autocast(self, device: torch.device) -> torch.autocast:
        """Within it, convolutions and matrix products are of `half_dtype`: half precision of the
        families whose reference has no other.
        """
        return torch.autocast(device.type, self.half_dtype, enabled=self.half_dtype is not None)

    @abstractmethod
    def forward(
        self,
        z: Tensor,
        noise: Noise = "none",
        *,
        labels: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> GeneratorOutput:
        """Render.

        Args:
            z: [B, z_dim] ~ N(0, I).
            noise: one [B, 1, r, r] tensor for each of `noise_resolutions`, or "const" (maps stored
                in the checkpoint), or "none"; families without noise ignore it.
            labels: [B, num_classes] float, usually one-hot; None where there are no classes.
            truncation_psi: below 1 pulls `w` towards its mean; families without `w` refuse it.
            truncation_cutoff: only the first so many layers are truncated; None: all.
        """


class TeacherDiscriminator(nn.Module, ABC):
    """Images -> logits; the outputs of its blocks are features, too (Yang et al. 2022, Eq. 2)."""

    arch: DiscriminatorArchitecture
    """Sizes: resolution, image_channels, num_classes, and the family's own."""
    blocks: list[str]
    """Names of the submodules whose outputs [B, C, r, r] are the block features, in order."""
    last: str
    """Name of the submodule, [B, C] or [B, C, r, r], whose output is the last feature."""

    @property
    def feature_root(self) -> nn.Module:
        """The module within which feature names are looked up."""
        return self

    @abstractmethod
    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits [B, n] of images [B, C, R, R] in [-1, 1], larger means more real; `labels`
        [B, num_classes] where there are classes. n is 1 but where a family judges patches.
        """

    def judge(self, output: GeneratorOutput, labels: Tensor | None = None) -> Tensor:
        """Logits [B, n] of what a generator of the family made; see `forward`."""
        logits: Tensor = self(output.image, labels)
        return logits


class MappedGenerator(TeacherGenerator):
    """A family with a mapped latent `w`, of which every layer takes a copy."""

    num_ws: int
    """Copies of `w`."""

    def map_latents(
        self,
        z: Tensor,
        labels: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """`ws` [B, num_ws, w_dim] of `z` [B, z_dim], by the submodule `mapping`; as `forward`."""
        ws: Tensor = self.get_submodule("mapping")(z, labels, truncation_psi, truncation_cutoff)
        return ws

    @abstractmethod
    def synthesise(self, ws: Tensor, noise: Noise) -> Tensor:
        """Images [B, C, R, R] float32 of `ws` [B, num_ws, w_dim]."""

    def forward(
        self,
        z: Tensor,
        noise: Noise = "none",
        *,
        labels: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> GeneratorOutput:
        """See `TeacherGenerator.forward`; `ws` are [B, num_ws, w_dim]."""
        ws = self.map_latents(z, labels, truncation_psi, truncation_cutoff)
        return GeneratorOutput(self.synthesise(ws, noise), ws)


class UnmappedGenerator(TeacherGenerator):
    """A family without a mapped latent: `w` is `z`; there is no noise and nothing to truncate."""

    @abstractmethod
    def synthesise(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """`z` [B, z_dim] and, with classes, `labels` [B, num_classes] -> images [B, C, R, R]."""

    def forward(
        self,
        z: Tensor,
        noise: Noise = "none",
        *,
        labels: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> GeneratorOutput:
        """See `TeacherGenerator.forward`; `ws` is `z` [B, 1, z_dim].

        Raises:
            ValueError: for a `truncation_psi` other than 1: only a mapped latent has a mean.
        """
        refuse_truncation(truncation_psi)
        with self.autocast(z.device):
            image = self.synthesise(z, labels)
        return GeneratorOutput(image.float(), z[:, None])
