"""Ranges that sizes of every family keep, whatever file they come from. Imports no torch."""

from __future__ import annotations

MAX_WIDTH = 1 << 16
MAX_RESOLUTION = 1 << 12
RGBA = 4
IMAGE_CHANNELS = (1, 3, RGBA)
"""Grey, RGB, and RGB with transparency, which samples do not have."""


def check_sizes(resolution: int, **sizes: int) -> None:
    """Raise ValueError unless `resolution` and all widths are within what networks may have."""
    for name, size in sizes.items():
        if not 0 < size <= MAX_WIDTH:
            raise ValueError(f"{name}: must be from 1 to {MAX_WIDTH}, got {size}")
    if not 1 < resolution <= MAX_RESOLUTION:
        raise ValueError(f"resolution: must be from 2 to {MAX_RESOLUTION}, got {resolution}")
