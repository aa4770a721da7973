"""Tiny data sets of the dense tasks, laid out on disk as the published ones are, whose answer is
their colours; and runs with a student to fine-tune.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from pipeline.config.root import Config
from pipeline.config.student import StudentConfig
from pipeline.records.digests import file_digest
from pipeline.records.products import Student
from pipeline.records.record import write_record
from pipeline.records.spec import Spec
from pipeline.student.backbone import StudentResNet, build_backbone

SIDE = 64
STUDENT = StudentConfig(width=8, stem="imagenet")
COLOURS = np.array([[220, 30, 30], [30, 30, 220], [30, 200, 30]], dtype=np.uint8)
"""Of the three things there are."""
VOC_NAMES = ("car", "dog", "boat")
ADE_CLASSES = (1, 13, 150)
DIRECTIONS = np.array([[0, 0, 1], [1, 0, 0], [0, -0.6, 0.8]], dtype=np.float32)
QUICK: dict[str, Any] = {
    "steps": 60,
    "short_sides": [SIDE],
    "test_sides": [SIDE],
    "head_channels": 16,
    "frozen": "none",
    "batch": 4,
    "warmup_steps": 5,
}
"""Of any task."""


def make_backbone(seed: int = 0, architecture: str = "resnet18") -> StudentResNet:
    """Untrained; every residual branch counts, as after training."""
    config = STUDENT.model_copy(update={"architecture": architecture})
    backbone = build_backbone(config, seed)
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 0.7)
    assert isinstance(backbone, StudentResNet)
    return backbone


def make_run(folder: Path, task: str, **finetune: Any) -> Config:
    """A config whose run has a student, as `make train` leaves it; the data are under `data/`."""
    config = Config.model_validate(
        {
            "name": "tiny",
            "paths": {"runs": folder / "runs", "store": str(folder / "store")},
            "train": {
                "student": STUDENT.model_dump(),
                "method": {"name": "vicreg"},
                "images": "real",  # no pool, no teacher
            },
            "hardware": {"device": "cpu"},
            "finetune": {"task": task, "root": folder / "data", **finetune},
        }
    )
    train = config.run_dir / "train"
    student = train / "student.safetensors"
    if not student.exists():
        train.mkdir(parents=True)
        state = make_backbone().state_dict()
        save_file({name: value.contiguous() for name, value in state.items()}, student)
        product = Student(file_digest(student), pool_size=0)
        write_record(train, Spec.of("train", config.train, {"real": "0"}), product)
    return config


def draw_background(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3], grey noise."""
    grey = generator.integers(90, 130, (height, width, 1))
    return np.repeat(grey, 3, axis=2).astype(np.uint8)


def write_jpeg(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, quality=95, subsampling=0)


def annotate(boxes: list[tuple[str, tuple[int, int, int, int], bool]], side: int = SIDE) -> str:
    """VOC's XML of objects: name, (left, top, right, bottom) from 1 and inclusive, difficult."""
    objects = "".join(
        f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>"
        f"<difficult>{int(difficult)}</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
        f"<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for name, box, difficult in boxes
    )
    size = f"<size><width>{side}</width><height>{side}</height><depth>3</depth></size>"
    return f"<annotation><folder>VOC</folder>{size}{objects}</annotation>"


def write_voc(root: Path, num_train: int = 12, num_test: int = 6) -> None:
    """One coloured square on grey in each image: red cars, blue dogs."""
    generator = np.random.default_rng(0)
    parts = [("2007", "trainval", num_train // 2), ("2012", "trainval", num_train // 2)]
    for year, name, count in [*parts, ("2007", "test", num_test)]:
        folder = root / "VOCdevkit" / f"VOC{year}"
        images = [f"{year}_{name}_{number:06d}" for number in range(count)]
        for number, image in enumerate(images):
            pixels = draw_background(generator, SIDE, SIDE)
            kind, side = number % 2, int(generator.integers(20, 33))
            left, top = generator.integers(0, SIDE - side, 2).tolist()
            pixels[top : top + side, left : left + side] = COLOURS[kind]
            write_jpeg(folder / "JPEGImages" / f"{image}.jpg", pixels)
            box = (left + 1, top + 1, left + side, top + side)
            (folder / "Annotations").mkdir(exist_ok=True)
            text = annotate([(VOC_NAMES[kind], box, False)])
            (folder / "Annotations" / f"{image}.xml").write_text(text)
        lists = folder / "ImageSets" / "Main"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{name}.txt").write_text("\n".join(images) + "\n")


def draw_regions(
    generator: np.random.Generator, height: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels uint8 [height, width, 3] of two regions, and which thing they show, int [height,
    width].
    """
    things = np.full((height, width), generator.integers(3))
    middle = int(generator.integers(width // 4, 3 * width // 4))
    things[:, middle:] = (things[0, 0] + 1 + generator.integers(2)) % 3
    noise = generator.integers(-10, 11, (height, width, 3))
    return (COLOURS[things] + noise).clip(0, 255).astype(np.uint8), things


def write_ade20k(root: Path, num_train: int = 8, num_test: int = 4) -> None:
    """Colours are classes; a stripe of each image has no label."""
    generator = np.random.default_rng(1)
    for part, count in (("training", num_train), ("validation", num_test)):
        for number in range(count):
            height, width = (SIDE, SIDE + 16) if number % 2 else (SIDE + 16, SIDE)
            pixels, things = draw_regions(generator, height, width)
            folder = root / "ADEChallengeData2016"
            name = f"ADE_{part[:-3]}_{number:08d}"
            write_jpeg(folder / "images" / part / f"{name}.jpg", pixels)
            classes = np.array(ADE_CLASSES, dtype=np.uint8)[things]
            classes[:4] = 0
            labels = folder / "annotations" / part / f"{name}.png"
            labels.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(classes).save(labels)


def write_nyuv2(root: Path, num_train: int = 8, num_test: int = 4) -> None:
    """Colours are directions; a stripe of each image has none."""
    generator = np.random.default_rng(2)
    (root / "normals").mkdir(parents=True)
    (root / "gt_sets").mkdir()
    for split, first, count in (("train", 1, num_train), ("val", 101, num_test)):
        names = [f"{number:04d}" for number in range(first, first + count)]
        for name in names:
            pixels, things = draw_regions(generator, SIDE, SIDE + 16)
            write_jpeg(root / "images" / f"{name}.jpg", pixels)
            normals = DIRECTIONS[things]
            normals[:4] = 0
            np.save(root / "normals" / f"{name}.npy", normals)
        (root / "gt_sets" / f"{split}.txt").write_text("\n".join(names) + "\n")


WRITERS = {"detection": write_voc, "segmentation": write_ade20k, "normals": write_nyuv2}
"""Of each task's set."""


def same_tensors(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )
