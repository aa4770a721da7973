"""The eleven data sets of the linear transfer evaluation as facts: metric, size, files, and how to
get them (Ericsson et al. 2021, "How well do self-supervised models transfer?", Table 1 and section
4; Yang et al. 2022, Table 3).

Neighbours: `datasets.py` opens them, `evaluate.py` scores by their metric. All eleven lie under one
`root`, each in the folder that torchvision gives it. Nothing is downloaded here: where files are
absent, the error says which, and what gets them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shards.errors import UserError

Metric = Literal["top-1", "mean per class", "11-point mAP"]


@dataclass(frozen=True)
class TransferSet:
    """One data set: its name, metric, images in all splits of the published set, and its files.

    `files` are those below `root` that opening reads, images folders included; `remedy` is what
    gets them, with `{root}` in it, quoted for Python.
    """

    name: str
    metric: Metric
    num_images: int
    files: tuple[str, ...]
    remedy: str

    def check_present(self, root: Path) -> None:
        """Raise for the first of `files` that is absent.

        Raises:
            UserError: with the path and what to put where.
        """
        for file in self.files:
            if not (root / file).exists():
                raise UserError(f"{root / file}: is not there; {self.remedy_for(root)}")

    def remedy_for(self, root: Path) -> str:
        """What gets the data set into `root`."""
        return self.remedy.format(root=repr(str(root)))


def _under(folder: str, names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names.split())


def _download(call: str) -> str:
    return f'get it: python -c "from torchvision.datasets import *; {call}"'


_AIRCRAFT = "images_variant_train.txt images_variant_val.txt images_variant_test.txt variants.txt"
_CARS = (
    "devkit/cars_train_annos.mat devkit/cars_meta.mat cars_test_annos_withlabels.mat cars_train "
    "cars_test"
)
_CIFAR10 = "data_batch_1 data_batch_2 data_batch_3 data_batch_4 data_batch_5 test_batch"
_VOC2007 = "ImageSets/Main/train.txt ImageSets/Main/val.txt ImageSets/Main/test.txt"
_LISTED = (
    TransferSet(
        "aircraft",
        "mean per class",
        10_000,
        _under("fgvc-aircraft-2013b/data", f"{_AIRCRAFT} images"),
        _download("FGVCAircraft({root}, download=True)"),
    ),
    TransferSet(
        "caltech101",
        "mean per class",
        9_144,
        _under("caltech101/101_ObjectCategories", "BACKGROUND_Google"),
        _download("Caltech101({root}, download=True)"),
    ),
    TransferSet(
        "cars",
        "top-1",
        16_185,
        _under("stanford_cars", _CARS),
        "its site is gone: put cars_train/ and cars_test/ with the images, "
        "cars_test_annos_withlabels.mat, and devkit/ with cars_train_annos.mat and "
        "cars_meta.mat into stanford_cars under {root}",
    ),
    TransferSet(
        "cifar10",
        "top-1",
        60_000,
        _under("cifar-10-batches-py", f"{_CIFAR10} batches.meta"),
        _download("CIFAR10({root}, download=True)"),
    ),
    TransferSet(
        "cifar100",
        "top-1",
        60_000,
        _under("cifar-100-python", "train test meta"),
        _download("CIFAR100({root}, download=True)"),
    ),
    TransferSet(
        "dtd",
        "top-1",
        5_640,
        _under("dtd/dtd", "labels/train1.txt labels/val1.txt labels/test1.txt images"),
        _download("DTD({root}, download=True)"),
    ),
    TransferSet(
        "flowers",
        "mean per class",
        8_189,
        _under("flowers-102", "imagelabels.mat setid.mat jpg"),
        _download("Flowers102({root}, download=True)"),
    ),
    TransferSet(
        "food",
        "top-1",
        101_000,
        _under("food-101", "meta/train.json meta/test.json images"),
        _download("Food101({root}, download=True)"),
    ),
    TransferSet(
        "pets",
        "mean per class",
        7_349,
        _under("oxford-iiit-pet", "annotations/trainval.txt annotations/test.txt images"),
        _download("OxfordIIITPet({root}, download=True)"),
    ),
    TransferSet(
        "sun397",
        "top-1",
        39_700,
        _under("SUN397", "ClassName.txt Partitions/Training_01.txt Partitions/Testing_01.txt"),
        _download("SUN397({root}, download=True)")
        + "; and unpack https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip "
        "into SUN397/Partitions under {root}",
    ),
    TransferSet(
        "voc2007",
        "11-point mAP",
        9_963,
        _under("VOCdevkit/VOC2007", f"{_VOC2007} Annotations JPEGImages"),
        _download(
            "[VOCDetection({root}, '2007', part, download=True) for part in ('train', 'test')]"
        ),
    ),
)
TRANSFER_SETS: dict[str, TransferSet] = {listed.name: listed for listed in _LISTED}


def transfer_set(name: str) -> TransferSet:
    """The data set called `name`.

    Raises:
        UserError: for a name that is none of the eleven.
    """
    if name not in TRANSFER_SETS:
        raise UserError(f"{name}: no data set of the transfer; take {', '.join(TRANSFER_SETS)}")
    return TRANSFER_SETS[name]
