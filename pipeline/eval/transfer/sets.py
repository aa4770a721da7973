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


def _download(call: str) -> str:
    return f'get it: python -c "from torchvision.datasets import *; {call}"'


TRANSFER_SETS: dict[str, TransferSet] = {
    listed.name: listed
    for listed in (
        TransferSet(
            "aircraft",
            "mean per class",
            10_000,
            (
                *(
                    f"fgvc-aircraft-2013b/data/images_variant_{split}.txt"
                    for split in ("train", "val", "test")
                ),
                "fgvc-aircraft-2013b/data/variants.txt",
                "fgvc-aircraft-2013b/data/images",
            ),
            _download("FGVCAircraft({root}, download=True)"),
        ),
        TransferSet(
            "caltech101",
            "mean per class",
            9_144,
            ("caltech101/101_ObjectCategories/BACKGROUND_Google",),
            _download("Caltech101({root}, download=True)"),
        ),
        TransferSet(
            "cars",
            "top-1",
            16_185,
            (
                "stanford_cars/devkit/cars_train_annos.mat",
                "stanford_cars/devkit/cars_meta.mat",
                "stanford_cars/cars_test_annos_withlabels.mat",
                "stanford_cars/cars_train",
                "stanford_cars/cars_test",
            ),
            "its site is gone: put cars_train/ and cars_test/ with the images, "
            "cars_test_annos_withlabels.mat, and devkit/ with cars_train_annos.mat and "
            "cars_meta.mat into stanford_cars under {root}",
        ),
        TransferSet(
            "cifar10",
            "top-1",
            60_000,
            (
                *(f"cifar-10-batches-py/data_batch_{number}" for number in range(1, 6)),
                "cifar-10-batches-py/test_batch",
                "cifar-10-batches-py/batches.meta",
            ),
            _download("CIFAR10({root}, download=True)"),
        ),
        TransferSet(
            "cifar100",
            "top-1",
            60_000,
            tuple(f"cifar-100-python/{file}" for file in ("train", "test", "meta")),
            _download("CIFAR100({root}, download=True)"),
        ),
        TransferSet(
            "dtd",
            "top-1",
            5_640,
            (
                *(f"dtd/dtd/labels/{split}1.txt" for split in ("train", "val", "test")),
                "dtd/dtd/images",
            ),
            _download("DTD({root}, download=True)"),
        ),
        TransferSet(
            "flowers",
            "mean per class",
            8_189,
            tuple(f"flowers-102/{file}" for file in ("imagelabels.mat", "setid.mat", "jpg")),
            _download("Flowers102({root}, download=True)"),
        ),
        TransferSet(
            "food",
            "top-1",
            101_000,
            tuple(f"food-101/{file}" for file in ("meta/train.json", "meta/test.json", "images")),
            _download("Food101({root}, download=True)"),
        ),
        TransferSet(
            "pets",
            "mean per class",
            7_349,
            tuple(
                f"oxford-iiit-pet/{file}"
                for file in ("annotations/trainval.txt", "annotations/test.txt", "images")
            ),
            _download("OxfordIIITPet({root}, download=True)"),
        ),
        TransferSet(
            "sun397",
            "top-1",
            39_700,
            tuple(
                f"SUN397/{file}"
                for file in (
                    "ClassName.txt",
                    "Partitions/Training_01.txt",
                    "Partitions/Testing_01.txt",
                )
            ),
            _download("SUN397({root}, download=True)")
            + "; and unpack https://vision.princeton.edu/projects/2010/SUN/download/Partitions.zip "
            "into SUN397/Partitions under {root}",
        ),
        TransferSet(
            "voc2007",
            "11-point mAP",
            9_963,
            (
                *(
                    f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt"
                    for split in ("train", "val", "test")
                ),
                "VOCdevkit/VOC2007/Annotations",
                "VOCdevkit/VOC2007/JPEGImages",
            ),
            _download(
                "[VOCDetection({root}, '2007', part, download=True) for part in ('train', 'test')]"
            ),
        ),
    )
}


def transfer_set(name: str) -> TransferSet:
    """The data set called `name`.

    Raises:
        UserError: for a name that is none of the eleven.
    """
    if name not in TRANSFER_SETS:
        raise UserError(f"{name}: no data set of the transfer; take {', '.join(TRANSFER_SETS)}")
    return TRANSFER_SETS[name]
