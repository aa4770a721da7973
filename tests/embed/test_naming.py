"""What IMAGES may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.real import RealConfig
from pipeline.embed.naming import find_named, resolve, typed_fields
from shards.errors import UserError
from tests.support.real_images import write_folder, write_parquet, write_tar, write_zip

LIKE = RealConfig.model_validate(
    {
        "path": "elsewhere",
        "resolution": 24,
        "image_codec": "png",
        "background": [1, 2, 3],
        "unreadable": "skip",
        "label_field": "kind",
        "limit": 5,
    }
)


def splits(images: Path | str) -> dict[str, tuple[str | None, str | None, str]]:
    """Name -> train and path of the section, and the split there."""
    return {
        named.name: (
            None if named.real.train is None else str(named.real.train),
            None if named.real.path is None else str(named.real.path),
            named.split,
        )
        for named in find_named(resolve(str(images)), LIKE)
    }


def test_folder_of_images_or_classes_is_taken_whole(tmp_path: Path) -> None:
    flat = write_folder(tmp_path / "flat", {"1.png": 1})
    classes = write_folder(tmp_path / "classes", {"a/1.png": 1, "b/2.png": 2})
    for folder in (flat, classes):
        assert splits(folder) == {"": (str(folder), None, "train")}


def test_folders_of_splits_are_each_taken_whatever_splits_there_are(tmp_path: Path) -> None:
    root = write_folder(tmp_path, {"train/a/1.png": 1, "val/b/2.png": 2, "other/3.png": 3})
    assert splits(root) == {
        "train": (str(root / "train"), None, "train"),
        "val": (str(root / "val"), None, "train"),
    }


def test_files_of_splits_in_a_folder_are_both_taken(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", [1], [0])
    both = {split: (None, str(tmp_path), split) for split in ("train", "test")}
    assert splits(tmp_path) == both


def test_zip_is_of_splits_only_if_it_has_a_folder_of_them(tmp_path: Path) -> None:
    plain = write_zip(tmp_path / "plain.zip", {"a/1.png": 1, "b/2.png": 2})
    rooted = write_zip(tmp_path / "rooted.zip", {"train/a/1.png": 1, "test/a/2.png": 2})
    assert splits(plain) == {"": (str(plain), None, "train")}
    both = find_named(str(rooted), LIKE)
    assert [(one.name, one.split, str(one.real.path)) for one in both] == [
        ("", split, str(rooted)) for split in ("train", "test")
    ]


@pytest.mark.parametrize("images", ["part-{0..1}.tar", "*.tar", "s3://bucket/part-*.tar"])
def test_patterns_and_urls_are_taken_as_real_train_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: str
) -> None:
    for number in range(2):
        write_tar(tmp_path / f"part-{number}.tar", [("1.png", 1)])
    monkeypatch.chdir(tmp_path)
    place = images if "://" in images else str(tmp_path / images)
    assert splits(images) == {"": (place, None, "train")}


def test_sets_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert splits("digits") == {split: (None, None, split) for split in ("train", "test")}
    both = {split: (None, str(tmp_path / "sets"), split) for split in ("train", "test")}
    assert splits("cifar10:sets") == both
    with pytest.raises(UserError, match=r"^IMAGES=cifar10: .* cifar10:FOLDER$"):
        splits("cifar10")
    folder = write_folder(tmp_path / "digits", {"1.png": 1})
    assert splits("digits") == {"": (str(folder), None, "train")}


def test_images_are_stored_as_the_runs_are_and_all_of_them(tmp_path: Path) -> None:
    (named,) = find_named(str(write_folder(tmp_path, {"1.png": 1})), LIKE)
    real = named.real
    assert (real.resolution, real.image_codec, real.background) == (24, "png", (1, 2, 3))
    assert real.unreadable == "skip"
    assert real.limit is None
    assert real.label_field is None  # of the run's own tars


def test_fields_of_the_images_own_source_are_those_that_were_typed() -> None:
    assert typed_fields(LIKE, ["real.resolution=8"]) == {}
    assert typed_fields(LIKE, ["real.label_field=kind"]) == {"label_field": "kind"}


def test_what_can_be_no_place_is_refused() -> None:
    with pytest.raises(UserError, match=r"^IMAGES=pipe:x: must be a path or a URL"):
        find_named("pipe:x", LIKE)
