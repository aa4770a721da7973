"""What every source comes down to: the (image, label) pairs of one split, in a fixed order and at
size.

Neighbours: `digits.py`, `folder.py` and `torchvision_sets.py` make them, `real/stage.py` packs
them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from shards.errors import UserError

LabelledFile = tuple[Path, int]
"""An image file with its label."""


@dataclass(frozen=True)
class Source:
    """One split: its size, class names, and images uint8 [3, R, R] with labels, -1 for none."""

    num_images: int
    class_names: list[str]
    images: Iterator[tuple[np.ndarray, int]]


def read_files(files: Iterable[LabelledFile], resolution: int) -> Iterator[tuple[np.ndarray, int]]:
    """Decode `files` one by one.

    Raises:
        UserError: for a file that is not an image or damaged.
    """
    for file, label in files:
        try:
            with Image.open(file) as image:
                yield to_array(image, resolution), label
        except PermissionError:
            raise UserError(f"{file}: Permission denied; check its permissions") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise UserError(f"{file}: not a readable image ({error}); mend or remove it") from None


def to_array(image: Image.Image, resolution: int) -> np.ndarray:
    """Centre crop to a square, bicubic resize, RGB; uint8 [3, resolution, resolution]."""
    if image.mode.startswith("I;16"):  # `convert` would clip instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.convert("RGB").crop(box)
    image = square.resize((resolution, resolution), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
