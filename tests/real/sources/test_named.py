"""Where real images come from: the digits, and folders as users have them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pipeline.real.sources.named import open_source, source_digest
from pydantic import ValidationError
from sklearn.datasets import load_digits

from pipeline.config.real import RealConfig
from shards.errors import UserError

SIDE = 8


def save_image(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (12, 12)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def folder_config(path: Path, classes: Path | None = None) -> RealConfig:
    return RealConfig(source="folder", path=path, classes=classes, resolution=SIDE)


def read(path: Path, split: str = "train") -> list[tuple[np.ndarray, int]]:
    return list(open_source(folder_config(path), split).images)


def test_digits_splits_are_1437_and_360_of_the_whole_set() -> None:
    digits = load_digits()
    config = RealConfig(source="digits", resolution=8)
    labels = []
    for split, count in (("train", 1437), ("test", 360)):
        source = open_source(config, split)
        samples = list(source.images)
        assert source.num_images == len(samples) == count
        assert source.class_names == [str(digit) for digit in range(10)]
        assert {image.shape for image, _ in samples} == {(3, 8, 8)}
        assert {image.dtype for image, _ in samples} == {np.dtype(np.uint8)}
        labels += [label for _, label in samples]
    np.testing.assert_array_equal(labels, digits.target)


def test_digits_at_their_own_size_are_the_grey_levels_in_every_channel() -> None:
    image, _ = next(open_source(RealConfig(source="digits", resolution=8), "train").images)
    expected = load_digits().images[0] * 255 / 16
    for channel in image:
        assert np.abs(channel - expected).max() <= 1  # rounded to a byte


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [("3_per_class", [3] * 10), (100, [10] * 10), (10, [1] * 10), (None, None)],
)
def test_limit_takes_train_images_of_every_class_and_leaves_the_test_split(
    limit: int | str | None, sizes: list[int] | None
) -> None:
    config = RealConfig(source="digits", resolution=SIDE, limit=limit)
    source = open_source(config, "train")
    labels = [label for _, label in source.images]
    assert sizes is None or np.bincount(labels).tolist() == sizes
    assert source.num_images == len(labels)
    assert source.num_available == (None if limit is None else 1437)
    assert open_source(config, "test").num_images == 360


def test_limit_takes_images_as_they_are_and_others_for_another_seed() -> None:
    images = []
    for seed in (None, 0, 0, 1):
        limit = {} if seed is None else {"limit": 30, "limit_seed": seed}
        source = open_source(RealConfig(source="digits", resolution=SIDE, **limit), "train")
        images.append([(image.tobytes(), label) for image, label in source.images])
    whole, first, again, other = images
    assert first == again != other
    places = [whole.index(pair) for pair in first]
    assert places == sorted(places)


@pytest.mark.parametrize("limit", ["80_percent", 100])
def test_train_images_that_the_limit_leaves_out_are_the_test_images_if_wanted(
    limit: int | str,
) -> None:
    config = RealConfig(source="digits", resolution=SIDE, limit=limit, test_from="train")
    drawn, rest = (open_source(config, split) for split in ("train", "test"))
    assert drawn.num_images + rest.num_images == 1437
    whole = open_source(RealConfig(source="digits", resolution=SIDE), "train")
    both = sorted(
        (image.tobytes(), label) for part in (drawn, rest) for image, label in part.images
    )
    assert both == sorted((image.tobytes(), label) for image, label in whole.images)


def test_train_images_as_test_images_want_a_limit_that_leaves_some() -> None:
    with pytest.raises(ValidationError, match="set limit, such as 80_percent"):
        RealConfig(source="digits", test_from="train")
    config = RealConfig(source="digits", resolution=SIDE, limit=1437, test_from="train")
    with pytest.raises(UserError, match=r"real\.limit: 1437 leaves out none of 1,437"):
        open_source(config, "test")


def test_limit_of_images_without_labels_is_of_all_of_them(tmp_path: Path) -> None:
    for number in range(6):
        save_image(tmp_path / "train" / f"{number}.png", (number, 0, 0))
    config = RealConfig(source="folder", path=tmp_path, resolution=SIDE, limit=4)
    assert [label for _, label in open_source(config, "train").images] == [-1] * 4


@pytest.mark.parametrize("limit", [9, 1438])
def test_limit_of_less_than_one_of_each_class_or_more_than_there_are_is_refused(limit: int) -> None:
    config = RealConfig(source="digits", resolution=SIDE, limit=limit)
    with pytest.raises(UserError, match=r"real\.limit.*1,437 train images of 10 classes"):
        open_source(config, "train")


@pytest.mark.parametrize("limit", [0, -5, "10", "all", 2.5, "0_per_class", True])
def test_limit_that_is_neither_number_nor_share_is_refused_in_words(limit: Any) -> None:
    with pytest.raises(ValidationError, match="must be a number of images, or such as"):
        RealConfig(source="digits", limit=limit)


def test_folder_with_classes_labels_images_by_sorted_class_name(tmp_path: Path) -> None:
    save_image(tmp_path / "train" / "dog" / "1.png", (255, 0, 0))
    save_image(tmp_path / "train" / "cat" / "b.jpg", (0, 255, 0))
    save_image(tmp_path / "train" / "cat" / "a.PNG", (0, 0, 255))
    (tmp_path / "train" / "cat" / "notes.txt").write_text("not an image")
    source = open_source(folder_config(tmp_path), "train")
    samples = list(source.images)
    assert source.class_names == ["cat", "dog"]
    assert source.num_images == 3
    assert [label for _, label in samples] == [0, 0, 1]
    np.testing.assert_array_equal(samples[0][0][:, 0, 0], [0, 0, 255])
    np.testing.assert_array_equal(samples[2][0][:, 0, 0], [255, 0, 0])


def test_folder_test_split_with_fewer_classes_keeps_the_train_splits_labels(
    tmp_path: Path,
) -> None:
    for name in ("cat", "dog", "emu"):
        save_image(tmp_path / "train" / name / "1.png", (0, 0, 0))
    for name in ("dog", "emu"):
        save_image(tmp_path / "test" / name / "1.png", (0, 0, 0))
    train_names = open_source(folder_config(tmp_path), "train").class_names
    labels = [label for _, label in read(tmp_path, "test")]
    assert [train_names[label] for label in labels] == ["dog", "emu"]


def test_folder_flat_has_no_labels(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        save_image(tmp_path / "train" / name, (1, 2, 3))
    source = open_source(folder_config(tmp_path), "train")
    assert source.class_names == []
    assert [label for _, label in source.images] == [-1, -1]


def test_folder_without_test_images_has_an_empty_test_split(tmp_path: Path) -> None:
    save_image(tmp_path / "train" / "a.png", (1, 2, 3))
    source = open_source(folder_config(tmp_path), "test")
    assert source.num_images == 0
    assert list(source.images) == []


def test_folder_without_train_images_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"real\.path.*train"):
        open_source(folder_config(tmp_path), "train")
    (tmp_path / "train" / "cat").mkdir(parents=True)
    with pytest.raises(UserError, match=r"real\.path.*train"):
        open_source(folder_config(tmp_path), "train")


def damaged_png(path: Path, cut: slice | None) -> None:
    """A noisy PNG, cut short or with a flipped byte in its pixel data."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    content = bytearray(path.read_bytes())
    if cut is None:
        content[len(content) // 2] ^= 0xFF
    path.write_bytes(content if cut is None else content[cut])


@pytest.mark.parametrize("damage", ["text", "empty", "header", "cut", "flipped", "jpeg"])
def test_folder_unreadable_image_is_named(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "train" / "broken.png"
    save_image(tmp_path / "train" / "a.png", (1, 2, 3))
    if damage == "text":
        path.write_text("no image")
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "header":
        damaged_png(path, slice(0, 20))
    elif damage == "cut":
        damaged_png(path, slice(0, 4000))
    elif damage == "flipped":
        damaged_png(path, None)
    else:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(tmp_path / "whole.jpg")
        path.write_bytes((tmp_path / "whole.jpg").read_bytes()[:1500])
    with pytest.raises(UserError, match=r"broken\.png"):
        read(tmp_path)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "CMYK"])
def test_folder_image_of_any_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "train" / ("a.jpg" if mode == "CMYK" else "a.png")
    path.parent.mkdir()
    Image.new("RGB", (10, 10), (255, 255, 255)).convert(mode).save(path)
    ((image, _),) = read(tmp_path)
    assert image.shape == (3, SIDE, SIDE)
    assert image.min() >= 250


def test_folder_oblong_image_is_cropped_at_its_centre(tmp_path: Path) -> None:
    pixels = np.zeros((16, 48, 3), dtype=np.uint8)
    pixels[:, 16:32] = (10, 200, 90)
    (tmp_path / "train").mkdir()
    Image.fromarray(pixels).save(tmp_path / "train" / "a.png")
    ((image, _),) = read(tmp_path)
    # halving makes the bicubic kernel 8 pixels wide: the outer two pixels reach past the crop
    inside = image[:, 2:-2, 2:-2].reshape(3, -1)
    np.testing.assert_array_equal(inside.min(1), [10, 200, 90])
    np.testing.assert_array_equal(inside.max(1), [10, 200, 90])


def test_folder_digest_changes_with_names_sizes_and_times_only(tmp_path: Path) -> None:
    path = tmp_path / "train" / "a.png"
    save_image(path, (1, 2, 3))
    before = source_digest(folder_config(tmp_path), "train")
    assert source_digest(folder_config(tmp_path), "train") == before
    path.rename(path.with_name("b.png"))
    renamed = source_digest(folder_config(tmp_path), "train")
    os.utime(path.with_name("b.png"), ns=(1, 1))
    touched = source_digest(folder_config(tmp_path), "train")
    save_image(tmp_path / "train" / "c.png", (1, 2, 3))
    assert len({before, renamed, touched, source_digest(folder_config(tmp_path), "train")}) == 4


def test_folder_with_flat_test_beside_classes_is_refused(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save_image(tmp_path / "train" / name / "1.png", (0, 0, 0))
    save_image(tmp_path / "test" / "1.png", (0, 0, 0))
    with pytest.raises(UserError, match="test"):
        open_source(folder_config(tmp_path), "test")


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    (tmp_path / "train").mkdir(parents=True)
    Image.fromarray(ramp).save(tmp_path / "train" / "1.png")
    config = folder_config(tmp_path).model_copy(update={"resolution": 16})
    image, _ = next(open_source(config, "train").images)
    assert abs(image[0].astype(int) - (ramp >> 8)).max() <= 1


def test_hidden_and_empty_folders_are_no_classes(tmp_path: Path) -> None:
    save_image(tmp_path / "train" / "cat" / "1.png", (0, 0, 0))
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "train" / "empty").mkdir()
    assert open_source(folder_config(tmp_path), "train").class_names == ["cat"]


def class_list(folder: Path, text: str) -> Path:
    path = folder / "classes.txt"
    path.write_text(text)
    return path


def test_listed_classes_alone_are_read_and_numbered(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog", "emu"):
            save_image(tmp_path / split / name / "1.png", (0, 0, 0))
    config = folder_config(tmp_path, class_list(tmp_path, "# two of them\n emu\n\ncat\n"))
    for split in ("train", "test"):
        source = open_source(config, split)
        assert source.class_names == ["cat", "emu"]
        assert [label for _, label in source.images] == [0, 1]


def test_listed_classes_digest_follows_their_files_only(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        save_image(tmp_path / "train" / name / "1.png", (0, 0, 0))
    config = folder_config(tmp_path, class_list(tmp_path, "cat"))
    before = source_digest(config, "train")
    save_image(tmp_path / "train" / "dog" / "2.png", (0, 0, 0))
    assert source_digest(config, "train") == before
    class_list(tmp_path, "cat\ndog\n")
    assert source_digest(config, "train") != before


@pytest.mark.parametrize(
    ("text", "words"), [("cat\nyak\n", "yak"), ("# none\n", "classes.txt"), (None, "classes.txt")]
)
def test_unusable_list_of_classes_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    save_image(tmp_path / "train" / "cat" / "1.png", (0, 0, 0))
    classes = tmp_path / "classes.txt" if text is None else class_list(tmp_path, text)
    for function in (open_source, source_digest):
        with pytest.raises(UserError, match=rf"real\.classes: .*{words}"):
            function(folder_config(tmp_path, classes), "train")
