"""The three data sets in their published layouts: what is read, and what is said of mistakes."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config.finetune import FinetuneConfig
from pipeline.eval.dense.codebook import expected_direction, find_directions, nearest_direction
from pipeline.eval.dense.detection import flip
from pipeline.eval.dense.layouts import list_files
from pipeline.eval.dense.pixelwise_sets import DenseImages
from pipeline.eval.dense.sizes import fit, pad_batch, resize_labels
from pipeline.eval.dense.voc import CLASSES, VocImages
from shards.errors import UserError
from tests.support.dense_sets import ADE_CLASSES, COLOURS, DIRECTIONS, SIDE, WRITERS, annotate

TASKS = tuple(WRITERS)


def config_of(task: str, root: Path, **fields: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate({"task": task, "root": root, **fields})


def open_images(config: FinetuneConfig, split: Any) -> Any:
    return VocImages(config, split) if config.task == "detection" else DenseImages(config, split)


def test_voc_boxes_are_those_of_the_squares(tmp_path: Path) -> None:
    WRITERS["detection"](tmp_path)
    train = VocImages(config_of("detection", tmp_path), "train")
    assert len(train) == 12
    assert len(VocImages(config_of("detection", tmp_path, voc_years=["2012"]), "train")) == 6
    for row in range(len(train)):
        example = train[row]
        (box,), (label,) = example.objects.boxes.int().tolist(), example.objects.labels.tolist()
        colour = torch.from_numpy(COLOURS[("car", "dog").index(CLASSES[label - 1])].astype(int))
        is_square = (example.image.int() - colour[:, None, None]).abs().amax(0) < 60
        rows, columns = (torch.nonzero(is_square.any(1 - axis)).flatten() for axis in (0, 1))
        found = [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        np.testing.assert_allclose(found, box, atol=1)  # JPEG blurs the border


def test_voc_objects_may_be_difficult_many_or_none(tmp_path: Path) -> None:
    WRITERS["detection"](tmp_path)
    folder = tmp_path / "VOCdevkit" / "VOC2007" / "Annotations"
    objects = [("dog", (1, 1, 64, 64), True), ("car", (2, 3, 40, 50), False)]
    (folder / "2007_test_000000.xml").write_text(annotate(objects))
    (folder / "2007_test_000001.xml").write_text(annotate([]))
    test = VocImages(config_of("detection", tmp_path), "test")
    found = test[0].objects
    assert found.boxes.tolist() == [[0, 0, 64, 64], [1, 2, 40, 50]]
    assert [CLASSES[label - 1] for label in found.labels.tolist()] == ["dog", "car"]
    assert found.difficult.tolist() == [True, False]
    assert test[1].objects.boxes.shape == (0, 4)


def test_voc_flip_moves_the_boxes_with_the_pixels(tmp_path: Path) -> None:
    WRITERS["detection"](tmp_path)
    example = VocImages(config_of("detection", tmp_path), "test")[0]
    flipped = flip(example)
    left, top, right, bottom = example.objects.boxes[0].int().tolist()
    moved = flipped.objects.boxes[0].int().tolist()
    assert moved == [SIDE - right, top, SIDE - left, bottom]
    square = example.image[:, top:bottom, left:right]
    assert torch.equal(flipped.image[:, moved[1] : moved[3], moved[0] : moved[2]], square.flip(2))


def test_ade20k_classes_count_from_0_and_0_is_no_label(tmp_path: Path) -> None:
    WRITERS["segmentation"](tmp_path)
    config = config_of("segmentation", tmp_path)
    train, test = DenseImages(config, "train"), DenseImages(config, "test")
    assert (len(train), len(test)) == (8, 4)
    for row, file in enumerate(list_files(config, "train")):
        stored = np.asarray(Image.open(file.labels)).astype(int)
        found = train[row].labels
        assert found.dtype == torch.int64
        np.testing.assert_array_equal(found[0].numpy(), stored - 1)
        assert set(found.unique().tolist()) <= {-1, *(label - 1 for label in ADE_CLASSES)}
        assert (found[0, :4] == -1).all()


def test_nyuv2_normals_are_the_arrays_and_the_lists_are_the_splits(tmp_path: Path) -> None:
    WRITERS["normals"](tmp_path)
    config = config_of("normals", tmp_path)
    train = DenseImages(config, "train")
    names = [file.image.stem for file in list_files(config, "test")]
    assert names == ["0101", "0102", "0103", "0104"]
    stored = np.load(tmp_path / "normals" / "0001.npy")
    np.testing.assert_array_equal(train[0].labels.numpy(), stored.transpose(2, 0, 1))
    assert train[0].image.size == (SIDE + 16, SIDE)


def test_nyuv2_directions_are_found_and_pixels_get_theirs(tmp_path: Path) -> None:
    WRITERS["normals"](tmp_path)
    images = DenseImages(config_of("normals", tmp_path), "train")
    directions = find_directions(images, 40, seed=0)
    for wanted in torch.from_numpy(DIRECTIONS):
        assert (directions - wanted).norm(dim=1).min() < 2e-3
    assert len(directions) == len(DIRECTIONS)
    normals = images[0].labels
    classes = nearest_direction(normals[None], directions)[0]
    assert (classes[:4] == -1).all()
    known = classes >= 0
    assert (directions[classes[known]] - normals[:, known].T).abs().max() < 2e-3
    certain = torch.eye(3)[classes.clamp(min=0)].permute(2, 0, 1)
    found = expected_direction(certain, directions)
    assert (found[:, known] - normals[:, known]).abs().max() < 2e-3


def test_nyuv2_many_directions_are_clustered_alike_for_a_seed(tmp_path: Path) -> None:
    WRITERS["normals"](tmp_path)
    generator = np.random.default_rng(0)
    for path in (tmp_path / "normals").iterdir():
        np.save(path, generator.normal(size=np.load(path).shape).astype(np.float32))
    images = DenseImages(config_of("normals", tmp_path), "train")
    directions = find_directions(images, 40, seed=0)
    assert directions.shape == (40, 3)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(40))
    assert torch.equal(directions, find_directions(images, 40, seed=0))
    assert not torch.equal(directions, find_directions(images, 40, seed=1))
    # a sphere's 40 caps are about 18 degrees wide, those found by k-means less even
    normals = images[0].labels
    classes = nearest_direction(normals[None], directions)[0]
    cosines = (directions[classes] * normals.permute(1, 2, 0)).sum(2) / normals.norm(dim=0)
    assert cosines.min() > np.cos(np.radians(40))


@pytest.mark.parametrize("task", TASKS)
def test_sets_that_are_absent_are_named_with_what_to_put_where(tmp_path: Path, task: str) -> None:
    with pytest.raises(UserError, match=r"finetune\.root: set it") as raised:
        list_files(FinetuneConfig.model_validate({"task": task}), "train")
    assert "\n" not in str(raised.value)
    with pytest.raises(UserError, match=r"finetune\.root: .*; (get|unpack|put)") as raised:
        list_files(config_of(task, tmp_path), "train")
    assert str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("part", ["image", "labels"])
@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("task", TASKS)
def test_sets_that_lack_a_file_or_have_a_damaged_one_name_it(
    tmp_path: Path, task: str, split: Any, part: str
) -> None:
    WRITERS[task](tmp_path)
    config = config_of(task, tmp_path)
    images = open_images(config, split)
    place: Path = getattr(list_files(config, split)[1], part)
    if task == "segmentation" and part == "image":  # not missed: its folder is the list
        place.write_bytes(b"damaged")
    else:
        content = place.read_bytes()
        place.unlink()
        with pytest.raises(UserError, match=place.name):
            list_files(config, split)
        place.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match=place.name) as raised:
        images[1]
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("task", "reader"), [("segmentation", Image.open), ("normals", np.load)])
def test_sets_a_file_that_may_not_be_read_is_not_called_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, reader: Any
) -> None:
    def forbidden(path: Path, **_: Any) -> None:  # root may read what chmod forbids
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    WRITERS[task](tmp_path)
    images = DenseImages(config_of(task, tmp_path), "train")
    monkeypatch.setattr(Image if reader is Image.open else np, reader.__name__, forbidden)
    with pytest.raises(UserError, match=r"\d\.\w+: Permission denied; check its permissions"):
        images[0]


def test_sets_a_pickled_array_is_refused_and_not_executed(tmp_path: Path) -> None:
    WRITERS["normals"](tmp_path)
    place = tmp_path / "normals" / "0001.npy"

    class Trap:
        def __reduce__(self) -> Any:
            return (tmp_path.joinpath("executed").touch, ())

    np.save(place, np.array([Trap()], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"0001\.npy"):
        DenseImages(config_of("normals", tmp_path), "train")[0]
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4)), np.zeros((4, 4, 3), dtype=np.uint8), np.zeros((5, 4, 3))]
)
def test_sets_normals_of_another_form_are_refused(tmp_path: Path, array: np.ndarray) -> None:
    WRITERS["normals"](tmp_path)
    np.save(tmp_path / "normals" / "0001.npy", array)
    with pytest.raises(UserError, match=r"0001\.npy"):
        DenseImages(config_of("normals", tmp_path), "train")[0]


def test_sets_unknown_classes_and_objects_are_refused(tmp_path: Path) -> None:
    WRITERS["segmentation"](tmp_path)
    config = config_of("segmentation", tmp_path)
    place = list_files(config, "train")[0].labels
    Image.fromarray(np.full((SIDE + 16, SIDE), 151, dtype=np.uint8)).save(place)
    with pytest.raises(UserError, match="class 151 of 150"):
        DenseImages(config, "train")[0]
    shutil.rmtree(tmp_path / "ADEChallengeData2016")
    WRITERS["detection"](tmp_path)
    config = config_of("detection", tmp_path)
    place = list_files(config, "test")[0].labels
    for objects in ([("unicorn", (1, 1, 9, 9), False)], [("dog", (9, 9, 8, 12), False)]):
        place.write_text(annotate(objects))  # type: ignore[arg-type]
        with pytest.raises(UserError, match=place.name):
            VocImages(config, "test")[0]


@pytest.mark.parametrize(
    ("size", "expected"),
    [((480, 640), (450, 600)), ((640, 480), (600, 450)), ((300, 1200), (250, 1000))],
)
def test_fit_scales_the_short_side_unless_the_long_one_is_too_long(
    size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert fit(size, 450, 1000) == expected
    rounded = fit(size, 450, 1000, 32)
    assert all(
        0 <= r - side < 32 and r % 32 == 0 for r, side in zip(rounded, expected, strict=True)
    )


def test_resize_labels_takes_the_label_at_the_middle() -> None:
    labels = torch.arange(48).reshape(1, 6, 8)
    for height, width in ((3, 4), (2, 8), (12, 5), (6, 8)):
        image = Image.fromarray(labels[0].numpy().astype(np.uint8))
        expected = np.asarray(image.resize((width, height), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(resize_labels(labels, height, width)[0].numpy(), expected)


def test_pad_batch_fills_right_and_below() -> None:
    found = pad_batch([torch.ones(1, 3, 9), torch.ones(1, 5, 2)], 4, -1)
    assert found.shape == (2, 1, 8, 12)
    assert found[0, 0, :3, :9].sum() == 27
    assert found[1, 0, :5, :2].sum() == 10
    assert (found == -1).sum() == 2 * 96 - 37
