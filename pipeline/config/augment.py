"""`train.augment` of a config: the random views of both domains.

Neighbours: `train.py` has the rest of the section, `student/views.py` makes the views.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from pipeline.config.fields import Fraction, PositiveFloat, Section


class AugmentConfig(Section):
    """Random views, drawn for each sample (Yang et al. 2022, Eq. 8). A strength or probability of 0
    switches a part off.
    """

    enabled: bool = True
    """`false` shows whole images as they are (Yang et al. 2022, Table 5, row a)."""
    crop_scale: tuple[Fraction, Fraction] = (0.2, 1.0)
    """Smallest and largest area of the random resized crop, as a share of the image."""
    crop_ratio: tuple[PositiveFloat, PositiveFloat] = (3 / 4, 4 / 3)
    """Smallest and largest aspect ratio of the crop."""
    rotation_deg: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest rotation to either side, in degrees."""
    flip_p: Fraction = 0.5
    """Probability of a horizontal flip."""
    brightness: Fraction = 0.4
    """Colour jitter: brightness is multiplied by 1 ± this."""
    contrast: Fraction = 0.4
    """Colour jitter: contrast is multiplied by 1 ± this."""
    saturation: Fraction = 0.4
    """Colour jitter: saturation is multiplied by 1 ± this."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Colour jitter: hue is shifted by up to ± this share of the colour circle."""
    jitter_p: Fraction = 0.8
    """Probability of colour jitter."""
    grayscale_p: Fraction = 0.2
    """Probability of conversion to grey."""
    blur_p: Fraction = 0.0
    """Probability of Gaussian blur."""
    blur_sigma: tuple[PositiveFloat, PositiveFloat] = (0.1, 2.0)
    """Smallest and largest standard deviation of the blur, in pixels."""

    @model_validator(mode="after")
    def _check(self) -> AugmentConfig:
        for name in ("crop_scale", "crop_ratio", "blur_sigma"):
            low, high = getattr(self, name)
            if low > high or low <= 0:
                raise ValueError(f"{name} must be a range 0 < low <= high, got {low}, {high}")
        return self
