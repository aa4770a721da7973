"""The three data sets on disk: which files are whose train and test split.

Nothing is downloaded here. Neighbours: `voc.py` and `pixelwise_sets.py` read the files, `stage.py`
takes digests of them.

VOC2007 and VOC2012 as torchvision lays them out: `VOCdevkit/VOC2007/{Annotations,ImageSets,
JPEGImages}`. ADE20K as the scene parsing benchmark releases it:
`ADEChallengeData2016/{images,annotations}/{training,validation}`. NYUv2 in the layout of the
multi-task learning benchmark NYUD-MT (Maninis et al. 2019), which has normals as plain `.npy`
arrays [H, W, 3] and the official split of 795 and 654 images as lists: `images/ID.jpg`,
`normals/ID.npy`, `gt_sets/{train,val}.txt`. The code of Ericsson et al. reads the normals of
Ladicky et al. 2014 from one pickle, which is code; written as arrays into that layout, with zeros
where they are invalid, they are the paper's labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipeline.config.finetune import FinetuneConfig
from pipeline.eval.dense.files import read_names, require
from shards.errors import UserError

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
_TEST_IMAGES = ("2007", "test")


@dataclass(frozen=True)
class DenseFile:
    """An image file with the file of its labels."""

    image: Path
    labels: Path


def data_root(config: FinetuneConfig) -> Path:
    """`finetune.root`; raises UserError if it is unset."""
    if config.root is None:
        raise UserError(
            f"finetune.root: set it to the folder with the data; {_REMEDIES[config.task]}"
        )
    return config.root


def list_files(config: FinetuneConfig, split: Split) -> list[DenseFile]:
    """Files of the split, in a fixed order; every one is there.

    Raises:
        UserError: if one is absent, with what to put where.
    """
    root = data_root(config)
    remedy = _REMEDIES[config.task]
    if config.task == "detection":
        files = [
            file
            for year, name in voc_sets(config, split)
            for file in _voc(root, year, name, remedy)
        ]
    elif config.task == "segmentation":
        files = _ade20k(root, split, remedy)
    else:
        files = _nyuv2(root, split, remedy)
    require((path for file in files for path in (file.image, file.labels)), remedy)
    return files


def voc_sets(config: FinetuneConfig, split: Split) -> list[tuple[str, str]]:
    """Year and image set of every part of VOC's split."""
    if split == "test":
        return [_TEST_IMAGES]
    return [(year, "trainval") for year in config.voc_years]


def _voc(root: Path, year: str, name: str, remedy: str) -> list[DenseFile]:
    folder = root / "VOCdevkit" / f"VOC{year}"
    return [
        DenseFile(folder / "JPEGImages" / f"{image}.jpg", folder / "Annotations" / f"{image}.xml")
        for image in read_names(folder / "ImageSets" / "Main" / f"{name}.txt", remedy)
    ]


def _ade20k(root: Path, split: Split, remedy: str) -> list[DenseFile]:
    folder = root / "ADEChallengeData2016"
    part = "training" if split == "train" else "validation"
    images = sorted((folder / "images" / part).glob("*.jpg"))
    if not images:
        raise UserError(f"finetune.root: {folder / 'images' / part} has no images; {remedy}")
    annotations = folder / "annotations" / part
    return [DenseFile(image, annotations / f"{image.stem}.png") for image in images]


def _nyuv2(root: Path, split: Split, remedy: str) -> list[DenseFile]:
    names = read_names(root / "gt_sets" / ("train.txt" if split == "train" else "val.txt"), remedy)
    return [
        DenseFile(root / "images" / f"{name}.jpg", root / "normals" / f"{name}.npy")
        for name in names
    ]


_REMEDIES = {
    "detection": (
        'get VOC2007 and VOC2012 into that folder: python -c "from torchvision.datasets import '
        "VOCDetection as V; [V(ROOT, year, part, download=True) for year, part in (('2007', "
        "'trainval'), ('2007', 'test'), ('2012', 'trainval'))]\""
    ),
    "segmentation": (
        "unpack ADEChallengeData2016.zip from http://sceneparsing.csail.mit.edu into that folder"
    ),
    "normals": (
        "put NYUv2 there as NYUD_MT.tgz has it: images/ID.jpg, normals/ID.npy ([H, W, 3], zeros "
        "where unknown), and IDs by line in gt_sets/train.txt and gt_sets/val.txt"
    ),
}
