"""What a source holds, listed once, and by what a change of it is noticed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.real import listing as listing_module
from pipeline.real.listing import LISTINGS, find_listing, list_here, read_entries, take_listing
from pipeline.real.request import find_request, make_request
from pipeline.real.sources import folder as folder_module
from pipeline.real.sources.folder import FolderSource
from pipeline.real.sources.location import describe
from pipeline.real.sources.source import Entry, Findings, Source
from pipeline.real.sources.tars import TarSource
from shards.errors import UserError
from shards.storage import Folder, file_system
from tests.support.real_images import (
    real_config,
    tile,
    write,
    write_folder,
    write_parquet,
    write_tar,
    write_zip,
)
from tests.support.s3 import BUCKET, S3Server


@pytest.fixture
def store(tmp_path: Path) -> Folder:
    return Folder.at(tmp_path / "store")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    files: dict[str, bytes | int] = {
        "cat/1.png": 1,
        "cat/2.png": 2,
        "dog/deep/3.png": 3,
        "4.png": 4,
    }
    return write_folder(tmp_path / "images", files)


def take(source: Source, store: Folder) -> Any:
    return take_listing(source, store, list_here(source))


def test_listing_has_all_entries_and_is_found_again(images: Path, store: Folder) -> None:
    source = FolderSource(str(images))
    assert find_listing(source, store) is None
    taken = take(source, store)
    assert find_listing(source, store) == taken
    entries = list(read_entries(store / LISTINGS, taken))
    assert [os.fsdecode(entry.source) for entry in entries] == [
        "4.png",
        "cat/1.png",
        "cat/2.png",
        "dog/deep/3.png",
    ]
    assert [entry.label for entry in entries] == [None, "cat", "cat", "dog"]
    assert [entry.size for entry in entries] == [len(tile(number)) for number in (4, 1, 2, 3)]
    assert (taken.num_entries, taken.num_unlabelled, taken.labels) == (4, 1, ("cat", "dog"))


def test_listing_is_found_current_without_listing_or_reading_images(
    images: Path, store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = FolderSource(str(images))
    taken = take(source, store)

    def fail(*_: object) -> None:
        raise AssertionError("looked again")

    monkeypatch.setattr(folder_module, "scan", fail)
    monkeypatch.setattr(folder_module, "read_file", fail)
    assert find_listing(source, store) == taken
    with pytest.raises(AssertionError, match="looked again"):
        take(source, store)


@pytest.mark.parametrize("change", ["added", "removed", "renamed", "added deep", "new class"])
def test_listing_is_not_current_when_a_folder_has_changed(
    images: Path, store: Folder, change: str
) -> None:
    source = FolderSource(str(images))
    before = take(source, store)
    for path in (images, *images.rglob("*")):
        os.utime(path, ns=(10**18, 10**18))
    before = take(source, store)
    if change == "added":
        write(images / "cat" / "9.png", 9)
    elif change == "removed":
        (images / "cat" / "1.png").unlink()
    elif change == "renamed":
        (images / "cat" / "1.png").rename(images / "cat" / "0.png")
    elif change == "added deep":
        write(images / "dog" / "deep" / "9.png", 9)
    else:
        write(images / "emu" / "9.png", 9)
    assert find_listing(source, store) is None
    assert take(source, store).digest != before.digest


@pytest.mark.parametrize("change", ["size", "time", "target of a link", "gone link"])
def test_listing_is_not_current_when_a_file_has_changed_in_place(
    images: Path, store: Folder, tmp_path: Path, change: str
) -> None:
    elsewhere = write(tmp_path / "elsewhere.png", 7)
    (images / "cat" / "link.png").symlink_to(elsewhere)
    source = FolderSource(str(images))
    before = take(source, store)
    path = images / "cat" / "1.png"
    status = path.stat()
    if change == "size":
        path.write_bytes(tile(1) + b"more")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "target of a link":
        elsewhere.write_bytes(tile(8) + b"more")
    else:
        elsewhere.unlink()
    assert find_listing(source, store) is None
    assert take(source, store).digest != before.digest


def test_link_that_leads_somewhere_again_makes_the_listing_outdated(
    images: Path, store: Folder, tmp_path: Path
) -> None:
    (images / "cat" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    source = FolderSource(str(images))
    take(source, store)
    write(tmp_path / "elsewhere.png", 7)
    assert find_listing(source, store) is None


def test_files_of_very_many_are_not_looked_at_one_by_one(
    images: Path, store: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_module, "MAX_CHECKED", 3)
    source = FolderSource(str(images))
    taken = take(source, store)
    os.utime(images / "cat" / "1.png", ns=(1, 1))
    assert find_listing(source, store) == taken
    write(images / "cat" / "9.png", 9)
    assert find_listing(source, store) is None


def test_listing_that_is_damaged_or_of_another_version_is_taken_anew(
    images: Path, store: Folder
) -> None:
    source = FolderSource(str(images))
    taken = take(source, store)
    path = store.path / LISTINGS / f"{taken.name}.json"
    text = path.read_text()
    path.write_text(text.replace('"version": 1', '"version": 0'))
    assert find_listing(source, store) is None
    path.write_text(text[:-10])
    assert find_listing(source, store) is None
    path.write_text(text)
    assert find_listing(source, store) == taken
    (store.path / LISTINGS / f"{taken.name}.parquet").unlink()
    assert find_listing(source, store) is None


def test_listing_of_a_folder_that_has_gone_is_not_current(images: Path, store: Folder) -> None:
    source = FolderSource(str(images))
    take(source, store)
    images.rename(images.with_name("elsewhere"))
    assert find_listing(source, store) is None


def test_digest_is_of_names_labels_sizes_and_times(images: Path, tmp_path: Path) -> None:
    digests = []
    path = images / "cat" / "1.png"

    def note() -> None:
        store = Folder.at(tmp_path / f"store-{len(digests)}")
        digests.append(take(FolderSource(str(images)), store).digest)

    note()
    note()
    assert digests[0] == digests[1]
    os.utime(path, ns=(1, 1))
    note()
    path.rename(images / "cat" / "0.png")
    note()
    (images / "cat").rename(images / "owl")
    note()
    write(images / "owl" / "0.png", 7)
    os.utime(images / "owl" / "0.png", ns=(1, 1))
    note()
    assert len(set(digests)) == len(digests) - 2  # tiles are of one size


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet"])
def test_listing_of_files_with_many_images_is_of_their_sizes_and_times(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / f"a.{kind}"

    def make(*numbers: int) -> None:
        if kind == "tar":
            write_tar(path, [(f"{number}.png", number) for number in numbers])
        elif kind == "zip":
            write_zip(path, {f"{number}.png": number for number in numbers})
        else:
            write_parquet(path, numbers)

    config = real_config(tmp_path, train=path)
    make(1, 2)
    assert find_request(config) is None
    first = make_request(config)
    found = find_request(config)
    assert found is not None
    assert found.spec == first.spec
    make(1, 2, 3)
    assert find_request(config) is None
    second = make_request(config)
    assert second.listings["train"].num_entries == 3
    os.utime(path, ns=(5, 5))
    assert find_request(config) is None


def test_listing_is_taken_once_for_both_splits_of_one_place(images: Path, tmp_path: Path) -> None:
    listed: list[str] = []
    config = real_config(tmp_path, train=images, test=images)

    def list_source(source: Source, split: str) -> Any:
        listed.append(split)
        return take(source, config.store)

    make_request(config, list_source)
    assert listed == ["train"]


def test_listing_of_a_pattern_follows_the_files_that_it_names(images: Path, tmp_path: Path) -> None:
    config = real_config(tmp_path, train=f"{images}/*/*.png")
    assert make_request(config).listings["train"].num_entries == 2
    assert find_request(config) is not None
    write(images / "emu" / "9.png", 9)
    assert find_request(config) is None
    assert make_request(config).listings["train"].num_entries == 3
    os.utime(images / "emu" / "9.png", ns=(1, 1))
    assert find_request(config) is None
    make_request(config)
    (images / "emu" / "9.png").unlink()
    assert find_request(config) is not None, "as before the file was there"
    (images / "cat" / "1.png").unlink()
    assert find_request(config) is None


class ManyLabels:
    """A source with a label for each row."""

    files = ()
    names = None

    def identity(self) -> dict[str, object]:
        return {"kind": "many"}

    def list_part(self, part: int, findings: Findings) -> Any:
        return (Entry(b"", str(number)) for number in range(100_001))

    def open(self) -> Any:
        raise NotImplementedError


def test_as_many_labels_as_images_cannot_be_classes(store: Folder) -> None:
    with pytest.raises(UserError, match=r"real\.label_field: over 100,000 different labels"):
        take(ManyLabels(), store)
    assert not list((store.path / LISTINGS).glob("*.json"))


def test_parts_that_are_listed_apart_are_one_listing_in_their_order(
    tmp_path: Path, store: Folder
) -> None:
    tars = [
        write_tar(tmp_path / f"{n}.tar", [(f"{n}.png", n), (f"{n}.txt", b"")]) for n in range(3)
    ]
    source = TarSource(tuple(describe(str(path)) for path in tars))
    counts: list[int] = []
    taken = take_listing(source, store, list_here(source), counts.append)
    entries = list(read_entries(store / LISTINGS, taken))
    assert [(entry.source, entry.file) for entry in entries] == [(b"0", 0), (b"1", 1), (b"2", 2)]
    assert counts == [1, 2, 3]


def test_remote_folder_is_listed_once_and_its_listing_may_be_deleted(
    tmp_path: Path, s3: S3Server
) -> None:
    files = file_system("s3")
    files.pipe_file(f"{BUCKET}/images/train/cat/1.png", tile(1))
    config = real_config(tmp_path, path=f"s3://{BUCKET}/images")
    first = make_request(config)
    files.pipe_file(f"{BUCKET}/images/train/cat/2.png", tile(2))
    found = find_request(config)
    assert found is not None
    assert found.spec == first.spec
    for path in (tmp_path / "store" / LISTINGS).glob("*.json"):
        path.unlink()
    assert find_request(config) is None
    assert make_request(config).listings["train"].num_entries == 2
