"""What a user means by IMAGES: a path, URL or pattern as `real.train` takes them, a root with
splits, or a set by its name -> sections `real` that pack it.

Neighbours: `images.py` has them packed; `real/sources/recognise.py` finds what is named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from pipeline.config.real import STORED_ALIKE, RealConfig
from pipeline.real.decode import is_image_name
from pipeline.real.request import SPLITS
from pipeline.real.sources.location import absolute, exists, glance, is_folder, is_remote, join
from pipeline.real.sources.recognise import SPLIT_NAMES, find_source, is_split_zip
from shards.errors import UserError

_SETS = ("digits", "cifar10", "cifar100", "stl10", "imagenet")


@dataclass(frozen=True)
class NamedSplit:
    """Images of one split of what a user names, or all of it."""

    name: str
    """Of the split, "" for all, and where every image's path has it anyway."""
    real: RealConfig
    """By which they are packed."""
    split: str
    """Where they are among what is packed."""


def resolve(images: str) -> str:
    """The same from any working directory: an absolute path, a URL, or the name of a set."""
    name, _, root = images.partition(":")
    path = absolute(os.path.expanduser(images))
    if name in _SETS and not os.path.lexists(path):
        return f"{name}:{absolute(os.path.expanduser(root))}" if root else name
    return path


def find_named(
    images: str, like: RealConfig, fields: Mapping[str, Any] | None = None
) -> list[NamedSplit]:
    """What `images`, resolved, has: one for each of its splits, or one for all of it.

    Args:
        images: as `resolve` leaves it.
        like: section of the run, whose images are stored alike.
        fields: other fields of the section, of these images.

    Raises:
        UserError: for what can be no images' place.
    """
    stored = {name: getattr(like, name) for name in STORED_ALIKE} | dict(fields or {})

    def section(**place: str) -> RealConfig:
        try:
            return RealConfig.model_validate({**stored, **place})
        except ValidationError as error:
            message = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
            raise UserError(f"IMAGES={images}: {message}") from None

    name, _, root = images.partition(":")
    if name in _SETS:
        if name != "digits" and not root:
            raise UserError(f"IMAGES={name}: name its folder, too, as {name}:FOLDER")
        whole = section(source=name, **({"path": root} if root else {}))
        return [NamedSplit(split, whole, split) for split in SPLITS]
    folders = list(_split_folders(images))
    if folders:
        return [NamedSplit(split, section(train=join(images, split)), "train") for split in folders]
    if _is_split_zip(images):
        return [NamedSplit("", section(path=images), split) for split in SPLITS]
    if _has_split_files(images, section):
        return [NamedSplit(split, section(path=images), split) for split in SPLITS]
    return [NamedSplit("", section(train=images), "train")]


def _split_folders(images: str) -> Iterator[str]:
    """Sub-folders that are splits."""
    if _is_place(images) and is_folder(images):
        yield from (name for name in SPLIT_NAMES if is_folder(join(images, name)))


def _is_place(images: str) -> bool:
    """Whether it is one thing that is there, and no pattern."""
    return exists(images) if not is_remote(images) else not set("*?[{") & set(images)


def _has_split_files(images: str, section: Callable[..., RealConfig]) -> bool:
    """Whether it is a folder in which files are splits."""
    if not _is_place(images) or not is_folder(images):
        return False
    visible = ((name, is_dir) for name, is_dir in glance(images) if not name.startswith("."))
    if any(not is_dir and is_image_name(name) for name, is_dir in visible):
        return False
    try:
        return find_source(section(path=images), "train") is not None
    except UserError:  # no train split there
        return False


def _is_split_zip(images: str) -> bool:
    """Whether it is a zip in which folders are splits."""
    if not images.lower().endswith(".zip") or not _is_place(images) or is_folder(images):
        return False
    return is_split_zip(images)


_USELESS = ("limit", "limit_seed", "test_from")


def refuse_useless(changes: Collection[str]) -> None:
    """Raise `UserError` for typed fields of `real` that say which images are taken: all are."""
    for name in _USELESS:
        typed = [change for change in changes if change.startswith(f"real.{name}=")]
        if typed:
            raise UserError(f"{typed[0]}: all of IMAGES is taken; leave it out")


def typed_fields(real: RealConfig, changes: Collection[str]) -> dict[str, Any]:
    """Fields of `real` that are about a source and that were typed with the command: those of the
    run's own source say nothing of other images.
    """
    names = ("label_field", "image_field")
    typed = {change.partition("=")[0] for change in changes}
    return {name: getattr(real, name) for name in names if f"real.{name}" in typed}
