"""What every source comes down to: images of one split with labels, in a fixed order and at size.

Neighbours: `digits.py`, `folder.py` and `torchvision_sets.py` make them, `real/stage.py` packs
them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from shards.errors import UserError

LabelledFile = tuple[Path, int]
"""An image file with its label."""


@dataclass(frozen=True)
class Source:
    """Images of one split, each decoded when it is asked for."""

    class_names: list[str]
    labels: np.ndarray
    """[N] int64, -1 for none."""
    read: Callable[[int], np.ndarray]
    """Row -> image, uint8 [3, R, R]; raises `UserError` for one that is not readable."""
    num_available: int | None = None
    """Images that these were drawn from, if they were."""

    @property
    def num_images(self) -> int:
        """Of the split."""
        return len(self.labels)

    @property
    def images(self) -> Iterator[tuple[np.ndarray, int]]:
        """Every image with its label, in order."""
        return ((self.read(row), int(label)) for row, label in enumerate(self.labels))

    def take(self, rows: np.ndarray) -> Source:
        """Some rows [M] of it, in their order."""
        return Source(
            self.class_names,
            self.labels[rows],
            lambda row: self.read(int(rows[row])),
            self.num_images,
        )


def of_files(files: Sequence[LabelledFile], class_names: list[str], resolution: int) -> Source:
    """Image files, decoded one by one."""
    labels = np.array([label for _, label in files], dtype=np.int64)
    return Source(class_names, labels, lambda row: _read_file(files[row][0], resolution))


def _read_file(file: Path, resolution: int) -> np.ndarray:
    try:
        with Image.open(file) as image:
            return to_array(image, resolution)
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
