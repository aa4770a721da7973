"""Batches of labelled images by step: each once an epoch, with its own label, as random views."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.config.augment import AugmentConfig
from pipeline.eval.probes.labelled_views import LabelledViews, ProbeImages
from pipeline.samples.seeding import torch_generator
from pipeline.student.view_size import bring_to_size
from pipeline.student.views import draw_views, make_views
from tests.support.labelled_images import as_they_are, make_images

CPU = torch.device("cpu")
NUM_IMAGES = 21
ROWS = np.arange(1, NUM_IMAGES, 2)
"""The labelled ones: ten."""


@pytest.fixture
def images(tmp_path: Path) -> ProbeImages:
    """Flat images whose brightness is their row, which is their label, too."""
    levels = np.arange(NUM_IMAGES, dtype=np.uint8)
    pixels = np.broadcast_to(levels[:, None, None, None], (NUM_IMAGES, 3, 8, 8))
    return make_images(tmp_path, (pixels, levels.astype(np.int64)), rows=ROWS)


def read_steps(
    images: ProbeImages,
    steps: range,
    batch_size: int = 4,
    seed: int = 0,
    augment: AugmentConfig | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    views = LabelledViews(images, batch_size, augment or as_they_are(), seed=seed, device=CPU)
    with closing(views):
        for step in steps:
            yield views.batch(step)


def rows_of(images: Tensor) -> list[int]:
    found: list[int] = (images[:, 0, 0, 0] * 255).round().int().tolist()
    return found


def test_labelled_views_every_epoch_has_every_labelled_image_once(images: ProbeImages) -> None:
    epochs = []
    for epoch in range(3):
        batches = [rows_of(part) for part, _ in read_steps(images, range(3 * epoch, 3 * epoch + 3))]
        assert [len(batch) for batch in batches] == [4, 4, 2]
        epochs.append([row for batch in batches for row in batch])
        assert sorted(epochs[-1]) == ROWS.tolist()
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_labelled_views_labels_are_those_of_the_images(images: ProbeImages) -> None:
    for part, labels in read_steps(images, range(6)):
        assert labels.tolist() == rows_of(part)


def test_labelled_views_batch_larger_than_the_set_has_all_of_it(images: ProbeImages) -> None:
    views = LabelledViews(images, 256, as_they_are(), seed=0, device=CPU)
    with closing(views):
        assert views.num_steps == 1
        for step in range(2):
            assert sorted(rows_of(views.batch(step)[0])) == ROWS.tolist()


def test_labelled_views_without_augmentation_are_the_stored_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8)).astype(np.uint8)
    images = make_images(tmp_path, (pixels, np.arange(6)))
    for part, labels in read_steps(images, range(2)):
        expected = torch.from_numpy(pixels)[labels].float() / 255
        torch.testing.assert_close(part, expected, rtol=0, atol=1e-7)


def test_labelled_views_a_step_alone_equals_it_in_sequence(images: ProbeImages) -> None:
    augment = AugmentConfig()
    every = list(read_steps(images, range(5), augment=augment))
    for step in (4, 0, 2):
        [alone] = read_steps(images, range(step, step + 1), augment=augment)
        torch.testing.assert_close(alone, every[step], rtol=0, atol=0)


def test_labelled_views_order_and_views_are_functions_of_the_seed(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8)).astype(np.uint8)
    images = make_images(tmp_path, (pixels, np.arange(12)))
    augment = AugmentConfig(crop_scale=(0.1, 0.5))
    first, second, other = (
        next(read_steps(images, range(1), 12, seed, augment)) for seed in (0, 0, 1)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    assert first[1].tolist() != other[1].tolist()
    # the same image in two epochs: another view of it
    earlier, later = read_steps(images, range(2), 12, 0, augment)
    moved = earlier[0][earlier[1].argsort()] - later[0][later[1].argsort()]
    assert moved.abs().amax((1, 2, 3)).min() > 0.01


def test_test_batches_are_all_test_images_in_order(tmp_path: Path) -> None:
    levels = (np.arange(1203) % 256).astype(np.uint8)
    pixels = np.broadcast_to(levels[:, None, None, None], (len(levels), 3, 4, 4))
    test = (pixels, levels.astype(np.int64))
    images = make_images(tmp_path, (pixels[:2], np.arange(2)), test)
    found = torch.cat(list(images.test_batches(CPU)))
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.numpy(), pixels)


@pytest.mark.parametrize("split", ["train", "test"])
def test_labelled_images_another_number_of_labels_is_refused(
    images: ProbeImages, split: str
) -> None:
    train, test = images.train_labels, images.test_labels
    with pytest.raises(ValueError, match=f"{split} images, and a label for each"):
        ProbeImages(
            images.train,
            images.train_rows,
            train[:-1] if split == "train" else train,
            images.test,
            images.test_rows,
            test[:-1] if split == "test" else test,
            images.view_size,
        )


def test_labelled_images_of_another_size_are_seen_at_that_of_the_views(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 3, 24, 24), dtype=np.uint8)
    images = make_images(tmp_path, (pixels, np.arange(6)), view_size=16)
    stored = torch.from_numpy(pixels)
    (test,) = images.test_batches(CPU)
    assert torch.equal(test, bring_to_size(stored, 16))
    ((plain, labels),) = read_steps(images, range(1), batch_size=6)
    assert torch.equal(plain, bring_to_size(stored, 16)[labels].float() / 255)
    ((views, labels),) = read_steps(images, range(1), batch_size=6, augment=AugmentConfig())
    drawn = draw_views(AugmentConfig(), 6, torch_generator(0, "probe/views", 0))
    assert torch.equal(views, make_views([stored[labels]], drawn, 16))
