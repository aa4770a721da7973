"""`real` section -> the source of a split, recognised from what lies there.

Neighbours: a module for each kind of source; `real/listing.py` lists what this finds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from pipeline.config.real import RealConfig
from pipeline.real.decode import is_image_name
from pipeline.real.sources.digits import DigitsSource
from pipeline.real.sources.folder import FilesSource, FolderSource
from pipeline.real.sources.location import (
    absolute,
    describe,
    describe_all,
    exists,
    expand,
    glance,
    in_words,
    is_folder,
    join,
    open_file,
    scan,
)
from pipeline.real.sources.parquet import ParquetSource
from pipeline.real.sources.source import Findings, Source
from pipeline.real.sources.tars import TarSource
from pipeline.real.sources.torchvision_sets import DOWNLOADS, DownloadSource, imagenet_source
from pipeline.real.sources.zips import ZipSource
from shards.errors import UserError

_TARS, _ZIPS, _PARQUETS = (".tar",), (".zip",), (".parquet",)
_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_CONTAINERS = _TARS + _ZIPS + _PARQUETS
_TEST_NAMES = ("test", "val", "valid", "validation", "dev")
SPLIT_NAMES = ("train", "training", *_TEST_NAMES)
"""Names that people give to parts of a set, and to no class of it."""
_WITHIN = ("", "data")
"""Folders of a root in which the files of splits lie; Hugging Face's are in `data`."""


def find_source(config: RealConfig, split: str) -> Source | None:
    """Images of `split` ("train" or "test") of the source; None for a test split that is not there.

    Raises:
        UserError: if there are no train images, or something that cannot be read.
    """
    if config.source == "digits":
        return DigitsSource(split)
    root = None if config.path is None else absolute(str(config.path))
    if root is not None and config.source in DOWNLOADS:
        return DownloadSource(config.source, root, split)
    if root is not None and config.source == "imagenet":
        return imagenet_source(Path(root), split)
    location = config.train if split == "train" else config.test
    field = f"real.{split}"
    with in_words("real.path" if location is None else field):
        if location is not None:
            return _recognise(config, absolute(str(location)), field)
        return None if root is None else _below_root(config, root, split)


def find_unread_splits(config: RealConfig) -> list[str]:
    """Places below `real.path` that look like test images but are not called `test`."""
    if config.source != "folder" or config.path is None or config.test is not None:
        return []
    root = str(config.path)
    found = []
    for folder in (join(root, within) if within else root for within in _WITHIN):
        if is_folder(folder):
            found += [join(folder, e.name) for e in scan(folder) if _prefix(e.name) in _TEST_NAMES]
    return found


def _prefix(name: str) -> str:
    """Letters that a file or folder begins with, in small ones."""
    return "".join(takewhile(str.isalpha, name)).lower()


def _below_root(config: RealConfig, root: str, split: str) -> Source | None:
    if is_folder(join(root, split)):
        return _recognise(config, join(root, split), "real.path")
    is_zip = root.lower().endswith(_ZIPS) and exists(root) and not is_folder(root)
    if is_zip and (not config.takes_whole or is_split_zip(root)):
        _refuse_unused_fields(config, "a zip")
        return ZipSource((describe(root),), split)
    if config.takes_whole and not is_folder(root):
        return _recognise(config, root, "real.path") if split == "train" else None
    if not is_folder(root):
        if exists(root):
            problem = f"is a file; if it holds train images, name it as real.train={root}"
        else:
            problem = "is not there; name a folder that contains train/ and test/"
        raise UserError(f"real.path: {root} {problem}")
    for within in _WITHIN:
        folder = join(root, within) if within else root
        if within and not is_folder(folder):
            continue
        names = [
            entry.name
            for entry in scan(folder)
            if entry.is_file
            and entry.name.startswith(split)
            and not entry.name[len(split) :][:1].isalpha()
            and entry.name.lower().endswith(_CONTAINERS + _COMPRESSED)
        ]
        if names:
            return _of_files(config, [join(folder, name) for name in names], "real.path")
    if split == "test":
        return None
    names = [entry.name for entry in scan(root) if not entry.name.startswith(".")]
    has_splits = any(_prefix(name) in SPLIT_NAMES for name in names)
    if config.takes_whole and names and not has_splits and not _downloads_among(names):
        return _recognise(config, root, "real.path")
    raise UserError(_no_train(root, names))


def is_split_zip(location: str) -> bool:
    """Whether train images lie in a folder of that name within the zip."""
    return any(True for _ in ZipSource((describe(location),), "train").list_part(0, Findings()))


def _downloads_among(names: Sequence[str]) -> list[str]:
    return [name for name, download in DOWNLOADS.items() if download.folder in names]


def _no_train(root: str, names: Sequence[str]) -> str:
    as_split = [name for name in names if _prefix(name) == "train"]
    if as_split:
        return (
            f"real.path: {root} has {as_split[0]}, but no train; rename it, or set "
            f"real.train={join(root, as_split[0])}"
        )
    known = _downloads_among(names)
    if known:
        return f"real.path: {root} has torchvision's {known[0]}; set real.source={known[0]}"
    remedy = f"or, if the train images are in {root} itself, set real.train={root}"
    found = ", ".join(names[:10]) or "nothing"
    return (
        f"real.path: no images in {join(root, 'train')}; put them there, in one sub-folder per "
        f"class or without any, {remedy} (there: {found})"
    )


def _recognise(config: RealConfig, location: str, field: str) -> Source:
    """What a path, URL or pattern names."""
    found = expand(location, field)
    if len(found) == 1 and is_folder(found[0]):
        return _of_folder(config, found[0], field)
    if all(map(is_image_name, found)):
        return FilesSource(location)
    others = [place for place in found if not place.lower().endswith(_CONTAINERS + _COMPRESSED)]
    folders = sum(not is_image_name(place) and is_folder(place) for place in others)
    if folders:
        raise UserError(
            f"{field}: {location} names {folders} folders among {len(found)} things; name one "
            "folder, or files"
        )
    return _of_files(config, found, field)


def _of_folder(config: RealConfig, folder: str, field: str) -> Source:
    """A folder of images, unless what lies in it are tars, Parquet files or zips."""
    visible = ((name, is_dir) for name, is_dir in glance(folder) if not name.startswith("."))
    if not any(is_dir or is_image_name(name) for name, is_dir in visible):
        files = [e.name for e in scan(folder) if e.is_file and not e.name.startswith(".")]
        for suffixes in (_TARS, _PARQUETS, _ZIPS):  # img2dataset leaves a Parquet beside each tar
            if chosen := [name for name in files if name.lower().endswith(suffixes)]:
                _refuse_several_splits(folder, chosen, field)
                return _of_files(config, [join(folder, name) for name in chosen], field)
    _refuse_unused_fields(config, "a folder")
    return FolderSource(folder)


def _refuse_several_splits(folder: str, names: Sequence[str], field: str) -> None:
    splits = sorted({_prefix(name) for name in names} & set(SPLIT_NAMES))
    if len(splits) > 1:
        suffix = os.path.splitext(names[0])[1]
        raise UserError(
            f"{field}: {folder} has files of several splits ({', '.join(splits)}); name those of "
            f"one, as {join(folder, splits[-1])}*{suffix}"
        )


def _of_files(config: RealConfig, urls: Sequence[str], field: str) -> Source:
    compressed = [url for url in urls if url.lower().endswith(_COMPRESSED)]
    if compressed:
        raise UserError(
            f"{field}: {compressed[0]} is compressed as a whole, and no image can be read alone; "
            "unpack it to a tar"
        )
    kinds = {next((s for s in _CONTAINERS if url.lower().endswith(s)), "") for url in urls}
    kind = kinds.pop() if len(kinds) == 1 else ""
    if not kind and len(urls) == 1:
        kind = _sniff(urls[0])
    if not kind:
        raise UserError(
            f"{field}: {os.path.basename(urls[0])} … {os.path.basename(urls[-1])} are neither all "
            "images, nor all tars, zips or Parquet files; name one kind"
            if len(urls) > 1
            else f"{field}: {urls[0]} is no folder, tar, zip, Parquet file or image; name one"
        )
    files = describe_all(urls)
    if kind in _PARQUETS:
        return ParquetSource.of(files, config.image_field, config.label_field)
    if kind in _TARS:
        if config.image_field is not None:
            raise UserError("real.image_field: is for Parquet files; leave it out")
        return TarSource(files, config.label_field)
    _refuse_unused_fields(config, "a zip")
    return ZipSource(files)


def _sniff(url: str) -> str:
    """Suffix that a single file should have, by its first bytes."""
    with open_file(url) as file:
        head = file.read(512)
    if head[:4] == b"PK\x03\x04":
        return ".zip"
    if head[:4] == b"PAR1":
        return ".parquet"
    return ".tar" if head[257:262] == b"ustar" else ""


def _refuse_unused_fields(config: RealConfig, what: str) -> None:
    for name in ("label_field", "image_field"):
        if getattr(config, name) is not None:
            raise UserError(
                f"real.{name}: is for Parquet files{' and tars' if name[0] == 'l' else ''}, and "
                f"{what} has no fields; leave it out"
            )
