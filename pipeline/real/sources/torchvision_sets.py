"""torchvision's datasets as sources: CIFAR-10, CIFAR-100, STL-10 and ImageNet, laid out on disk as
torchvision has them.

Nothing is downloaded here: where data are absent, the error has the command or page that gets them.
torchvision checks MD5 sums of CIFAR's and STL-10's files before it reads them, so that the pickles
of CIFAR are executed only if they are the published ones.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.real.sources.folder import list_images
from pipeline.real.sources.source import LabelledFile, Source, of_files, to_array
from shards.errors import UserError


@dataclass(frozen=True)
class Download:
    """A set that torchvision downloads: its class, folder, and the files behind each split."""

    dataset: str
    folder: str
    files: dict[str, tuple[str, ...]]


DOWNLOADS = {
    "cifar10": Download(
        "CIFAR10",
        "cifar-10-batches-py",
        {
            "train": ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6))),
            "test": ("batches.meta", "test_batch"),
        },
    ),
    "cifar100": Download(
        "CIFAR100", "cifar-100-python", {"train": ("meta", "train"), "test": ("meta", "test")}
    ),
    "stl10": Download(
        "STL10",
        "stl10_binary",
        {
            "train": ("class_names.txt", "train_X.bin", "train_y.bin", "unlabeled_X.bin"),
            "test": ("class_names.txt", "test_X.bin", "test_y.bin"),
        },
    ),
}


def list_download(name: str, root: Path, split: str) -> list[Path]:
    """Files under `root` that `split` of a set of `DOWNLOADS` is read from.

    Raises:
        UserError: if one is absent, with the command that gets it.
    """
    download = DOWNLOADS[name]
    files = [root / download.folder / file for file in download.files[split]]
    for file in files:
        if not file.is_file():
            raise UserError(f"real.path: {file} is not there; {_remedy(name, root)}")
    return files


def open_download(name: str, root: Path, split: str, resolution: int) -> Source:
    """Images of `split`; STL-10's train split is labelled and unlabelled images, in that order.

    Raises:
        UserError: if files are absent or not the published ones.
    """
    list_download(name, root, split)
    from torchvision import datasets

    cls = getattr(datasets, DOWNLOADS[name].dataset)
    try:
        if name == "stl10":
            dataset = cls(root, split="train+unlabeled" if split == "train" else "test")
        else:
            dataset = cls(root, train=split == "train")
    except RuntimeError as error:
        raise UserError(
            f"real.path: torchvision refuses what is in {root} ({error}); remove it, and "
            f"{_remedy(name, root)}"
        ) from None
    labels = dataset.labels if name == "stl10" else dataset.targets
    return Source(
        list(dataset.classes),
        np.asarray(labels).astype(np.int64),
        lambda row: to_array(dataset[row][0], resolution),
    )


def list_imagenet(
    root: Path, split: str, classes: Collection[str] | None
) -> tuple[list[LabelledFile], list[str]]:
    """ImageNet's images of `split`, its validation images being the test split, with labels, and
    wnids in their order; of `classes` only, where given.

    Raises:
        UserError: if ImageNet is absent or not unpacked, with the page and the command; else as
            `list_images`.
    """
    for part in (root / "meta.bin", root / "train", root / "val"):
        if not part.exists():
            raise UserError(f"real.path: {part} is not there; {_remedy('imagenet', root)}")
    folder = "train" if split == "train" else "val"
    files, wnids = list_images(root, folder, classes)
    if not files:
        raise UserError(
            f"real.path: {root / folder} has no images; remove it, and {_remedy('imagenet', root)}"
        )
    return files, wnids


def open_imagenet(
    root: Path, split: str, resolution: int, classes: Collection[str] | None
) -> Source:
    """ImageNet's images of `split`; a class is called by the first word of its synset.

    Raises:
        UserError: as `list_imagenet`, for a damaged `meta.bin` and, while iterating, for an
            unreadable image.
    """
    files, wnids = list_imagenet(root, split, classes)
    from torchvision.datasets.imagenet import load_meta_file

    try:
        words, _ = load_meta_file(root)
        known = {wnid: synset[0] for wnid, synset in words.items()}
    except Exception as error:  # whatever torch finds wrong with a damaged file
        raise UserError(
            f"real.path: {root / 'meta.bin'} is not what torchvision makes of ImageNet "
            f"({type(error).__name__}: {error}); remove it, and {_remedy('imagenet', root)}"
        ) from None
    strangers = [wnid for wnid in wnids if wnid not in known]
    if strangers:
        raise UserError(f"real.path: {strangers[0]} is no class of ImageNet; move that folder away")
    return of_files(files, [known[wnid] for wnid in wnids], resolution)


def _remedy(name: str, root: Path) -> str:
    if name == "imagenet":
        return (
            "put ILSVRC2012_devkit_t12.tar.gz, ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar "
            "from https://image-net.org/challenges/LSVRC/2012/2012-downloads.php into that folder "
            'and unpack them: python -c "from torchvision.datasets import ImageNet; '
            f"[ImageNet({str(root)!r}, split) for split in ('train', 'val')]\""
        )
    return (
        f'get it: python -c "import torchvision; '
        f'torchvision.datasets.{DOWNLOADS[name].dataset}({str(root)!r}, download=True)"'
    )
