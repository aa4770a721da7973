"""The `generate` section of a config: the synthetic pool.

Neighbours: `root.py` has the other sections, `generate/` renders.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from pipeline.config.fields import Fraction, ImageCodec, NonNegative, Positive, Section


def _sort_distinct(classes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(classes)) < len(classes):
        raise ValueError("duplicate class; name each once")
    return tuple(sorted(classes))


class GenerateConfig(Section):
    """The recipe of the synthetic pool, and how much of the pool this run uses."""

    num_samples: Positive = 100_000
    """Size of the pool: samples 0 to n − 1 of the recipe. Missing samples are rendered; a
    larger pool in the store is read up to this size.
    """
    seed: NonNegative = 0
    """Seed of the pool. Sample *i* depends on (seed, *i*) only."""
    truncation_psi: Fraction = 1.0
    """Truncation of `w` towards its mean; 1 draws from the full distribution, as the paper does."""
    noise: Literal["random", "const", "none"] = "random"
    """Noise inputs of the synthesis layers: fresh for each sample, the checkpoint's stored
    maps, or none.
    """
    truncation_cutoff: NonNegative | None = None
    """Number of layers that are truncated, counted from the lowest resolution; by default all."""
    classes: (
        Annotated[tuple[NonNegative, ...], Field(min_length=1), AfterValidator(_sort_distinct)]
        | None
    ) = None
    """Classes of a conditional teacher to draw from, uniformly; by default all."""
    features: Literal["blocks"] | Annotated[tuple[str, ...], Field(min_length=1)] = "blocks"
    """Features to store: `blocks` (all blocks), or a list of names such as `synthesis.b16`,
    `synthesis.b16.conv0` and `w`. `python -m pipeline inspect-teacher` lists them.
    """
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    """Arithmetic of the teacher: half precision pays on GPUs, and is that of its reference code, or
    else of `torch.autocast`. Weights and pooling stay float32.
    """
    samples_per_shard: Annotated[int, Field(gt=0, le=10**6)] = 1000
    """Samples in one tar."""
    render_batch: Positive = 100
    """Samples per forward pass; a batch never straddles shards."""
    image_codec: ImageCodec = "npy"
    """How images are stored: `npy` raw, `png` lossless, `webp` (lossless at 100) or `jpg`."""
    image_quality: Annotated[int, Field(ge=1, le=100)] = 90
    """Quality of `webp` and `jpg`."""
    feature_dtype: Literal["float16", "float32"] = "float16"
    """Type of the stored features."""
