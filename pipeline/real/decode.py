"""Bytes of an image file -> uint8 [3, R, R], upright, opaque, square.

Neighbours: `sources/` hands over the bytes, `pack.py` stores the pixels. Pillow reads every format
that it knows without help of other programs; what a format's file is called does not matter.
"""

from __future__ import annotations

import io
import warnings
from functools import cache

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features

DECODING = "2"
"""Of the rules below, in the key of what is packed by them: JPEGs of which the central square is
at least `_MARGIN` times as large as twice (4, 8 times) the side wanted are decoded at a half (a
quarter, an eighth) of their size."""
_MARGIN = 1.4
_WITHOUT_DECODER = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF"}
"""Formats that Pillow hands to other programs or to nobody, and IPTC's envelope of others."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FROM_RIGHT = (2, 3, 7, 8)
"""Orientations under which the right end of what is stored comes to the left or to the top."""
_FROM_BOTTOM = (3, 4, 6, 7)

_USUAL = ("JPEG", "PNG", "WEBP")

Box = tuple[float, float, float, float]


class UnreadableError(Exception):
    """No image can be made of this; the reason in words."""


@cache
def image_formats() -> tuple[str, ...]:
    """Names of the formats that can be decoded here."""
    Image.init()
    absent = set() if features.check("avif") else {"AVIF"}
    names = [name for name in Image.OPEN if name not in _WITHOUT_DECODER | absent]
    return tuple(sorted(names, key=lambda name: name not in _USUAL))  # Pillow tries one by one


@cache
def image_suffixes() -> frozenset[str]:
    """Their files' suffixes, in small letters with the dot."""
    formats = {*image_formats(), "MPO"}  # which the decoder of JPEGs opens
    known = Image.registered_extensions().items()
    return frozenset(suffix.lower() for suffix, name in known if name in formats)


def is_image_name(name: str) -> bool:
    """Whether a file is called as images are."""
    return "." in name and f".{name.rpartition('.')[2].lower()}" in image_suffixes()


def decode(content: bytes, side: int, background: tuple[int, int, int]) -> np.ndarray:
    """The image in `content`, as `to_array`.

    Raises:
        UnreadableError: if there is none, or only a part of it.
    """
    if not content:
        raise UnreadableError("an empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow finds odd in metadata, and large images
            with Image.open(io.BytesIO(content), formats=image_formats()) as image:
                return to_array(image, side, background)
    except UnidentifiedImageError:
        raise UnreadableError("not an image in a format that can be read here") from None
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # Pillow's plugins raise whatever a damaged file makes them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UnreadableError(f"cannot be decoded ({reason})") from None


def to_array(image: Image.Image, side: int, background: tuple[int, int, int]) -> np.ndarray:
    """Turned as its EXIF orientation says, laid over the RGB colour `background` where it is
    transparent, its central square resized (bicubic, antialiased); uint8 [3, side, side]. Of an
    animation the first frame; grey of 16 bits is scaled; colour profiles are ignored.
    """
    width, height = image.size
    shrunk = image.draft("RGB", (round(side * _MARGIN),) * 2)
    image.load()
    scale = 1.0 if shrunk is None else shrunk[1][2] / width
    orientation = _read_orientation(image)
    square = min(width, height)
    left, top = (width - square) // 2, (height - square) // 2
    if orientation in _FROM_RIGHT:  # of an odd rest the greater half is on the right when upright
        left = width - square - left
    if orientation in _FROM_BOTTOM:
        top = height - square - top
    box: Box = (left * scale, top * scale, (left + square) * scale, (top + square) * scale)
    image = _to_rgb(image, background).resize((side, side), Image.Resampling.BICUBIC, box=box)
    if orientation in _TURNS:  # last: a reduced JPEG ends with a part of a pixel, right and below
        image = image.transpose(_TURNS[orientation])
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _read_orientation(image: Image.Image) -> int:
    """EXIF's number, 1 where there is none or it cannot be read."""
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF, or XMP that is no text: no reason to do without the image
        return 1


def _to_rgb(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):  # 16 bits and more: `convert` would clip instead of scaling
        wide = np.asarray(image).astype(np.int64).clip(0, 65535)
        clear = wide == image.info.get("transparency", -1)  # of a PNG, one level
        grey = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
        image = Image.merge("LA", (grey, Image.fromarray(np.where(clear, 0, 255).astype(np.uint8))))
    elif image.mode == "F":
        raise UnreadableError("pixels are floating-point numbers of an unknown range")
    if not image.has_transparency_data:
        return image.convert("RGB")
    opaque = Image.new("RGBA", image.size, (*background, 255))
    return Image.alpha_composite(opaque, image.convert("RGBA")).convert("RGB")
