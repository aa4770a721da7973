"""Tiny versions of the transfer evaluation's data sets, laid out on disk as the published ones are.

What an image shows is its label: one colour a class, in VOC2007 one lit cell a class.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from pipeline.eval.transfer.datasets import VOC_CLASSES
from pipeline.eval.transfer.sets import TRANSFER_SETS

Labels = dict[str, np.ndarray]
"""Labels of the images written, by the split's name on disk."""
COLOURS = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (190, 190, 40)])
NUM_CLASSES = len(COLOURS)
SPLITS = ("train", "val", "test")
SUN_CLASSES = ("/a/abbey", "/b/bar", "/b/barn", "/h/house/outdoor")  # a name in another's


def draw_image(label: int, seed: int, size: tuple[int, int] = (32, 40)) -> np.ndarray:
    """Noise around the class's colour, uint8 [height, width, 3]."""
    noise = np.random.default_rng(seed).normal(0, 25, (*size, 3))
    return np.clip(COLOURS[label] + noise, 0, 255).astype(np.uint8)


def save(file: Path, image: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(file, quality=95)


def draw_labels(split: str, count: int) -> np.ndarray:
    """Every class as often, in an order that looks like none."""
    seed = SPLITS.index(split)
    return np.random.default_rng(seed).permutation(np.arange(count) % NUM_CLASSES)


def write_aircraft(root: Path) -> Labels:
    data = root / "fgvc-aircraft-2013b" / "data"
    (data / "images").mkdir(parents=True)
    variants = ["707-320", "A300B4", "Cessna 172", "DC-10"]
    (data / "variants.txt").write_text("\n".join(variants) + "\n")
    labels = {split: draw_labels(split, 40) for split in SPLITS}
    for number, split in enumerate(SPLITS):
        lines = []
        for row, label in enumerate(labels[split]):
            name = f"{number}{row:06d}"
            save(data / "images" / f"{name}.jpg", draw_image(label, int(name)))
            lines.append(f"{name} {variants[label]}\n")
        (data / f"images_variant_{split}.txt").write_text("".join(lines))
    return labels


def write_caltech101(root: Path) -> Labels:
    folder = root / "caltech101" / "101_ObjectCategories"
    for label, name in enumerate(("BACKGROUND_Google", "Faces", "accordion", "airplanes")):
        for number in range(1, 51):
            file = folder / name / f"image_{number:04d}.jpg"
            save(file, draw_image(label, 100 * label + number))
    (folder / "BACKGROUND_Google" / "tmp").write_text("as in the published archive")
    return {"all": np.repeat(np.arange(4), 50)}


def write_cars(root: Path) -> Labels:
    folder = root / "stanford_cars"
    (folder / "devkit").mkdir(parents=True)
    labels = {"train": draw_labels("train", 60), "test": draw_labels("test", 40)}
    fields = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    for split, file in (
        ("train", "devkit/cars_train_annos.mat"),
        ("test", "cars_test_annos_withlabels.mat"),
    ):
        rows = np.zeros((1, len(labels[split])), dtype=[(field, object) for field in fields])
        for row, label in enumerate(labels[split]):
            name = f"{row + 1:05d}.jpg"
            rows[0, row] = (1, 1, 40, 32, np.uint8(label + 1), name)
            save(folder / f"cars_{split}" / name, draw_image(label, row))
        savemat(folder / file, {"annotations": rows})
    names = np.array([["AM General Hummer", "Acura RL", "Audi R8", "BMW M3"]], dtype=object)
    savemat(folder / "devkit" / "cars_meta.mat", {"class_names": names})
    return labels


def write_cifar(root: Path, name: str) -> Labels:
    cls: Any = getattr(datasets, name.upper())
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    names = [f"class {index}" for index in range(NUM_CLASSES)]
    (folder / cls.meta["filename"]).write_bytes(pickle.dumps({cls.meta["key"]: names}))
    key = "labels" if name == "cifar10" else "fine_labels"
    labels = {"train": draw_labels("train", 60), "test": draw_labels("test", 40)}
    for split, files in (("train", cls.train_list), ("test", cls.test_list)):
        parts = np.array_split(np.arange(len(labels[split])), len(files))
        for (file, _), rows in zip(files, parts, strict=True):
            images = [draw_image(labels[split][row], row, (32, 32)) for row in rows]
            data = np.stack(images).transpose(0, 3, 1, 2).reshape(len(rows), -1)
            entry = {"data": data, key: labels[split][rows].tolist()}
            (folder / file).write_bytes(pickle.dumps(entry))
    return labels


def write_dtd(root: Path) -> Labels:
    folder = root / "dtd" / "dtd"
    (folder / "labels").mkdir(parents=True)
    names = ("banded", "blotchy", "braided", "zigzagged")
    labels = {split: draw_labels(split, 40) for split in SPLITS}
    for number, split in enumerate(SPLITS):
        lines = []
        for row, label in enumerate(labels[split]):
            file = f"{names[label]}/{names[label]}_{number}{row:03d}.jpg"
            save(folder / "images" / file, draw_image(label, 100 * number + row))
            lines.append(file + "\n")
        (folder / "labels" / f"{split}1.txt").write_text("".join(lines))
        (folder / "labels" / f"{split}2.txt").write_text("")  # of the ten partitions the first
    return labels


def write_flowers(root: Path) -> Labels:
    folder = root / "flowers-102"
    labels = {split: draw_labels(split, 40) for split in SPLITS}
    of_image = np.concatenate([labels[split] for split in ("test", "train", "val")])
    for row, label in enumerate(of_image):
        save(folder / "jpg" / f"image_{row + 1:05d}.jpg", draw_image(label, row))
    savemat(folder / "imagelabels.mat", {"labels": (of_image + 1)[None].astype(np.uint8)})
    ids = np.arange(1, 121).reshape(3, 1, 40)
    savemat(folder / "setid.mat", {"tstid": ids[0], "trnid": ids[1], "valid": ids[2]})
    return labels


def write_food(root: Path) -> Labels:
    folder = root / "food-101"
    (folder / "meta").mkdir(parents=True)
    names = ("apple_pie", "baby_back_ribs", "churros", "waffles")
    labels = {"train": np.repeat(np.arange(4), 20), "test": np.repeat(np.arange(4), 10)}
    for split, first in (("train", 1000), ("test", 5000)):
        listing = {}
        for label in (2, 0, 3, 1):  # the published lists have an order of their own
            rows = range(np.count_nonzero(labels[split] == label))
            listing[names[label]] = [f"{names[label]}/{first + row}" for row in rows]
            for row in rows:
                file = folder / "images" / names[label] / f"{first + row}.jpg"
                save(file, draw_image(label, first + row))
        (folder / "meta" / f"{split}.json").write_text(json.dumps(listing))
    return labels


def write_pets(root: Path) -> Labels:
    folder = root / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    breeds = ("Abyssinian", "american_bulldog", "Bengal", "yorkshire_terrier")
    labels = {"trainval": draw_labels("train", 60), "test": draw_labels("test", 40)}
    for first, split in ((1, "trainval"), (101, "test")):
        lines = []
        for row, label in enumerate(labels[split]):
            name = f"{breeds[label]}_{first + row}"
            save(folder / "images" / f"{name}.jpg", draw_image(label, first + row))
            lines.append(f"{name} {label + 1} {1 + label % 2} 1\n")
        (folder / "annotations" / f"{split}.txt").write_text("".join(lines))
    return labels


def write_sun397(root: Path) -> Labels:
    folder = root / "SUN397"
    (folder / "Partitions").mkdir(parents=True)
    (folder / "ClassName.txt").write_text("\n".join(SUN_CLASSES) + "\n")
    labels = {"train": draw_labels("train", 60), "test": draw_labels("test", 40)}
    for split, listing in (("train", "Training"), ("test", "Testing")):
        lines = []
        for row, label in enumerate(labels[split]):
            file = f"{SUN_CLASSES[label]}/sun_{split}{row:04d}.jpg"
            save(folder / file.lstrip("/"), draw_image(label, row))
            lines.append(file + "\r\n")
        (folder / "Partitions" / f"{listing}_01.txt").write_text("".join(lines))
    save(folder / "a" / "abbey" / "sun_in_no_partition.jpg", draw_image(0, 0))
    return labels


def write_voc2007(root: Path) -> Labels:
    folder = root / "VOCdevkit" / "VOC2007"
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    labels = {}
    for number, (split, count) in enumerate((("train", 80), ("val", 40), ("test", 60))):
        generator = np.random.default_rng(number)
        labels[split] = generator.random((count, len(VOC_CLASSES))) < 0.3
        names = [f"{number}{row:05d}" for row in range(count)]
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
        for name, shown in zip(names, labels[split], strict=True):
            lit = np.kron(shown.reshape(4, 5, 1), np.ones((20, 16, 3)))  # 80 x 80
            noise = generator.normal(0, 15, lit.shape)
            image = np.clip(40 + 170 * lit + noise, 0, 255).astype(np.uint8)
            save(folder / "JPEGImages" / f"{name}.jpg", image)
            things = [(VOC_CLASSES[k], 0) for k in np.flatnonzero(shown)]
            things.append((VOC_CLASSES[int(generator.integers(20))], 1))  # shown or not: difficult
            (folder / "Annotations" / f"{name}.xml").write_text(annotation(things))
    return labels


def annotation(things: list[tuple[str, int]]) -> str:
    """As the devkit writes it: objects with parts, each part with a name of its own."""
    objects = "".join(
        f"<object><name>{name}</name><pose>Left</pose><difficult>{difficult}</difficult>"
        "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
        "<part><name>head</name></part></object>"
        for name, difficult in things
    )
    return (
        f"<annotation><folder>VOC2007</folder><size><depth>3</depth></size>{objects}</annotation>"
    )


WRITE: dict[str, Callable[[Path], Labels]] = {
    "aircraft": write_aircraft,
    "caltech101": write_caltech101,
    "cars": write_cars,
    "cifar10": lambda root: write_cifar(root, "cifar10"),
    "cifar100": lambda root: write_cifar(root, "cifar100"),
    "dtd": write_dtd,
    "flowers": write_flowers,
    "food": write_food,
    "pets": write_pets,
    "sun397": write_sun397,
    "voc2007": write_voc2007,
}
assert list(WRITE) == list(TRANSFER_SETS)


def publish(monkeypatch: pytest.MonkeyPatch, root: Path, name: str) -> None:
    """Make the files under `root` the ones that torchvision expects: their sums, not its code."""

    def md5(file: Path) -> str:
        return hashlib.md5(file.read_bytes()).hexdigest()

    if name in ("cifar10", "cifar100"):
        cls: Any = getattr(datasets, name.upper())
        folder = root / cls.base_folder
        for attribute in ("train_list", "test_list"):
            sums = [[file, md5(folder / file)] for file, _ in getattr(cls, attribute)]
            monkeypatch.setattr(cls, attribute, sums)
        monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5(folder / cls.meta["filename"])})
    if name == "flowers":
        folder = root / "flowers-102"
        files = {
            key: (file, md5(folder / file) if key != "image" else known)
            for key, (file, known) in datasets.Flowers102._file_dict.items()
        }
        monkeypatch.setattr(datasets.Flowers102, "_file_dict", files)


def write_set(monkeypatch: pytest.MonkeyPatch, root: Path, name: str) -> Labels:
    """Write `name` under `root`, as if it were the published one."""
    labels = WRITE[name](root)
    publish(monkeypatch, root, name)
    return labels
