"""`real` section -> the images that it names.

Neighbours: a module for each kind of source; `real/stage.py` packs what they yield into shards.
Labels go along for evaluation only; -1 means that there is none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.config.real import RealConfig
from pipeline.config.subset import count_labels
from pipeline.real.sources.digits import open_digits
from pipeline.real.sources.folder import list_images, open_folder
from pipeline.real.sources.source import Source
from pipeline.real.sources.torchvision_sets import (
    DOWNLOADS,
    list_download,
    list_imagenet,
    open_download,
    open_imagenet,
)
from pipeline.records.digests import files_digest
from pipeline.samples.seeding import numpy_generator
from pipeline.samples.subset import class_sizes, draw_of_each, share_out
from shards.errors import UserError

SPLITS = ("train", "test")


def open_source(config: RealConfig, split: str) -> Source:
    """Images uint8 [3, resolution, resolution] with labels of `split` ("train" or "test"): all of
    them, `limit` of the train images, or for a test those that the limit leaves out.

    Raises:
        UserError: for images or classes that are not there, for a limit that there are too few of
            and, while iterating, for an unreadable image.
    """
    source = _open_whole(config, split_read(config, split))
    if config.limit is None or (split == "test" and config.test_from == "test"):
        return source
    drawn = _draw(config.limit, config.limit_seed, source)
    if split == "train":
        return source.take(drawn)
    rest = np.setdiff1d(np.arange(source.num_images), drawn)
    if not len(rest):
        raise UserError(
            f"real.limit: {config.limit} leaves out none of {source.num_images:,} train images, "
            "and real.test_from=train tests on those; take fewer"
        )
    return source.take(rest)


def split_read(config: RealConfig, split: str) -> str:
    """Which split of the source has the images of `split`."""
    return config.test_from if split == "test" else split


def _draw(limit: int | str, seed: int, source: Source) -> np.ndarray:
    """Rows of the images within the limit, sorted."""
    sizes = class_sizes(source.labels)
    if isinstance(limit, str):
        counts = {label: count_labels(limit, size) for label, size in sizes.items()}
    elif len(sizes) <= limit <= source.num_images:
        counts = share_out(limit, sizes)
    else:
        raise UserError(
            f"real.limit: {limit:,} of {source.num_images:,} train images of {len(sizes)} classes; "
            "take at least one of each, and no more than there are"
        )
    return draw_of_each(source.labels, counts, numpy_generator(seed, "real/limit"))


def _open_whole(config: RealConfig, split: str) -> Source:
    if config.path is None:
        return open_digits(config.resolution, split)
    if config.source == "folder":
        return open_folder(config.path, split, config.resolution, _read_classes(config.classes))
    if config.source == "imagenet":
        return open_imagenet(config.path, split, config.resolution, _read_classes(config.classes))
    return open_download(config.source, config.path, split, config.resolution)


def source_digest(config: RealConfig, split: str) -> str:
    """Digest of the files behind `split` of a source with a path; see `files_digest`.

    Raises:
        UserError: as `open_source`, for a folder without images excepted.
    """
    assert config.path is not None
    if config.source in DOWNLOADS:
        return files_digest(config.path, list_download(config.source, config.path, split))
    list_files = list_imagenet if config.source == "imagenet" else list_images
    files, _ = list_files(config.path, split, _read_classes(config.classes))
    return files_digest(config.path, [file for file, _ in files])


def _read_classes(path: Path | None) -> frozenset[str] | None:
    """Lines of the list, without empty ones and those that begin with #."""
    if path is None:
        return None
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise UserError(
            f"real.classes: {path} cannot be read ({error}); it has one class a line, by the name "
            "of its folder"
        ) from None
    names = frozenset(line for line in lines if line and not line.startswith("#"))
    if not names:
        raise UserError(f"real.classes: {path} names no class; write one a line, or leave it unset")
    return names
