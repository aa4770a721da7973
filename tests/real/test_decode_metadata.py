"""What a file says beside its pixels: EXIF's orientation, also of JPEGs that are decoded reduced;
and metadata that are damaged.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from pipeline.real.decode import decode
from tests.support.real_images import INPUTS, chunk, distance, encode, noise, smooth

WHITE = (255, 255, 255)
ORIENTATION = 0x0112


# As EXIF 2.32 has it: where the first row and the first column of what is stored are on display.
DISPLAYED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda stored: stored,  # top, left
    2: lambda stored: stored[:, ::-1],  # top, right
    3: lambda stored: stored[::-1, ::-1],  # bottom, right
    4: lambda stored: stored[::-1],  # bottom, left
    5: lambda stored: stored.transpose(1, 0, 2),  # left, top
    6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],  # right, top
    7: lambda stored: stored.transpose(1, 0, 2)[::-1, ::-1],  # right, bottom
    8: lambda stored: stored.transpose(1, 0, 2)[::-1],  # left, bottom
}


def reference(pixels: np.ndarray, side: int) -> np.ndarray:
    """Central square at `side` px by Keys' cubic (a = -1/2), stretched over the pixels that become
    one; float64 [3, side, side] before rounding.
    """
    height, width = pixels.shape[:2]
    square = min(height, width)
    scale = square / side

    def weights(length: int) -> np.ndarray:
        """[side, length], each row's sum 1."""
        first = (length - square) // 2
        table = np.zeros((side, length))
        for out in range(side):
            centre = first + (out + 0.5) * scale
            for place in range(length):
                distance = abs(place + 0.5 - centre) / max(scale, 1)
                if distance < 1:
                    table[out, place] = 1.5 * distance**3 - 2.5 * distance**2 + 1
                elif distance < 2:
                    near = -0.5 * distance**3 + 2.5 * distance**2
                    table[out, place] = near - 4 * distance + 2
        return table / table.sum(1, keepdims=True)

    rows = np.einsum("ih,hwc->iwc", weights(height), pixels.astype(np.float64))
    across = np.einsum("jw,iwc->cij", weights(width), rows.round().clip(0, 255))
    return across.clip(0, 255)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", DISPLAYED)
@pytest.mark.parametrize("size", [(13, 8), (8, 13), (29, 23)])
def test_decode_turns_and_crops_and_resizes_as_a_plain_reference_does(
    orientation: int, kind: str, size: tuple[int, int]
) -> None:
    stored = noise(*size)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encode(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    image = decode(content, 8, WHITE)
    # Pillow goes over columns first and rounds between, the reference over rows: one level each
    assert np.abs(image - reference(DISPLAYED[orientation](stored), 8)).max() <= 2
    if min(size) == 8:
        shown = DISPLAYED[orientation](stored)
        top, left = ((length - 8) // 2 for length in shown.shape[:2])
        crop = shown[top : top + 8, left : left + 8]
        np.testing.assert_array_equal(image, crop.transpose(2, 0, 1))


@pytest.mark.parametrize("orientation", DISPLAYED)
def test_decode_turns_jpegs_that_are_decoded_reduced(orientation: int) -> None:
    stored = smooth(201, 123)  # a quarter of which is 50.25 x 30.75 pixels
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image = decode(encode(stored, "JPEG", quality=95, exif=exif), 16, WHITE)
    # a shift by a quarter of a pixel makes it 6, see the next test for what reducing does
    assert distance(image, reference(DISPLAYED[orientation](stored), 16)) < 3


@pytest.mark.parametrize("size", [64, 91, 100, 150, 200])
def test_decode_of_a_jpeg_at_reduced_size_is_as_at_its_full_one(size: int) -> None:
    with Image.open(INPUTS / "images" / "photo.tif") as photo:
        small = photo.convert("RGB").resize((size, size))
    content = encode(small, "JPEG", quality=92)
    with Image.open(io.BytesIO(content)) as image:
        whole = encode(image.convert("RGB"))
    # libjpeg leaves out frequencies, where bicubic weighs pixels: a few levels at edges, and the
    # more so the nearer the reduced size is to the side wanted; 1.8 was seen at 91 px
    assert distance(decode(content, 32, WHITE), decode(whole, 32, WHITE)) < 2.5


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


XMP_NO_TEXT = b'<x:xmpmeta><rdf:Description \xff\xfe\x80 \xc3("/></x:xmpmeta>'
DAMAGED_EXIF = {
    "cut": b"MM\x00*\x00\x00\x00\x08\x00\x05\x01\x12",
    "garbage": b"\xff\xfe\xfd\xfc\xfb",
    "far": b"II*\x00\xff\xff\xff\x7f",
    "text": b"II*\0" + struct.pack("<IHHHI", 8, 1, ORIENTATION, 2, 4) + b"six\0" + bytes(4),
    "empty": b"",
}


@pytest.mark.parametrize("damage", DAMAGED_EXIF)
def test_decode_with_damaged_exif_is_as_without(damage: str) -> None:
    pixels = noise(11, 14)
    jpeg, png = encode(pixels, "JPEG"), encode(pixels)
    exif = DAMAGED_EXIF[damage]
    damaged_jpeg = jpeg[:2] + segment(0xE1, b"Exif\0\0" + exif) + jpeg[2:]
    damaged_png = png[:33] + chunk(b"eXIf", exif) + png[33:]
    raw = chunk(b"tEXt", b"Raw profile type exif\0\nexif\n    9\nthis is no hex\n")
    for whole, damaged in (
        (jpeg, damaged_jpeg),
        (png, damaged_png),
        (png, png[:33] + raw + png[33:]),
    ):
        np.testing.assert_array_equal(decode(damaged, 8, WHITE), decode(whole, 8, WHITE))


def test_decode_with_xmp_that_is_no_text_is_as_without() -> None:
    pixels = noise(11, 14)
    jpeg, png = encode(pixels, "JPEG"), encode(pixels)
    in_jpeg = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + XMP_NO_TEXT)
    in_png = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP_NO_TEXT)
    for whole, damaged in (
        (jpeg, jpeg[:2] + in_jpeg + jpeg[2:]),
        (png, png[:33] + in_png + png[33:]),
    ):
        np.testing.assert_array_equal(decode(damaged, 8, WHITE), decode(whole, 8, WHITE))


def test_decode_of_damaged_mpf_index_is_as_without() -> None:
    jpeg = encode(noise(11, 14), "JPEG")
    damaged = jpeg[:2] + segment(0xE2, b"MPF\0II*\0\xff\xff\xff\x7f") + jpeg[2:]
    np.testing.assert_array_equal(decode(damaged, 8, WHITE), decode(jpeg, 8, WHITE))
