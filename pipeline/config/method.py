"""`train.method` of a config: the ways to train, by their `name`, and the settings of each.

Neighbours: `train.py` has the rest of the section, `train/methods/` the methods.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from pipeline.config.fields import CodePath, NonNegativeFloat, Section


class MethodSection(Section):
    """Settings of one method; `name` chooses it."""

    reads_features: ClassVar[bool] = True
    """Whether the method wants `Batch.pooled`; unknown for your own code."""
    reads_teacher: ClassVar[bool] = False
    """Whether the method needs the teacher itself."""
    trains: ClassVar[bool] = True
    """Whether there is anything to train."""


class _Weights(MethodSection):
    invariance_weight: NonNegativeFloat = 25.0
    """λ, the weight of the invariance term."""
    variance_weight: NonNegativeFloat = 25.0
    """μ, the weight of the variance term."""
    covariance_weight: NonNegativeFloat = 1.0
    """ν, the weight of the covariance term."""


RELEASE_CIFAR100_WEIGHTS = {
    "invariance_weight": 10.0,
    "variance_weight": 10.0,
    "covariance_weight": 1.0,
}
"""λ, μ and ν of the released code on CIFAR-100."""


class SqueezeAndSpanConfig(_Weights):
    """Squeeze and span (Yang et al. 2022, Eq. 6-12); without real images, squeeze alone."""

    name: Literal["squeeze_and_span"] = "squeeze_and_span"
    squeeze: bool = True
    """Whether there is a squeeze module T_φ. Without it the student predicts the features
    themselves (vanilla distillation, Eq. 5), and its embedding is as wide as they are.
    """


class VicRegConfig(_Weights):
    """VICReg (Bardes et al. 2022) on pairs of views of every image."""

    reads_features = False

    name: Literal["vicreg"]
    convention: Literal["paper", "official", "release"] | None = None
    """How terms are summed. `paper`: both branches' terms, over the global batch. `official`:
    as VICReg's own code, which halves the variance terms. `release`: as `paper`, with each
    worker's own statistics. By default `paper` or `release`, following `train.variant`.
    """


class SimSiamConfig(MethodSection):
    """SimSiam (Chen & He 2021) on pairs of views of every image."""

    reads_features = False

    name: Literal["simsiam"]
    projector_layers: Literal[2, 3] = 2
    """Layers of its projector; 2 are SimSiam's on CIFAR-10, 3 on ImageNet."""


class EncodingConfig(MethodSection):
    """An encoder into `w`, trained through the frozen generator (Yang et al. 2022, Eq. 3)."""

    reads_teacher = True
    name: Literal["encoding"]
    latent_weight: NonNegativeFloat = 1.0
    """Weight of ‖E(x) - w‖², on synthetic images."""
    perceptual: Literal["auto", "lpips", "none"] = "auto"
    """Perceptual term: LPIPS (Zhang et al. 2018) or `none`. `auto` takes LPIPS if its weights
    are available; every result says which was used.
    """


class DiscriminatorConfig(MethodSection):
    """No training: the probes use features of the GAN's discriminator (Yang et al. 2022, Eq. 2)."""

    reads_features = False
    reads_teacher = True
    trains = False
    name: Literal["discriminator"]
    level: Literal["multi", "single"] = "multi"
    """`multi`: pooled features of all blocks; `single`: the last but one layer."""


class OwnMethodConfig(MethodSection):
    """A method in your own code; see `docs/methods.md`."""

    reads_teacher = True

    name: CodePath
    """`package.module:Class`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the class."""


METHOD_SECTIONS: dict[str, type[MethodSection]] = {
    "squeeze_and_span": SqueezeAndSpanConfig,
    "vicreg": VicRegConfig,
    "simsiam": SimSiamConfig,
    "encoding": EncodingConfig,
    "discriminator": DiscriminatorConfig,
    "own": OwnMethodConfig,
}
"""Tags of the union below; of a method of one's own, "own" stands for its name."""


def _method_tag(value: Any) -> str | None:
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    if name is None:
        is_section = isinstance(value, dict | MethodSection)
        return "squeeze_and_span" if is_section else None
    if ":" in str(name):
        return "own"
    return str(name) if str(name) in METHOD_SECTIONS and name != "own" else None


MethodConfig = Annotated[
    Annotated[SqueezeAndSpanConfig, Tag("squeeze_and_span")]
    | Annotated[VicRegConfig, Tag("vicreg")]
    | Annotated[SimSiamConfig, Tag("simsiam")]
    | Annotated[EncodingConfig, Tag("encoding")]
    | Annotated[DiscriminatorConfig, Tag("discriminator")]
    | Annotated[OwnMethodConfig, Tag("own")],
    Discriminator(
        _method_tag,
        custom_error_type="unknown_method",
        custom_error_message="must be squeeze_and_span, vicreg, simsiam, "
        "encoding, discriminator, or your own code as package.module:Class",
    ),
]
