"""Bytes of image files -> pixels: the same picture however it was saved."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageSequence

from pipeline.real.decode import UnreadableError, decode, image_suffixes, is_image_name
from tests.support.real_images import INPUTS, chunk, distance, encode, noise

WHITE = (255, 255, 255)
EXPECTED = np.load(INPUTS / "images" / "expected.npz")


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
