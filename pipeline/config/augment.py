"""`train.augment` of a config: the random views of both domains.

Neighbours: `train.py` has the rest of the section, `student/views.py` makes the views.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.config.fields import Fraction, PositiveFloat, Section


class AugmentConfig(Section):
    """Random views, drawn per sample (Yang et al. 2022, Eq. 8). A strength or probability of 0
    switches a part off.
    """

    enabled: bool = True
    """Off: whole images are seen as they are (Yang et al. 2022, Table 5, row a)."""
    crop_scale: tuple[Fraction, Fraction] = (0.2, 1.0)
    """Area of the random resized crop as a share of the image."""
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    """Aspect ratio of the crop."""
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Rotation by up to ± this angle."""
    flip_p: Fraction = 0.5
    """Horizontal flip."""
    brightness: Fraction = 0.4
    """Colour jitter: factor in 1 ± this."""
    contrast: Fraction = 0.4
    """Likewise."""
    saturation: Fraction = 0.4
    """Likewise."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Hue shift of up to ± this share of the circle."""
    jitter_p: Fraction = 0.8
    """Probability of colour jitter."""
    grayscale_p: Fraction = 0.2
    """Probability of conversion to grey."""
    blur_p: Fraction = 0.0
    """Probability of Gaussian blur."""
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)
    """Standard deviation of the blur in pixels."""

    @model_validator(mode="after")
    def _check(self) -> AugmentConfig:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high or low <= 0:
                raise ValueError(f"{name} must be a range 0 < low <= high, got {low}, {high}")
        return self
