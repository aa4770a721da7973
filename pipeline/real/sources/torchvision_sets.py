"""torchvision's datasets as sources: CIFAR-10, CIFAR-100, STL-10 and ImageNet, laid out on disk as
torchvision has them.

Nothing is downloaded here: where data are absent, the error has the command or page that gets them.
MD5 sums of CIFAR's and STL-10's files are those that torchvision has: they are compared before a
file is read, so that the pickles of CIFAR are executed only if they are the published ones. A file
is read when its rows are wanted, no set as a whole.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.real.sources.folder import FolderSource
from pipeline.real.sources.location import describe
from pipeline.real.sources.source import Content, Entry, File, Findings, Reader, Row
from shards.errors import UserError


@dataclass(frozen=True)
class Download:
    """A set that torchvision downloads: its class, folder, and the files behind each split."""

    dataset: str
    folder: str
    names: str
    """File with the names of classes."""
    images: dict[str, tuple[str, ...]]
    """Files with images, by split."""
    labels: dict[str, str]
    """Of those files that have their labels in another one."""

    def files(self, split: str) -> list[str]:
        """All that a split is read from."""
        images = self.images[split]
        return [self.names, *images, *(self.labels[file] for file in images if file in self.labels)]


DOWNLOADS = {
    "cifar10": Download(
        "CIFAR10",
        "cifar-10-batches-py",
        "batches.meta",
        {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)},
        {},
    ),
    "cifar100": Download(
        "CIFAR100", "cifar-100-python", "meta", {"train": ("train",), "test": ("test",)}, {}
    ),
    "stl10": Download(
        "STL10",
        "stl10_binary",
        "class_names.txt",
        {"train": ("train_X.bin", "unlabeled_X.bin"), "test": ("test_X.bin",)},
        {"train_X.bin": "train_y.bin", "test_X.bin": "test_y.bin"},
    ),
}
_STL10_SHAPE = (3, 96, 96)  # each channel column by column


def list_download(name: str, root: Path, split: str) -> list[Path]:
    """Files under `root` that `split` of a set of `DOWNLOADS` is read from.

    Raises:
        UserError: if one is absent, with the command that gets it.
    """
    download = DOWNLOADS[name]
    files = [root / download.folder / file for file in download.files(split)]
    for file in files:
        if not file.is_file():
            raise UserError(f"real.path: {file} is not there; {_remedy(name, root)}")
    return files


@dataclass(frozen=True)
class DownloadSource:
    """Images of `split` of a set of `DOWNLOADS`; STL-10's train split is labelled and unlabelled
    images, in that order.
    """

    name: str
    root: str
    split: str

    @cached_property
    def files(self) -> tuple[File, ...]:
        """Files with images; raises as `list_download`."""
        listed = list_download(self.name, Path(self.root), self.split)
        by_name = {path.name: path for path in listed}
        images = DOWNLOADS[self.name].images[self.split]
        return tuple(describe(str(by_name[name])) for name in images)

    @cached_property
    def names(self) -> tuple[str, ...] | None:
        """Of the classes."""
        path = Path(self.root) / DOWNLOADS[self.name].folder / DOWNLOADS[self.name].names
        self._check(path)
        if self.name == "stl10":
            return tuple(path.read_text().split())
        meta = _unpickle(path)
        return tuple(meta["label_names" if self.name == "cifar10" else "fine_label_names"])

    def identity(self) -> dict[str, object]:
        """The files, with sizes and times."""
        paths = list_download(self.name, Path(self.root), self.split)
        return {"kind": self.name, "files": [describe(str(path)) for path in paths]}

    def list_part(self, part: int, findings: Findings) -> Iterator[Entry]:
        """Images of one file, after its content was found to be the published one.

        Raises:
            UserError: if it is not.
        """
        path = Path(self.files[part].url)
        for row, label in enumerate(self._read_labels(path)):
            key = f"{path.name}:{row}".encode()
            yield Entry(key, label, part, row, stamp=self.files[part].stamp)

    def open(self) -> Reader:
        """Of arrays, a file at a time."""
        return _DownloadReader(self)

    def _read_labels(self, path: Path) -> list[str | None]:
        self._check(path)
        if self.name != "stl10":
            batch = _unpickle(path)
            labels = batch["labels" if self.name == "cifar10" else "fine_labels"]
            return [str(int(label)) for label in labels]
        beside = DOWNLOADS[self.name].labels.get(path.name)
        if beside is None:
            return [None] * (path.stat().st_size // int(np.prod(_STL10_SHAPE)))
        self._check(path.with_name(beside))
        return [str(label - 1) for label in np.fromfile(path.with_name(beside), np.uint8).tolist()]

    def read_images(self, index: int) -> np.ndarray:
        """Images of a file, uint8 [N, 3, H, W], of STL-10's mapped from the disk.

        Raises:
            UserError: if they are not the published ones.
        """
        path = Path(self.files[index].url)
        if self.name == "stl10":
            mapped = np.memmap(path, np.uint8, "r").reshape(-1, *_STL10_SHAPE)
            return mapped.transpose(0, 1, 3, 2)
        self._check(path)
        images: np.ndarray = _unpickle(path)["data"].reshape(-1, 3, 32, 32)
        return images

    def _check(self, path: Path) -> None:
        """Refuse a file that is not the published one."""
        from torchvision import datasets
        from torchvision.datasets.utils import check_integrity

        dataset = getattr(datasets, DOWNLOADS[self.name].dataset)
        known = dict([*dataset.train_list, *dataset.test_list])
        if hasattr(dataset, "meta"):
            known[dataset.meta["filename"]] = dataset.meta["md5"]
        if path.name in known and not check_integrity(str(path), known[path.name]):
            raise UserError(
                f"real.path: {path} is not the published file (its MD5 sum is another); remove it, "
                f"and {_remedy(self.name, Path(self.root))}"
            )


def _unpickle(path: Path) -> dict[str, Any]:
    """A batch of CIFAR's, once its sum was compared."""
    with path.open("rb") as file:
        batch: dict[str, Any] = pickle.load(file, encoding="latin1")
    return batch


class _DownloadReader:
    def __init__(self, source: DownloadSource) -> None:
        self._source = source
        self._read: tuple[int, np.ndarray] | None = None

    def read(self, rows: Sequence[Row]) -> Iterator[Content | Exception]:
        for row in rows:
            if self._read is None or self._read[0] != row.file:
                self._read = None  # before the next is there
                self._read = row.file, self._source.read_images(row.file)
            yield self._read[1][row.position].transpose(1, 2, 0)


def imagenet_source(root: Path, split: str) -> FolderSource:
    """ImageNet's images of `split`, its validation images being the test split; classes are wnids.

    Raises:
        UserError: if ImageNet is absent or not unpacked, with the page and the command.
    """
    for part in (root / "meta.bin", root / "train", root / "val"):
        if not part.exists():
            raise UserError(f"real.path: {part} is not there; {_remedy('imagenet', root)}")
    return FolderSource(str(root / ("train" if split == "train" else "val")))


def imagenet_words(root: Path, wnids: Sequence[str]) -> list[str]:
    """What ImageNet's classes are called, by the first word of each synset.

    Raises:
        UserError: for a damaged `meta.bin`, and for a folder that is no class of it.
    """
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
    return [known[wnid] for wnid in wnids]


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
