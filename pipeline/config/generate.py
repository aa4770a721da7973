"""The `generate` section of a config: the synthetic pool.

Neighbours: `root.py` has the other sections, `generate/` renders.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.config.fields import Fraction, ImageCodec, NonNegative, Positive, Section


def _sort_distinct(classes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(classes)) < len(classes):
        raise ValueError("duplicate class")
    return tuple(sorted(classes))


class GenerateConfig(Section):
    """The recipe of the synthetic pool, and how much of it this run uses."""

    num_samples: Positive = 100_000
    """Pool size: samples 0 … n-1 of the recipe. More than the store has are rendered, fewer read a
    prefix.
    """
    seed: NonNegative = 0
    """Sample *i* is a function of (seed, i)."""
    truncation_psi: Fraction = 1.0
    """1 draws from the full distribution, as the paper does."""
    noise: Literal["random", "const", "none"] = "random"
    """Noise inputs of the synthesis layers: fresh per sample, the checkpoint's stored maps, or
    none.
    """
    truncation_cutoff: NonNegative | None = None
    """Layers that are truncated, counted from the lowest resolution; unset: all."""
    classes: (
        Annotated[tuple[NonNegative, ...], Field(min_length=1), AfterValidator(_sort_distinct)]
        | None
    ) = None
    """Classes of a conditional teacher to draw from, uniformly; unset: all of them."""
    features: Literal["blocks"] | Annotated[tuple[str, ...], Field(min_length=1)] = "blocks"
    """Features to store: `blocks` (all of them), or names such as `synthesis.b16`,
    `synthesis.b16.conv0` and `w`, which `python -m pipeline inspect-teacher` lists.
    """
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    """Arithmetic of the teacher's blocks made for half precision, on GPUs; the rest is float32."""
    samples_per_shard: Annotated[int, Field(gt=0, le=10**6)] = 1000
    """Samples in one tar."""
    render_batch: Positive = 100
    """Samples per forward pass; batches never straddle shards."""
    image_codec: ImageCodec = "npy"
    """How images are stored: `npy` raw, `png` lossless, `webp` (lossless at 100) or `jpg`."""
    image_quality: Annotated[int, Field(ge=1, le=100)] = 90
    """Of `webp` and `jpg`."""
    feature_dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features."""
