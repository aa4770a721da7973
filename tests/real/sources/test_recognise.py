"""What a path, pattern or URL names, recognised from what is there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NoReturn

import pytest
from pydantic import ValidationError

from pipeline.config.labelled_set import SetImages
from pipeline.config.real import RealConfig
from pipeline.real import listing
from pipeline.real.request import find_request, make_request
from pipeline.real.sources import folder as folder_module
from pipeline.real.sources import recognise
from pipeline.real.sources.folder import FolderSource
from pipeline.real.sources.parquet import ParquetSource
from pipeline.real.sources.recognise import find_source, find_unread_splits
from pipeline.real.sources.source import Findings, Row
from pipeline.real.sources.tars import TarSource
from pipeline.real.sources.zips import ZipSource
from shards.errors import UserError
from tests.support.real_images import (
    MAKERS,
    parquet,
    read_set,
    real_config,
    refuse,
    tar,
    tile,
    write_folder,
    write_parquet,
    write_zip,
    zipped,
)

KINDS = {"tar": TarSource, "zip": ZipSource, "parquet": ParquetSource}


@pytest.mark.parametrize("suffix", MAKERS)
@pytest.mark.parametrize(
    "names",
    [
        ("train", "test"),
        ("train-000", "test-000"),
        ("train_0", "test_0"),
        ("train0", "test0"),
        ("data/train-00000-of-00001", "data/test-00000-of-00001"),
    ],
)
def test_path_with_files_of_splits_has_those(
    tmp_path: Path, suffix: str, names: tuple[str, str]
) -> None:
    data = tmp_path / "data set"
    MAKERS[suffix](data / f"{names[0]}.{suffix}", 0, 1, 2)
    MAKERS[suffix](data / f"{names[1]}.{suffix}", 5, 7)
    (data / "trainer.tar").write_bytes(b"something else")
    (data / "README.md").write_bytes(b"")
    found = read_set(tmp_path, path=data)
    assert sorted(found.train.numbers) == [0, 1, 2]
    assert dict(zip(found.test.numbers, found.test.labels, strict=True)) == {5: 2, 7: 1}


@pytest.mark.parametrize("suffix", MAKERS)
@pytest.mark.parametrize(
    "pattern", ["part-{000..002}.S", "*.S", "part-00[0-2].S", "{part-000,part-001,part-002}.S", ""]
)
def test_files_by_pattern_or_folder_are_one_set_in_the_order_of_their_names(
    tmp_path: Path, suffix: str, pattern: str
) -> None:
    data = tmp_path / "data"
    for number in (2, 0, 1):
        MAKERS[suffix](data / f"part-00{number}.{suffix}", 3 * number, 3 * number + 1)
    found = read_set(tmp_path, train=str(data / pattern.replace("S", suffix)))
    assert found.train.numbers == [0, 1, 3, 4, 6, 7]
    assert found.test.labels == []


def test_folder_of_tars_beside_their_parquet_tables_is_the_tars(tmp_path: Path) -> None:
    tar(tmp_path / "data" / "00000.tar", 1)
    parquet(tmp_path / "data" / "00000.parquet", 2)
    (tmp_path / "data" / "00000_stats.json").write_text("{}")
    assert read_set(tmp_path, train=tmp_path / "data").train.numbers == [1]


def test_folder_of_images_beside_a_zip_is_the_images(tmp_path: Path) -> None:
    write_folder(tmp_path / "data", {"cat/1.png": 1})
    zipped(tmp_path / "data" / "backup.zip", 2)
    assert read_set(tmp_path, train=tmp_path / "data").train.numbers == [1]


@pytest.mark.parametrize("suffix", MAKERS)
def test_file_of_another_name_is_recognised_by_its_first_bytes(tmp_path: Path, suffix: str) -> None:
    path = MAKERS[suffix](tmp_path / f"x.{suffix}", 1).rename(tmp_path / "download")
    source = find_source(RealConfig(train=path), "train")
    assert isinstance(source, KINDS[suffix])
    assert read_set(tmp_path, train=path).train.numbers == [1]


@pytest.mark.parametrize("suffix", MAKERS)
def test_suffix_in_capitals_is_the_same(tmp_path: Path, suffix: str) -> None:
    path = MAKERS[suffix](tmp_path / "data" / f"train.{suffix}", 1)
    path.rename(path.with_name(f"train.{suffix.upper()}"))
    assert read_set(tmp_path, path=tmp_path / "data").train.numbers == [1]


def test_name_with_braces_or_wildcards_that_is_there_is_itself(tmp_path: Path) -> None:
    for name in ("a{1,2}", "b[0]*", "c{"):
        write_folder(tmp_path / name, {"1.png": 1})
        found = read_set(tmp_path / "out", train=tmp_path / name)
        assert found.train.numbers == [1]


def test_split_of_its_own_takes_the_place_of_the_paths(tmp_path: Path) -> None:
    write_folder(tmp_path / "data" / "train", {"a/1.png": 1})
    write_folder(tmp_path / "data" / "test", {"a/2.png": 2})
    write_folder(tmp_path / "more", {"a/3.png": 3})
    found = read_set(tmp_path, path=tmp_path / "data", train=tmp_path / "more")
    assert (found.train.numbers, found.test.numbers) == ([3], [2])
    found = read_set(tmp_path, path=tmp_path / "data", test=tmp_path / "more")
    assert (found.train.numbers, found.test.numbers) == ([1], [3])


def test_image_named_by_a_home_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write_folder(tmp_path / "pictures", {"1.png": 1})
    assert read_set(tmp_path, train="~/pictures").train.numbers == [1]


def test_own_images_are_meant_where_they_are_named_and_digits_where_not() -> None:
    assert RealConfig().source == "digits"
    for field in ("path", "train"):
        assert RealConfig(**{field: "somewhere"}).source == "folder"
    with pytest.raises(ValidationError, match="source=folder needs path=FOLDER"):
        RealConfig(test="somewhere")


@pytest.mark.parametrize("location", ["pipe:cat x", "zip://a::s3://b", "s3://a::simplecache"])
def test_pipes_and_chains_are_refused(location: str) -> None:
    with pytest.raises(ValidationError, match="must be a path or a URL such as"):
        RealConfig(train=location)


def test_places_that_are_not_there_are_named_with_their_field(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", {"1.png": 1})
    absent = tmp_path / "absent"
    for fields in (
        {"path": absent},
        {"train": absent},
        {"train": tmp_path / "images", "test": absent},
        {"train": f"{absent}/*.tar"},
    ):
        message = refuse(tmp_path, **fields)
        assert message.startswith(f"real.{list(fields)[-1]}: ")
        assert str(absent) in message
        assert "is not there" in message
    tar(tmp_path / "part-0.tar", 1)
    assert "part-1.tar is not there" in refuse(tmp_path, train=f"{tmp_path}/part-{{0..3}}.tar")


def test_path_that_is_a_file_or_has_no_train_says_what_to_set(tmp_path: Path) -> None:
    path = tar(tmp_path / "a.tar", 1)
    assert f"real.train={path}" in refuse(tmp_path, path=path)
    root = write_folder(tmp_path / "cats", {"tabby/1.png": 1, "siamese/2.png": 2})
    message = refuse(tmp_path, path=root)
    assert message.startswith("real.path: no images in ")
    assert f"real.train={root}" in message
    assert "siamese, tabby" in message
    (root / "cifar-10-batches-py").mkdir()
    assert "set real.source=cifar10" in refuse(tmp_path, path=root)


@pytest.mark.parametrize(
    ("files", "is_whole"),
    [
        ({"tabby/1.png": 1, "siamese/2.png": 2}, True),
        ({"1.png": 1}, True),
        ({"tabby/1.png": 1, "test/2.png": 2}, False),
        ({"tabby/1.png": 1, "validation/2.png": 2}, False),
        ({"cifar-10-batches-py/test_batch": b""}, False),
        ({}, False),
    ],
)
def test_path_of_a_labelled_set_without_splits_in_it_has_its_images(
    tmp_path: Path, files: dict[str, bytes | int], is_whole: bool
) -> None:
    root = write_folder(tmp_path / "cats", files)
    images = SetImages(source="folder", path=root, place="eval.sets.mine")
    assert find_source(images, "test") is None or not is_whole
    if is_whole:
        assert find_source(images, "train") == FolderSource(str(root))
    else:
        with pytest.raises(UserError, match=r"real\.path: "):
            find_source(images, "train")
    splits = write_folder(tmp_path / "splits", {"train/a/1.png": 1, "other/2.png": 2})
    found = find_source(images.model_copy(update={"path": splits}), "train")
    assert found == FolderSource(str(splits / "train"))


def test_path_of_a_labelled_set_may_be_one_file(tmp_path: Path) -> None:
    classes = {"tabby/1.png": 1, "siamese/2.png": 2}
    whole = write_zip(tmp_path / "cats.zip", classes)
    parts = {"train": classes, "test": {"tabby/3.png": 3}}
    files = {
        f"{split}/{name}": image for split, part in parts.items() for name, image in part.items()
    }
    splits = write_zip(tmp_path / "splits.zip", files)
    for path, kind, has_test in (
        (whole, ZipSource, False),
        (splits, ZipSource, True),
        (tar(tmp_path / "a.tar", 1), TarSource, False),
    ):
        images = SetImages(source="folder", path=path, place="eval.sets.mine")
        train = find_source(images, "train")
        assert isinstance(train, kind)
        assert len(list(train.list_part(0, Findings()))) == (1 if kind is TarSource else 2)
        assert (find_source(images, "test") is not None) == has_test


@pytest.mark.parametrize("ending", ["tar.gz", "tgz", "tar.bz2", "tar.zst"])
def test_compressed_tars_are_refused_with_what_to_do(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "data" / f"train.{ending}"
    path.parent.mkdir()
    path.write_bytes(b"\x1f\x8b")
    for fields in ({"path": tmp_path / "data"}, {"train": path}):
        assert "unpack it to a tar" in refuse(tmp_path, **fields)


def test_mixtures_and_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    tar(tmp_path / "data" / "1.tar", 1)
    zipped(tmp_path / "data" / "2.zip", 1)
    assert "name one kind" in refuse(tmp_path, train=f"{tmp_path}/data/*")
    (tmp_path / "notes").write_bytes(b"no images")
    assert "is no folder, tar, zip, Parquet" in refuse(tmp_path, train=tmp_path / "notes")
    (tmp_path / "none").write_bytes(b"")
    assert "is no folder, tar, zip, Parquet" in refuse(tmp_path, train=tmp_path / "none")
    write_folder(tmp_path / "more", {"a/1.png": 1, "b/1.png": 1})
    assert "2 folders" in refuse(tmp_path, train=f"{tmp_path}/more/*")


def test_fields_that_a_source_does_not_have_are_refused(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", {"1.png": 1})
    for train in (folder, zipped(tmp_path / "a.zip", 1)):
        for field in ("label_field", "image_field"):
            message = refuse(tmp_path, train=train, **{field: "y"})
            assert message.startswith(f"real.{field}: ")
            assert message.endswith("leave it out")
    message = refuse(tmp_path, train=tar(tmp_path / "a.tar", 1), image_field="png")
    assert message.startswith("real.image_field: is for Parquet files")


def test_class_folder_that_is_removed_is_no_class_any_more(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "data", {"a/1.png": 1, "b/2.png": 2})
    assert read_set(tmp_path, train=data).class_names == ("a", "b")
    shutil.rmtree(data / "b")
    assert read_set(tmp_path, train=data).class_names == ("a",)
    assert isinstance(find_source(RealConfig(train=data), "train"), FolderSource)


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_splits_are_not_taken_for_classes(tmp_path: Path, kind: str) -> None:
    members = {"train/cat/1.png": 1, "train/dog/2.png": 2, "Test/cat/3.png": 3}
    place = tmp_path / ("both.zip" if kind == "zip" else "both")
    (write_zip if kind == "zip" else write_folder)(place, members)
    with pytest.raises(UserError, match=r"real\.train: .*splits and not classes \(Test, train\)"):
        read_set(tmp_path, train=place)


def test_files_of_several_splits_are_not_one(tmp_path: Path) -> None:
    for name in ("train-0.parquet", "test-0.parquet", "validation-0.parquet"):
        write_parquet(tmp_path / "data" / name, [1], [0])
    with pytest.raises(UserError, match=r"real\.train: .*several splits \(test, train, validation"):
        read_set(tmp_path, train=tmp_path / "data")


def test_root_with_capitals_is_told_how_to_name_them(tmp_path: Path) -> None:
    write_folder(tmp_path / "set" / "Train", {"a/1.png": 1})
    with pytest.raises(UserError, match=r"real\.path: .* has Train, .*real\.train=.*/Train"):
        read_set(tmp_path, path=tmp_path / "set")


def test_validation_images_are_found_where_there_are_no_test_images(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "set", {"train/a/1.png": 1, "val/a/2.png": 2})
    config = RealConfig(path=root)
    assert find_unread_splits(config) == [f"{root}/val"]
    assert find_unread_splits(RealConfig(train=root / "train")) == []


@pytest.mark.parametrize("name", ["data", "data/*/*.png"])
def test_relative_paths_are_found_from_wherever_workers_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_folder(tmp_path / "data", {"a/1.png": 1, "b/2.png": 2})
    monkeypatch.chdir(tmp_path)
    source = find_source(RealConfig.model_validate({"train": name}), "train")
    assert source is not None
    rows = [Row(e.source, e.file, e.position, e.size) for e in source.list_part(0, Findings())]
    monkeypatch.chdir("/")
    assert list(source.open().read(rows)) == [tile(1), tile(2)]


def test_very_many_images_in_one_folder_are_not_looked_at_to_recognise_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_folder(tmp_path / "data", {f"{number}.png": number for number in range(5)})
    monkeypatch.setattr(listing, "MAX_CHECKED", 3)
    config = real_config(tmp_path, train=folder)
    make_request(config)

    def forbidden(folder: str) -> NoReturn:
        raise AssertionError(folder)

    for module in (recognise, folder_module):
        monkeypatch.setattr(module, "scan", forbidden)
    assert find_request(config) is not None
