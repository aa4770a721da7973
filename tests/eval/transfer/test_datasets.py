"""Each of the eleven data sets through torchvision's own classes, on tiny ones laid out as the
published are.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from pipeline.eval.transfer.datasets import VOC_CLASSES, open_transfer_set, read_voc_classes
from pipeline.eval.transfer.images import SplitImages, TransferImages
from pipeline.eval.transfer.sets import TRANSFER_SETS
from pipeline.eval.transfer.splits import draw_caltech, draw_validation
from shards.errors import UserError
from tests.support.transfer_sets import COLOURS, WRITE, Labels, annotation, write_set

OFFICIAL = ("aircraft", "dtd", "flowers", "voc2007")
DRAWN = ("cars", "cifar10", "cifar100", "food", "pets", "sun397")
FILE_OF = {  # one that damage would go unnoticed in, if nothing read it
    "aircraft": "fgvc-aircraft-2013b/data/images_variant_val.txt",
    "cars": "stanford_cars/cars_test_annos_withlabels.mat",
    "cifar10": "cifar-10-batches-py/data_batch_3",
    "cifar100": "cifar-100-python/meta",
    "dtd": "dtd/dtd/labels/val1.txt",
    "flowers": "flowers-102/setid.mat",
    "food": "food-101/meta/test.json",
    "pets": "oxford-iiit-pet/annotations/test.txt",
    "sun397": "SUN397/ClassName.txt",
    "voc2007": "VOCdevkit/VOC2007/Annotations/200003.xml",
}


def expected_splits(name: str, labels: Labels) -> list[list[object]]:
    """Labels of train, validation and test, by the words of Ericsson et al."""
    if name in OFFICIAL:
        return [labels[split].tolist() for split in ("train", "val", "test")]
    if name == "caltech101":
        train, test = reference_caltech([50] * 4)
        train, val = reference_validation(train)
        return [[label for label, _ in part] for part in (train, val, test)]
    train, val = reference_validation(labels["trainval" if name == "pets" else "train"].tolist())
    return [train, val, labels["test"].tolist()]


def reference_validation(rows: list) -> tuple[list, list]:  # type: ignore[type-arg]
    """The release: seed, shuffle a list of indices, the first fifth is validation."""
    indices = list(range(len(rows)))
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    np.random.shuffle(indices)  # noqa: NPY002
    np.random.set_state(state)  # noqa: NPY002
    num_val = len(rows) // 5
    return [rows[row] for row in indices[num_val:]], [rows[row] for row in indices[:num_val]]


def reference_caltech(
    class_sizes: list[int],
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(label, number counted from 1) of train and test images, one class after the other."""
    state = np.random.get_state()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    train: list[tuple[int, int]] = []
    test: list[tuple[int, int]] = []
    for label, size in enumerate(class_sizes):
        drawn = {int(row) + 1 for row in np.random.choice(size, 30)}  # noqa: NPY002
        train += [(label, number) for number in sorted(drawn)]
        test += [(label, number) for number in range(1, size + 1) if number not in drawn]
    np.random.set_state(state)  # noqa: NPY002
    return train, test


def shown_label(split: SplitImages, row: int) -> object:
    """What the image shows: its nearest colour, or of VOC2007 the lit cells."""
    pixels = np.asarray(split.open(row)).astype(float)
    if split.labels.ndim == 2:
        cells = pixels.reshape(4, 20, 5, 16, 3).mean((1, 3, 4))
        return (cells > 125).ravel().tolist()
    return int(np.square(COLOURS - pixels.mean((0, 1))).sum(1).argmin())


@pytest.mark.parametrize("name", WRITE)
def test_splits_images_and_labels_are_those_of_the_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    labels = write_set(monkeypatch, tmp_path, name)
    images = open_transfer_set(name, tmp_path)
    assert images.name == name
    for split, expected in zip(images.splits, expected_splits(name, labels), strict=True):
        assert split.labels.tolist() == expected
        assert [shown_label(split, row) for row in range(len(split))] == expected
        assert split.labels.dtype == (bool if name == "voc2007" else np.int64)
    names = [image for split in images.splits for image in split.names]
    assert len(set(names)) == len(names) == images.num_images


def test_published_caltech_list_begins_as_drawn() -> None:
    """caltech101-splits/train.txt of the release, from the sizes of the first eight classes."""
    sizes = (467, 435, 435, 200, 798, 55, 800, 42)
    train, test = draw_caltech(np.repeat(np.arange(8), sizes))
    numbers = np.concatenate([np.arange(1, size + 1) for size in sizes])
    ends = np.cumsum(sizes)
    of_class = [numbers[train[(train >= e - s) & (train < e)]] for s, e in zip(sizes, ends)]  # noqa: B905
    assert list(map(len, of_class)) == [28, 27, 29, 30, 29, 22, 30, 22]
    assert of_class[0][:8].tolist() == [10, 26, 40, 48, 71, 73, 88, 89]
    assert of_class[3][-3:].tolist() == [193, 197, 198]
    assert of_class[7][:6].tolist() == [2, 4, 6, 8, 11, 12]
    assert sorted([*train, *test]) == list(range(sum(sizes)))


@pytest.mark.parametrize("count", [5, 9, 10, 8144])
def test_validation_is_the_first_fifth_of_the_releases_shuffle(count: int) -> None:
    train, val = draw_validation(count)
    assert (train.tolist(), val.tolist()) == reference_validation(list(range(count)))


def test_caltech_background_is_a_class_and_its_stray_file_is_not(tmp_path: Path) -> None:
    WRITE["caltech101"](tmp_path)
    images = open_transfer_set("caltech101", tmp_path)
    folder = "caltech101/101_ObjectCategories/BACKGROUND_Google/"
    found = [name for split in images.splits for name in split.names if name.startswith(folder)]
    assert len(found) == 50


def test_sun397_class_is_the_folder_not_a_name_inside_it(tmp_path: Path) -> None:
    WRITE["sun397"](tmp_path)
    images = open_transfer_set("sun397", tmp_path)
    for split in images.splits:
        for name, label in zip(split.names, split.labels, strict=True):
            assert ("/barn/" in name) == (label == 2)
    assert not any("no_partition" in name for split in images.splits for name in split.names)


def test_sun397_image_of_the_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    WRITE["sun397"](tmp_path)
    next((tmp_path / "SUN397" / "b" / "bar").glob("sun_test*")).unlink()
    with pytest.raises(UserError, match=r"b/bar/sun_test\d+\.jpg: Testing_01\.txt lists it"):
        open_transfer_set("sun397", tmp_path)


@pytest.mark.parametrize(
    ("things", "expected"),
    [
        ([("cat", 0), ("cat", 1), ("dog", 1)], {"cat"}),
        ([("dog", 1)], set()),
        ([("person", 0), ("person", 0), ("tvmonitor", 0)], {"person", "tvmonitor"}),
    ],
)
def test_voc_class_with_difficult_objects_only_is_not_shown(
    tmp_path: Path, things: list[tuple[str, int]], expected: set[str]
) -> None:
    (tmp_path / "a.xml").write_text(annotation(things))
    shown = read_voc_classes(tmp_path / "a.xml")
    assert {name for name, is_shown in zip(VOC_CLASSES, shown, strict=True) if is_shown} == expected


@pytest.mark.parametrize("name", WRITE)
def test_absent_files_are_named_in_one_line_with_what_gets_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = tmp_path / "my data"
    write_set(monkeypatch, root, name)
    for file in TRANSFER_SETS[name].files:
        (root / file).rename(tmp_path / "away")
        with pytest.raises(UserError) as raised:
            open_transfer_set(name, root)
        message = str(raised.value)
        assert message.startswith(f"{root / file}: is not there; ")
        assert "\n" not in message
        _, _, command = message.partition("python -c ")
        if name == "cars":  # nobody serves it any more
            assert str(root) in message
            assert "cars_test_annos_withlabels.mat" in message
        else:
            code, *_ = shlex.split(command.partition("; and ")[0])
            compile(code, "command", "exec")
            assert "download=True" in code
        (tmp_path / "away").rename(root / file)
    open_transfer_set(name, root)


def test_sun397_remedy_says_where_the_partitions_go(tmp_path: Path) -> None:
    WRITE["sun397"](tmp_path)
    shutil.rmtree(tmp_path / "SUN397" / "Partitions")
    with pytest.raises(UserError, match=r"Partitions\.zip into SUN397/Partitions under"):
        open_transfer_set("sun397", tmp_path)


@pytest.mark.parametrize("name", FILE_OF)
def test_damaged_files_are_one_line_and_nothing_in_them_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_set(monkeypatch, tmp_path, name)
    trap = b"cos\nmkdir\n(V" + os.fsencode(tmp_path / "executed") + b"\ntR."
    (tmp_path / FILE_OF[name]).write_bytes(trap)
    with pytest.raises(UserError, match=rf"torchvision cannot read {name} there .*; ") as raised:
        open_transfer_set(name, tmp_path)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "executed").exists()


def test_split_without_images_is_refused(tmp_path: Path) -> None:
    WRITE["dtd"](tmp_path)
    (tmp_path / "dtd" / "dtd" / "labels" / "val1.txt").write_text("")
    with pytest.raises(UserError, match="dtd has a split without images"):
        open_transfer_set("dtd", tmp_path)


def test_unknown_name_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cifar10, cifar100, dtd"):
        open_transfer_set("mnist", tmp_path)


@pytest.mark.parametrize("name", ["dtd", "cifar10", "voc2007"])
def test_digest_is_of_content_and_split_not_of_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_set(monkeypatch, tmp_path / "here", name)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    images = open_transfer_set(name, tmp_path / "here")
    assert open_transfer_set(name, tmp_path / "there").digest == images.digest
    digests = {images.digest}
    labels = images.train.labels.copy()
    labels[[0, 1]] = labels[[1, 0]] if (labels[0] != labels[1]).any() else 1 - labels[[0, 1]]
    relabelled = SplitImages(images.train.names, labels, images.train.pixels)
    digests.add(TransferImages(name, relabelled, images.val, images.test).digest)
    digests.add(TransferImages(name, images.val, images.train, images.test).digest)
    digests.add(TransferImages("other", images.train, images.val, images.test).digest)
    fewer = images.train.take(np.arange(1, len(images.train)))
    digests.add(TransferImages(name, fewer, images.val, images.test).digest)
    if isinstance(images.train.pixels, np.ndarray):
        changed = SplitImages(images.train.names, images.train.labels, images.train.pixels ^ 1)
        digests.add(TransferImages(name, changed, images.val, images.test).digest)
    else:
        with images.train.pixels[0].open("ab") as file:
            file.write(b"\0")
        digests.add(images.digest)
    assert len(digests) == 6


def test_digest_of_listed_image_that_is_not_there_names_it(tmp_path: Path) -> None:
    WRITE["aircraft"](tmp_path)
    images = open_transfer_set("aircraft", tmp_path)
    assert isinstance(images.test.pixels, tuple)
    images.test.pixels[3].unlink()
    with pytest.raises(UserError, match=r"2000003\.jpg: is listed, but cannot be read"):
        _ = images.digest
