"""`train.student` of a config: backbone and projector.

Neighbours: `train.py` has the rest of the section, `student/backbone.py` builds the networks.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipeline.config.fields import Positive, Section, spelled


class StudentConfig(Section):
    """Backbone and projector."""

    architecture: Annotated[
        str,
        spelled(r"(timm:)?\w[\w.]*", "be a name of torchvision's such as resnet18, or timm:NAME"),
    ] = "resnet18"
    """`resnet18`, `resnet50`, any other classifier of torchvision by its name there, such as
    `convnext_tiny`, or `timm:NAME`. The last linear layer is left out; dropout and stochastic depth
    are off unless an option asks for them.
    """
    options: dict[str, Any] = Field(default_factory=dict)
    """Arguments of the constructor of a torchvision or timm network, in its library's words, such
    as `{img_size: 32, patch_size: 4, drop_path_rate: 0.1}`.
    """
    width: Positive = 64
    """Channels of the stem of `resnet18` and `resnet50`; all stages scale with it. 64 is
    torchvision's.
    """
    stem: Literal["cifar", "imagenet"] = "cifar"
    """First layers of `resnet18` and `resnet50`. `cifar`: 3x3, stride 1, without max-pool;
    `imagenet`: 7x7, stride 2, with it.
    """
    projector_layers: Positive = 5
    """Linear layers of the projector."""
    projector_hidden: Positive | None = None
    """Width of the projector's hidden layers; unset, that of the representation. Not of SimSiam,
    whose projector is its own.
    """
    embedding_dim: Positive = 2048
    """Width of the embedding and of the squeezed representation."""

    @property
    def is_resnet(self) -> bool:
        """Whether the backbone is one of the two ResNets with a stem and a width to choose."""
        return self.architecture in ("resnet18", "resnet50")

    @property
    def backbone(self) -> dict[str, Any]:
        """What describes the backbone, by field."""
        fields = ["architecture", "width", "stem"] if self.is_resnet else ["architecture"]
        fields += ["options"] if self.options else []
        return {name: getattr(self, name) for name in fields}

    @model_validator(mode="after")
    def _check(self) -> StudentConfig:
        for name in ("width", "stem"):
            if not self.is_resnet and getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is of architecture resnet18 and resnet50, not of {self.architecture}; "
                    "leave it out, or set width=64 and stem=cifar"
                )
        if self.is_resnet and self.options:
            raise ValueError(
                f"options are of other architectures, {self.architecture} has width and stem; "
                f"leave them out, or take architecture=timm:{self.architecture}"
            )
        return self
