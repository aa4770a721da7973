"""Where real images come from. A source yields (image, label) pairs of one split, in a fixed order.

`stage.py` packs them into shards. Labels go along for evaluation only; -1 means that there is none.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config import RealConfig
from shards.errors import UserError

SPLITS = ("train", "test")
NUM_DIGITS_TRAIN = 1437  # the last 360 digits are by other writers
_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


@dataclass(frozen=True)
class Source:
    """One split: its size, class names, a digest of what it holds, and its images."""

    num_images: int
    class_names: list[str]
    digest: str
    images: Iterator[tuple[np.ndarray, int]]


def open_source(config: RealConfig, split: str) -> Source:
    """Images uint8 [3, resolution, resolution] with labels of `split` ("train" or "test").

    Raises:
        UserError: for a missing or empty folder and, while iterating, for an unreadable image.
    """
    if config.source == "digits":
        return _open_digits(config.resolution, split)
    assert config.path is not None
    return _open_folder(config.path, config.resolution, split)


def _open_digits(resolution: int, split: str) -> Source:
    """UCI optical recognition of handwritten digits (Alpaydin & Kaynak 1998), 8x8 grey levels
    0-16.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = slice(None, NUM_DIGITS_TRAIN) if split == "train" else slice(NUM_DIGITS_TRAIN, None)
    grey = np.round(digits.images[rows] * (255 / 16)).astype(np.uint8)
    labels = digits.target[rows]

    def images() -> Iterator[tuple[np.ndarray, int]]:
        for pixels, label in zip(grey, labels, strict=True):
            yield _to_array(Image.fromarray(pixels), resolution), int(label)

    names = [str(name) for name in digits.target_names]
    return Source(
        len(labels), names, hashlib.sha256(grey.tobytes() + labels.tobytes()).hexdigest(), images()
    )


def list_images(path: Path, split: str) -> tuple[list[tuple[Path, int]], list[str]]:
    """Image files of `path`/`split` with labels, and class names.

    Sub-folders are classes, numbered by the train split's; a folder without any has no labels (-1).

    Raises:
        UserError: for a class of the test split that the train split lacks.
    """
    folder = path / split
    own_names = _class_names(folder)
    class_names = _class_names(path / "train") or own_names
    if not folder.is_dir():
        return [], class_names
    unknown = sorted(set(own_names) - set(class_names))
    if class_names and not own_names and any(map(_is_image, folder.iterdir())):
        raise UserError(f"{folder}: has no classes, but {path / 'train'} has; sort its images too")
    if unknown:
        raise UserError(
            f"{folder / unknown[0]}: {path / 'train'} has no such class; add or move it"
        )
    folders: Sequence[tuple[Path, int]] = [
        (folder / name, class_names.index(name)) for name in own_names
    ]
    files = [
        (file, label)
        for directory, label in folders or [(folder, -1)]
        for file in sorted(directory.iterdir())
        if _is_image(file)
    ]
    return files, class_names


def _class_names(folder: Path) -> list[str]:
    """Sub-folders that hold images, sorted."""
    children = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        child.name for child in children if child.is_dir() and any(map(_is_image, child.iterdir()))
    )


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES and file.is_file()


def folder_digest(path: Path, split: str) -> str:
    """Digest of names, sizes and modification times of a split's files: cheap enough to ask every
    time.
    """
    files, _ = list_images(path, split)
    lines = [
        f"{file.relative_to(path)} {(stat := file.stat()).st_size} {stat.st_mtime_ns}"
        for file, _ in files
    ]
    return hashlib.sha256(os.fsencode("\n".join(lines))).hexdigest()


def _open_folder(path: Path, resolution: int, split: str) -> Source:
    files, class_names = list_images(path, split)
    if split == "train" and not files:
        raise UserError(
            f"real.path: no images in {path / split}; put them there, in one sub-folder per class "
            "or without any"
        )

    def images() -> Iterator[tuple[np.ndarray, int]]:
        for file, label in files:
            try:
                with Image.open(file) as image:
                    yield _to_array(image, resolution), label
            except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                raise UserError(
                    f"{file}: not a readable image ({error}); mend or remove it"
                ) from None

    return Source(len(files), class_names, folder_digest(path, split), images())


def _to_array(image: Image.Image, resolution: int) -> np.ndarray:
    """Centre crop to a square, bicubic resize, RGB; uint8 [3, resolution, resolution]."""
    if image.mode.startswith("I;16"):  # `convert` would clip instead of scaling
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    square = image.convert("RGB").crop(box)
    image = square.resize((resolution, resolution), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))
