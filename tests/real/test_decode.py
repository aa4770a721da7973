"""Bytes of image files -> pixels: the same picture however it was saved."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageSequence

from pipeline.real.decode import UnreadableError, decode, image_suffixes, is_image_name
from tests.support.real_images import INPUTS, encode

WHITE = (255, 255, 255)
EXPECTED = np.load(INPUTS / "images" / "expected.npz")
ORIENTATION = 0x0112


def distance(image: np.ndarray, expected: np.ndarray) -> float:
    """Mean absolute difference."""
    return float(np.abs(image.astype(int) - expected.astype(int)).mean())


@pytest.mark.parametrize("name", list(EXPECTED))
def test_decode_of_a_picture_in_any_format_is_that_picture(name: str) -> None:
    image = decode((INPUTS / "images" / name).read_bytes(), 32, WHITE)
    assert image.shape == (3, 32, 32)
    assert image.dtype == np.uint8
    # JPEGs are decoded at a half or a quarter of their size; all others differ by rounding alone
    assert distance(image, EXPECTED[name]) <= (1 if name.lower().endswith(("jpg", "jpeg")) else 0.3)


@pytest.mark.parametrize("name", ["cut-in-half.jpg", "empty.png", "html.png", "text.jpg"])
def test_decode_of_what_is_no_image_says_why(name: str) -> None:
    with pytest.raises(UnreadableError, match=r"truncated|an empty file|not an image in a format"):
        decode((INPUTS / "unreadable" / name).read_bytes(), 32, WHITE)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """Waves of four pixels and longer."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width] / 200
    pixels = np.zeros((height, width, 3))
    for number in range(24):
        across, down, phase = generator.uniform(-1, 1, 3)
        wave = np.sin(2 * np.pi * (12 * across * x + 12 * down * y + phase))
        pixels[..., number % 3] += wave
    return (128 + 25 * pixels).clip(0, 255).astype(np.uint8)


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


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


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


def half_transparent(mode: str) -> bytes:
    """A PNG of 8x8, the left half opaque and of level 40 (of 1 bit: 0), the right transparent."""
    right = np.tile(np.arange(8) >= 4, (8, 1))
    if mode in ("RGBA", "LA"):
        image = Image.new(mode, (8, 8), (40,) * (len(mode) - 1) + (255,))
        image.putalpha(Image.fromarray(np.where(right, 0, 255).astype(np.uint8)))
        return encode(image)
    if mode == "P":
        image = Image.frombytes("P", (8, 8), right.astype(np.uint8).tobytes())
        image.putpalette([40, 40, 40, 90, 90, 90])
        return encode(image, transparency=1)
    dark, clear = (0, 255) if mode == "1" else (40, 90)
    image = Image.fromarray(np.where(right, clear, dark).astype(np.uint8)).convert(mode)
    return encode(image, transparency=(clear,) * 3 if mode == "RGB" else clear)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "RGB", "1"])
def test_decode_lays_transparent_parts_over_the_background(mode: str) -> None:
    image = decode(half_transparent(mode), 8, (10, 200, 30))
    assert (image[:, :, :4] == (0 if mode == "1" else 40)).all()
    np.testing.assert_array_equal(image[:, 0, 4:].T, [[10, 200, 30]] * 4)


def test_decode_mixes_what_is_half_transparent_with_the_background() -> None:
    image = decode(encode(Image.new("RGBA", (8, 8), (200, 100, 0, 128))), 8, (0, 0, 100))
    expected = np.array([200, 100, 0]) * 128 / 255 + np.array([0, 0, 100]) * 127 / 255
    assert np.abs(image[:, 0, 0] - expected).max() <= 1


def test_decode_of_palette_with_an_alpha_of_each_colour_lays_it_over_the_background() -> None:
    image = Image.frombytes("P", (8, 8), bytes([0, 1, 2, 3] * 16))
    image.putpalette([0, 0, 0, 60, 60, 60, 120, 120, 120, 180, 180, 180])
    content = encode(image, transparency=bytes([255, 255, 0, 0]))
    assert decode(content, 8, WHITE)[0, 0].tolist() == [0, 60, 255, 255] * 2


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK", "YCbCr"])
def test_decode_of_any_mode_is_rgb(mode: str) -> None:
    kind = {"CMYK": "TIFF", "YCbCr": "TIFF"}.get(mode, "PNG")
    grey = np.where(np.arange(64).reshape(8, 8) % 3 == 0, 255, 0).astype(np.uint8)
    image = decode(encode(Image.fromarray(grey).convert("RGB").convert(mode), kind), 8, WHITE)
    for channel in image:
        assert np.abs(channel.astype(int) - grey).max() <= 2


def test_decode_of_a_cmyk_jpeg_is_not_its_negative() -> None:
    content = encode(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = decode(content, 8, WHITE)[:, 4, 4]
    assert red > 245
    assert max(green, blue) < 10


RAMP = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_decode_scales_sixteen_bit_grey_instead_of_clipping(kind: str) -> None:
    image = decode(encode(RAMP, kind), 16, WHITE)
    assert np.abs(image - RAMP / 257).max() <= 1


def test_decode_scales_sixteen_bit_grey_of_a_big_endian_tiff() -> None:
    pixels = RAMP.astype(">u2").tobytes()
    width, height, bits, photometric, strip, rows, size = 256, 257, 258, 262, 273, 278, 279
    tags = {width: 16, height: 16, bits: 16, 259: 1, photometric: 1, strip: 0, rows: 16, size: 512}
    tags[strip] = 8 + 2 + 12 * len(tags) + 4
    table = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags.items())
    head = b"MM\0*" + struct.pack(">IH", 8, len(tags))
    image = decode(head + table + struct.pack(">I", 0) + pixels, 16, WHITE)
    assert np.abs(image - RAMP / 257).max() <= 1


def test_decode_of_sixteen_bit_grey_with_a_transparent_level_lays_it_over_the_background() -> None:
    levels = np.full((8, 8), 10_000, np.uint16)
    levels[:, 4:] = 30_000
    png = encode(levels)
    content = png[:33] + chunk(b"tRNS", struct.pack(">H", 30_000)) + png[33:]
    image = decode(content, 8, (1, 2, 3))
    np.testing.assert_array_equal(image[:, 0, 7], [1, 2, 3])
    assert abs(int(image[0, 0, 0]) - 10_000 / 257) <= 1


def test_decode_of_floating_point_pixels_is_refused_in_words() -> None:
    content = encode(np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8), "TIFF")
    with pytest.raises(UnreadableError, match="floating-point numbers of an unknown range"):
        decode(content, 8, WHITE)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_decode_of_an_animation_is_its_first_frame(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(content)) as image:
        assert len(list(ImageSequence.Iterator(image))) == 2
    assert decode(content, 8, WHITE)[:, 3, 3].tolist() == [250, 0, 0]


def test_decode_of_a_multi_picture_file_is_its_first_picture() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((250, 0, 0), (0, 250, 0))]
    content = encode(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=95)
    assert np.abs(decode(content, 8, WHITE)[:, 4, 4].astype(int) - [250, 0, 0]).max() <= 3
    large = [frame.resize((400, 300)) for frame in frames]
    content = encode(large[0], "MPO", save_all=True, append_images=large[1:], quality=95)
    assert np.abs(decode(content, 8, WHITE)[:, 4, 4].astype(int) - [250, 0, 0]).max() <= 3


def test_decode_enlarges_what_is_smaller() -> None:
    assert decode(encode(Image.new("RGB", (1, 3), (9, 8, 7))), 8, WHITE)[:, 7, 0].tolist() == [
        9,
        8,
        7,
    ]


def damaged(damage: str) -> bytes:
    content = bytearray(encode(noise(64, 64)))
    if damage == "flipped":
        content[len(content) // 2] ^= 0xFF
    elif damage == "header":
        del content[20:]
    elif damage == "cut":
        del content[4000:]
    elif damage == "jpeg":
        content = bytearray(encode(noise(64, 64), "JPEG")[:1500])
    elif damage == "progressive":
        content = bytearray(encode(noise(64, 64), "JPEG", progressive=True)[:1500])
    elif damage == "tiff":
        content = bytearray(encode(noise(64, 64), "TIFF")[:1500])
    elif damage == "gif":
        content = bytearray(encode(noise(64, 64), "GIF")[:1500])
    elif damage == "webp":
        content = bytearray(encode(noise(64, 64), "WEBP")[:1500])
    elif damage == "postscript":
        return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n"
    return bytes(content)


@pytest.mark.parametrize(
    "damage",
    ["flipped", "header", "cut", "jpeg", "progressive", "tiff", "gif", "webp", "postscript"],
)
def test_decode_of_a_part_of_an_image_is_refused_in_a_line(damage: str) -> None:
    with pytest.raises(UnreadableError) as raised:
        decode(damaged(damage), 8, WHITE)
    assert str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_of_images_are_those_of_formats_that_can_be_read() -> None:
    for name in (
        "a.jpg",
        "A.JPEG",
        "a.b.Png",
        "a.tif",
        "a.gif",
        "a.webp",
        "a.jfif",
        "a.jp2",
        "a.mpo",
    ):
        assert is_image_name(name), name
    for name in ("a.txt", "jpg", "a.pdf", "a.eps", "a.h5", "a.mpg", "a.npy", "a.jpg.txt", "a."):
        assert not is_image_name(name), name
    assert {".bmp", ".ppm", ".pgm"} <= image_suffixes()
