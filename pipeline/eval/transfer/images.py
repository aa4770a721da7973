"""Labelled images of a data set, split by split, before any network has seen them.

Neighbours: `datasets.py` makes them from what torchvision opens, `features.py` turns them into
representations.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from shards.errors import UserError


@dataclass(frozen=True)
class SplitImages:
    """The images of one split, in a fixed order.

    `pixels` are their files, or the images themselves, uint8 [N, height, width, 3]. `names` tell
    images of one data set apart, wherever it lies. `labels` are int64 [N], or bool [N, K] where an
    image may be of several of the K classes.
    """

    names: tuple[str, ...]
    labels: np.ndarray
    pixels: tuple[Path, ...] | np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def take(self, rows: np.ndarray) -> SplitImages:
        """The images at `rows` [M], in that order."""
        names = tuple(self.names[row] for row in rows)
        if isinstance(self.pixels, np.ndarray):
            return SplitImages(names, self.labels[rows], self.pixels[rows])
        return SplitImages(names, self.labels[rows], tuple(self.pixels[row] for row in rows))

    def open(self, row: int) -> Image.Image:
        """The image at `row`, RGB.

        Raises:
            UserError: for a file that is absent, damaged or no image.
        """
        if isinstance(self.pixels, np.ndarray):
            return Image.fromarray(self.pixels[row])
        file = self.pixels[row]
        try:
            with Image.open(file) as image:
                return image.convert("RGB")
        except PermissionError:
            raise UserError(f"{file}: Permission denied; check its permissions") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            reason = " ".join(str(error).split())
            raise UserError(f"{file}: not a readable image ({reason}); get it again") from None

    @property
    def digest(self) -> str:
        """SHA-256 over names, labels, and the sizes of files or the pixels, 64 hex digits.

        Raises:
            UserError: for a file that is absent.
        """
        digest = hashlib.sha256()
        if isinstance(self.pixels, np.ndarray):
            digest.update(self.pixels.tobytes())
            sizes = [0] * len(self)
        else:
            sizes = [_size_bytes(file) for file in self.pixels]
        rows = zip(self.names, sizes, self.labels.astype(np.int64).tolist(), strict=True)
        for row in rows:
            digest.update(json.dumps(row).encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class TransferImages:
    """A data set as the protocol splits it: `val` chooses the penalty, `test` is scored."""

    name: str
    train: SplitImages
    val: SplitImages
    test: SplitImages

    @property
    def splits(self) -> tuple[SplitImages, SplitImages, SplitImages]:
        """`train`, `val` and `test`."""
        return self.train, self.val, self.test

    @property
    def num_images(self) -> int:
        """Of all splits together."""
        return sum(map(len, self.splits))

    @property
    def digest(self) -> str:
        """Of the splits' digests, 64 hex digits: which image is where, with which label.

        Raises:
            UserError: for a file that is absent.
        """
        parts = [split.digest for split in self.splits]
        return hashlib.sha256(json.dumps([self.name, parts]).encode()).hexdigest()


def _size_bytes(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise UserError(
            f"{file}: is listed, but cannot be read ({error.strerror}); get it again"
        ) from None
