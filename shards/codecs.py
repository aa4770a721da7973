"""Images as PNG, WebP or JPEG: written by Pillow, read by whatever does it fastest."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from shards.schema import Column

_FORMATS = {"png": "PNG", "webp": "WEBP", "jpg": "JPEG"}


def encode_image(image: np.ndarray, column: Column) -> bytes:
    """uint8 [3, height, width] as a file of the column's codec and quality."""
    options: dict[str, object] = {}
    if column.codec == "webp":
        options = {"lossless": column.quality == 100, "quality": column.quality, "method": 4}
    elif column.codec == "jpg":
        options = {"quality": column.quality, "subsampling": 0 if (column.quality or 0) > 90 else 2}
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, _FORMATS[column.codec], **options)
    return buffer.getvalue()


def decode_image(content: bytes | memoryview, column: Column) -> np.ndarray:
    """The image of a file as uint8 of the column's shape.

    Raises:
        ValueError: if it is another format or shape, or damaged.
    """
    try:
        pixels = _decode_webp(content) if column.codec == "webp" else _decode(content, column.codec)
    except (OSError, SyntaxError, RuntimeError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{column.name}: no {column.codec} image ({reason})") from None
    if pixels.shape != column.shape:
        raise ValueError(f"{column.name}: {pixels.shape} is not {column.shape}")
    return pixels


def _decode(content: bytes | memoryview, codec: str) -> np.ndarray:
    """By torchvision: the pixels that Pillow reads, in about half the time."""
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg, decode_png

    decode = {"jpg": decode_jpeg, "png": decode_png}[codec]
    raw = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    pixels: np.ndarray = decode(raw, ImageReadMode.RGB).numpy()
    return pixels


def _decode_webp(content: bytes | memoryview) -> np.ndarray:
    with Image.open(io.BytesIO(content), formats=["WEBP"]) as file:
        return np.asarray(file.convert("RGB")).transpose(2, 0, 1)
