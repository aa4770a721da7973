"""Images brought to the size of the views."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from pipeline.student.view_size import SizedImages, bring_to_size, resize
from shards.reader import ShardReader


def draw_images(side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (4, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_bring_to_size_leaves_images_of_that_size_as_they_are(dtype: torch.dtype) -> None:
    images = draw_images(16).to(dtype)
    assert bring_to_size(images, 16) is images


@pytest.mark.parametrize(("size", "side"), [(96, 64), (256, 64), (32, 64)])
def test_bring_to_size_equals_torchvisions_antialiased_bicubic_resize(size: int, side: int) -> None:
    images = draw_images(size)
    bicubic = vision.InterpolationMode.BICUBIC
    pixels = images.float() / 255
    expected = vision.resize(pixels, [side, side], bicubic, antialias=True).clamp(0, 1)
    torch.testing.assert_close(bring_to_size(pixels, side), expected, rtol=0, atol=1e-6)
    found = bring_to_size(images, side)
    assert found.dtype == torch.uint8
    # half a level by rounding, and float32's rounding before it
    torch.testing.assert_close(found.float() / 255, expected, rtol=0, atol=0.502 / 255)


def test_bring_to_size_of_black_and_white_stays_in_range() -> None:
    board = (torch.arange(24) // 3 % 2).float().expand(1, 3, 24, 24)
    assert resize(board, 40).max() > 1
    found = bring_to_size(board, 40)
    assert (found.min(), found.max()) == (0, 1)
    levels = bring_to_size((board * 255).to(torch.uint8), 40)
    assert (levels.float() / 255 - found).abs().max() < 0.51 / 255


def test_sized_images_are_those_of_the_reader_at_the_size(real_reader: ShardReader) -> None:
    rows = np.array([3, 1, 39])
    stored = torch.from_numpy(real_reader.gather("image", rows))
    same, smaller = SizedImages(real_reader, 16), SizedImages(real_reader, 12)
    assert len(same) == len(smaller) == 40
    assert torch.equal(same.gather(rows), stored)
    assert torch.equal(smaller.gather(rows), bring_to_size(stored, 12))
    assert same.digest == real_reader.digest
    assert len({same.digest, smaller.digest, SizedImages(real_reader, 8).digest}) == 3
