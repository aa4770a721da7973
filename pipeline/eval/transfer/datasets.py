"""Opens the eleven data sets through torchvision's dataset classes, split as Ericsson et al. 2021
split them.

Neighbours: `sets.py` knows the files, `splits.py` draws where there is no official split,
`features.py` reads the images. torchvision checks the MD5 sums of CIFAR's files before it reads
them, so that these pickles are loaded only if they are the published ones.

The splits are those of the release, github.com/linusericsson/ssl-transfer, with one departure:
its SUN397 labels an image by the first class whose name occurs anywhere in its path, so that
`barn` becomes `bar`; here the folder is the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from pipeline.eval.transfer.images import SplitImages, TransferImages
from pipeline.eval.transfer.sets import transfer_set
from pipeline.eval.transfer.splits import draw_caltech, draw_validation
from shards.errors import UserError

VOC_CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)
_OFFICIAL = ("train", "val", "test")
_Splits = tuple[SplitImages, ...]  # train, test; or train, val, test


def open_transfer_set(name: str, root: Path) -> TransferImages:
    """The data set `name`, whose folder is under `root`; no image is decoded yet.

    Raises:
        UserError: for an unknown name, and for files that are absent, not the published ones or
            damaged, with what to do.
    """
    listed = transfer_set(name)
    listed.check_present(root)
    try:
        splits = _OPEN[name](root)
    except UserError:
        raise
    except Exception as error:  # whatever torchvision finds wrong with damaged files
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise UserError(
            f"{root}: torchvision cannot read {name} there ({reason}); remove its files there, and "
            f"{listed.remedy_for(root)}"
        ) from None
    if not all(map(len, splits)):
        raise UserError(f"{root}: {name} has a split without images; {listed.remedy_for(root)}")
    if len(splits) == 3:
        return TransferImages(name, *splits)
    train, test = splits
    train_rows, val_rows = draw_validation(len(train))
    return TransferImages(name, train.take(train_rows), train.take(val_rows), test)


def _open_listed(root: Path, cls: str, *splits: str, **options: Any) -> _Splits:
    """Of a class that takes the name of a split and a loader."""
    from torchvision import datasets

    dataset = getattr(datasets, cls)
    return tuple(
        _listed(root, dataset(root, split=split, loader=str, **options)) for split in splits
    )


def _open_caltech101(root: Path) -> _Splits:
    """102 classes: torchvision's own class leaves the background out, the release keeps it."""
    from torchvision.datasets import ImageFolder

    images = _listed(root, ImageFolder(root / "caltech101" / "101_ObjectCategories", loader=str))
    train, test = draw_caltech(images.labels)
    return images.take(train), images.take(test)


def _open_cifar(root: Path, cls: str) -> _Splits:
    from torchvision import datasets

    splits = []
    for split in ("train", "test"):
        dataset = getattr(datasets, cls)(root, train=split == "train")
        names = tuple(f"{split}/{row}" for row in range(len(dataset)))
        splits.append(SplitImages(names, _as_labels(dataset.targets), dataset.data))
    return tuple(splits)


def _open_food(root: Path) -> _Splits:
    """Sorted by class, as the release lists them, so that the drawn validation is the same."""
    splits = _open_listed(root, "Food101", "train", "test")
    return tuple(split.take(np.argsort(split.labels, kind="stable")) for split in splits)


def _open_pets(root: Path) -> _Splits:
    from torchvision.datasets import OxfordIIITPet

    splits = []
    for split in ("trainval", "test"):
        dataset = OxfordIIITPet(root, split=split)
        # the one class that says neither where its images are nor takes a loader
        splits.append(_images(root, zip(dataset._images, dataset._labels, strict=True)))
    return tuple(splits)


def _open_sun397(root: Path) -> _Splits:
    """The first of the ten official partitions, whose lists torchvision does not read."""
    from torchvision.datasets import SUN397

    dataset = SUN397(root, loader=str)
    folder = root / "SUN397"
    label_of = {Path(file).relative_to(folder).as_posix(): label for file, label in _rows(dataset)}
    splits = []
    for split in ("Training", "Testing"):
        listing = folder / "Partitions" / f"{split}_01.txt"
        lines = [line.strip().lstrip("/") for line in listing.read_text().splitlines()]
        files = [line for line in lines if line]
        absent = next((file for file in files if file not in label_of), None)
        if absent is not None:
            raise UserError(
                f"{folder / absent}: {listing.name} lists it, but it is not there; "
                f"{transfer_set('sun397').remedy_for(root)}"
            )
        splits.append(_images(root, ((folder / file, label_of[file]) for file in files)))
    return tuple(splits)


def _open_voc2007(root: Path) -> _Splits:
    from torchvision.datasets import VOCDetection

    splits = []
    for split in _OFFICIAL:
        dataset = VOCDetection(root, year="2007", image_set=split)
        files = tuple(Path(file) for file in dataset.images)
        labels = np.array([read_voc_classes(Path(file)) for file in dataset.annotations])
        splits.append(SplitImages(_names(root, files), labels, files))
    return tuple(splits)


def read_voc_classes(annotation: Path) -> np.ndarray:
    """Which of `VOC_CLASSES` an image shows, bool [20], by its XML annotation.

    A class of which there are only objects marked difficult counts as not shown, as in the release:
    the official lists have 0 for it, and only their 1 is a positive.
    """
    shown = np.zeros(len(VOC_CLASSES), dtype=bool)
    for thing in ElementTree.parse(annotation).getroot().iter("object"):
        if (thing.findtext("difficult") or "0").strip() != "1":
            shown[VOC_CLASSES.index((thing.findtext("name") or "").strip())] = True
    return shown


def _listed(root: Path, dataset: Any) -> SplitImages:
    """The images of a dataset that was given `str` to load them, and so returns their paths."""
    return _images(root, _rows(dataset))


def _rows(dataset: Any) -> list[tuple[str, int]]:
    return [dataset[row] for row in range(len(dataset))]


def _images(root: Path, rows: Iterable[tuple[str | Path, int]]) -> SplitImages:
    pairs = list(rows)
    files = tuple(Path(file) for file, _ in pairs)
    return SplitImages(_names(root, files), _as_labels(label for _, label in pairs), files)


def _names(root: Path, files: Iterable[Path]) -> tuple[str, ...]:
    return tuple(file.relative_to(root).as_posix() for file in files)


def _as_labels(labels: Iterable[int]) -> np.ndarray:
    return np.array(list(labels), dtype=np.int64)


_OPEN: dict[str, Callable[[Path], _Splits]] = {
    "aircraft": lambda root: _open_listed(root, "FGVCAircraft", *_OFFICIAL),
    "caltech101": _open_caltech101,
    "cars": lambda root: _open_listed(root, "StanfordCars", "train", "test"),
    "cifar10": lambda root: _open_cifar(root, "CIFAR10"),
    "cifar100": lambda root: _open_cifar(root, "CIFAR100"),
    "dtd": lambda root: _open_listed(root, "DTD", *_OFFICIAL, partition=1),
    "flowers": lambda root: _open_listed(root, "Flowers102", *_OFFICIAL),
    "food": _open_food,
    "pets": _open_pets,
    "sun397": _open_sun397,
    "voc2007": _open_voc2007,
}
