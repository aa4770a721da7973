"""A folder of images as a source: sub-folders of `train` and `test` are classes."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pipeline.real.sources.source import LabelledFile, Source, of_files
from shards.errors import UserError

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def open_folder(
    path: Path, split: str, resolution: int, classes: Collection[str] | None = None
) -> Source:
    """Images of `path`/`split`.

    Raises:
        UserError: as `list_images`, for a train split without images and, while iterating, for an
            unreadable one.
    """
    files, class_names = list_images(path, split, classes)
    if split == "train" and not files:
        raise UserError(
            f"real.path: no images in {path / split}; put them there, in one sub-folder per class "
            "or without any"
        )
    return of_files(files, class_names, resolution)


def list_images(
    path: Path, split: str, classes: Collection[str] | None = None
) -> tuple[list[LabelledFile], list[str]]:
    """Image files of `path`/`split` with labels, and class names; of `classes` only, where given.

    Sub-folders are classes, numbered by those of `path`/train; a folder without any has no labels
    (-1).

    Raises:
        UserError: for a class of the test split that the train split lacks, and for one of
            `classes` that it lacks.
    """
    folder = path / split
    own_names = _class_names(folder, classes)
    class_names = _class_names(path / "train", classes) or own_names
    absent = sorted(set(classes or ()) - set(class_names))
    if absent:
        raise UserError(
            f"real.classes: no images of {absent[0]!r} in {path / 'train' / absent[0]}; correct "
            "the list or add them"
        )
    if not folder.is_dir():
        return [], class_names
    unknown = sorted(set(own_names) - set(class_names))
    if class_names and not own_names and any(map(_is_image, folder.iterdir())):
        raise UserError(f"{folder}: has no classes, but {path / 'train'} has; sort its images too")
    if unknown:
        raise UserError(
            f"{folder / unknown[0]}: {path / 'train'} has no such class; add or move it"
        )
    if not class_names:
        return [(file, -1) for file in _images_in(folder)], []
    return [
        (file, class_names.index(name)) for name in own_names for file in _images_in(folder / name)
    ], class_names


def _images_in(folder: Path) -> list[Path]:
    """Image files directly in `folder`, sorted."""
    return sorted(filter(_is_image, folder.iterdir()))


def _class_names(folder: Path, classes: Collection[str] | None) -> list[str]:
    """Sub-folders that hold images, sorted."""
    children = folder.iterdir() if folder.is_dir() else ()
    return sorted(
        child.name
        for child in children
        if (classes is None or child.name in classes)
        and child.is_dir()
        and any(map(_is_image, child.iterdir()))
    )


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in _SUFFIXES and file.is_file()
