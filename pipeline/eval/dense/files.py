"""Reading what data sets are made of; whatever is absent or damaged is named in one line."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from shards.errors import UserError


def require(files: Iterable[Path], remedy: str) -> None:
    """Raise UserError with `remedy` for the first of `files` that is not there."""
    for file in files:
        if not file.is_file():
            raise UserError(f"finetune.root: {file} is not there; {remedy}")


def read_names(file: Path, remedy: str) -> list[str]:
    """The first word of every line of a list of images.

    Raises:
        UserError: if there is no such list, or nothing in it.
    """
    require([file], remedy)
    names = [line.split()[0] for line in file.read_text(encoding="utf-8").splitlines() if line]
    if not names:
        raise UserError(f"finetune.root: {file} lists no images; {remedy}")
    return names


def read_image(file: Path) -> Image.Image:
    """A decoded RGB image; raises UserError if it is none."""
    return _decode(file, "RGB")


def read_classes(file: Path, num_classes: int) -> np.ndarray:
    """Classes int64 [H, W] of an 8-bit image of numbers from 1, 0 being no label: 0 … num_classes
    - 1, or -1.

    Raises:
        UserError: if it is no such image.
    """
    image = _decode(file, None)
    if image.mode not in ("L", "P"):
        raise UserError(f"{file}: has mode {image.mode}, not one number a pixel; replace it")
    classes: np.ndarray = np.asarray(image).astype(np.int64) - 1
    if classes.max(initial=-1) >= num_classes:
        raise UserError(f"{file}: has class {classes.max() + 1} of {num_classes}; replace it")
    return classes


def read_normals(file: Path) -> np.ndarray:
    """Vectors float32 [H, W, 3] of an `.npy` file, NaN as zeros; nothing in it is executed.

    Raises:
        UserError: if it holds anything else.
    """
    try:
        normals = np.load(file, allow_pickle=False)
    except PermissionError:
        raise UserError(f"{file}: Permission denied; check its permissions") from None
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file}: not a readable array ({error}); replace it") from None
    is_floating = isinstance(normals, np.ndarray) and normals.dtype.kind == "f"
    if not is_floating or normals.ndim != 3 or normals.shape[2] != 3:
        raise UserError(f"{file}: not floating-point numbers [H, W, 3]; replace it")
    known: np.ndarray = np.nan_to_num(normals.astype(np.float32), posinf=0.0, neginf=0.0)
    return known


def _decode(file: Path, mode: str | None) -> Image.Image:
    try:
        with Image.open(file) as image:
            image.load()
            return image if mode is None else image.convert(mode)
    except PermissionError:
        raise UserError(f"{file}: Permission denied; check its permissions") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{file}: not a readable image ({error}); replace it") from None
