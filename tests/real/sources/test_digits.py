"""The embedded digits, and the limits of train images, which need no files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.datasets import load_digits

from pipeline.config.real import RealConfig
from shards.errors import UserError
from tests.support.real_images import ReadSet, read_set


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ReadSet:
    return read_set(tmp_path_factory.mktemp("digits"))


def pairs(found: ReadSet, split: str) -> list[tuple[bytes, int]]:
    part = getattr(found, split)
    return [(i.tobytes(), label) for i, label in zip(part.images, part.labels, strict=True)]


def test_digits_splits_are_1437_and_360_of_the_whole_set(whole: ReadSet) -> None:
    assert whole.class_names == tuple(str(digit) for digit in range(10))
    assert len(whole.train.images) == 1437
    assert len(whole.test.images) == 360
    for image in (*whole.train.images, *whole.test.images):
        assert image.shape == (3, 8, 8)
        assert image.dtype == np.uint8
    labels = whole.train.labels + whole.test.labels
    np.testing.assert_array_equal(labels, load_digits().target)


def test_digits_at_their_own_size_are_the_grey_levels_in_every_channel(whole: ReadSet) -> None:
    expected = load_digits().images * 255 / 16
    for image, levels in zip(whole.train.images, expected, strict=False):
        assert np.abs(image - levels).max() <= 1  # rounded to a byte


@pytest.mark.parametrize(
    ("limit", "sizes"), [("3_per_class", [3] * 10), (100, [10] * 10), (10, [1] * 10)]
)
def test_limit_takes_train_images_of_every_class_and_leaves_the_test_split(
    tmp_path: Any, whole: ReadSet, limit: int | str, sizes: list[int]
) -> None:
    found = read_set(tmp_path, limit=limit)
    assert np.bincount(found.train.labels).tolist() == sizes
    assert found.train.num_available == 1437
    assert whole.train.num_available is None
    assert pairs(found, "test") == pairs(whole, "test")


def test_limit_takes_images_as_they_are_and_others_for_another_seed(
    tmp_path: Any, whole: ReadSet
) -> None:
    first, again, other = (
        pairs(read_set(tmp_path, limit=30, limit_seed=seed), "train") for seed in (0, 0, 1)
    )
    assert first == again != other
    everything = pairs(whole, "train")
    places = [everything.index(pair) for pair in first]
    assert places == sorted(places)


@pytest.mark.parametrize("limit", ["80_percent", 100])
def test_train_images_that_the_limit_leaves_out_are_the_test_images_if_wanted(
    tmp_path: Any, whole: ReadSet, limit: int | str
) -> None:
    found = read_set(tmp_path, limit=limit, test_from="train")
    both = pairs(found, "train") + pairs(found, "test")
    assert sorted(both) == sorted(pairs(whole, "train"))
    assert found.test.num_available is None


def test_train_images_as_test_images_want_a_limit_that_leaves_some(tmp_path: Any) -> None:
    with pytest.raises(ValidationError, match="set limit, such as 80_percent"):
        RealConfig(source="digits", test_from="train")
    with pytest.raises(UserError, match=r"real\.limit: 1437 leaves out none of 1,437"):
        read_set(tmp_path, limit=1437, test_from="train")


@pytest.mark.parametrize("limit", [9, 1438])
def test_limit_of_less_than_one_of_each_class_or_more_than_there_are_is_refused(
    tmp_path: Any, limit: int
) -> None:
    with pytest.raises(UserError, match=r"real\.limit.*1,437 train images of 10 classes"):
        read_set(tmp_path, limit=limit)


@pytest.mark.parametrize("limit", [0, -5, "10", "all", 2.5, "0_per_class", True])
def test_limit_that_is_neither_number_nor_share_is_refused_in_words(limit: Any) -> None:
    with pytest.raises(ValidationError, match="must be a number of images, or such as"):
        RealConfig(source="digits", limit=limit)


@pytest.mark.parametrize("field", ["path", "train", "test"])
def test_digits_beside_images_that_are_named_are_refused(field: str) -> None:
    with pytest.raises(ValidationError, match="path, train and test are for other sources"):
        RealConfig(source="digits", **{field: "somewhere"})
