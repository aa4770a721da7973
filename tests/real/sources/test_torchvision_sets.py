"""torchvision's datasets as sources, on tiny sets laid out on disk as the published ones are."""

from __future__ import annotations

import hashlib
import os
import pickle
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from pipeline.real import stage
from pipeline.real.request import make_request
from pipeline.real.sources.torchvision_sets import DOWNLOADS
from pipeline.records.products import real_shards
from shards.errors import UserError
from tests.support.real_images import read_set, real_config

SPLITS = ("train", "test")
WNIDS = {"n01440764": ("tench", "Tinca tinca"), "n02106662": ("Alsatian",), "n03376595": ("chair",)}


def publish(monkeypatch: pytest.MonkeyPatch, root: Path, name: str) -> None:
    """Make the files under `root` the ones that torchvision expects: their sums, not its code."""
    cls = getattr(datasets, DOWNLOADS[name].dataset)
    folder = root / cls.base_folder

    def sums(files: list[list[str]]) -> list[list[str]]:
        return [[file, hashlib.md5((folder / file).read_bytes()).hexdigest()] for file, _ in files]

    monkeypatch.setattr(cls, "train_list", sums(cls.train_list))
    monkeypatch.setattr(cls, "test_list", sums(cls.test_list))
    if name != "stl10":
        meta = cls.meta["filename"]
        ((_, md5),) = sums([[meta, ""]])
        monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5})


def pixels(count: int, side: int, seed: int) -> np.ndarray:
    """[count, 3, side, side]."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side)).astype(np.uint8)


def write_cifar(root: Path, name: str, per_file: int = 2) -> dict[str, np.ndarray]:
    """Batches of `per_file` images; returns those of each split."""
    cls: Any = getattr(datasets, DOWNLOADS[name].dataset)
    folder = root / cls.base_folder
    folder.mkdir(parents=True)
    names = [f"class {index}" for index in range(10 if name == "cifar10" else 100)]
    (folder / cls.meta["filename"]).write_bytes(pickle.dumps({cls.meta["key"]: names}))
    images: dict[str, np.ndarray] = {}
    for split, files in (("train", cls.train_list), ("test", cls.test_list)):
        parts = []
        for seed, (file, _) in enumerate(files):
            parts.append(pixels(per_file, 32, seed + 10 * (split == "test")))
            labels = "labels" if name == "cifar10" else "fine_labels"
            entry = {"data": parts[-1].reshape(per_file, -1), labels: list(range(per_file))}
            (folder / file).write_bytes(pickle.dumps(entry))
        images[split] = np.concatenate(parts)
    return images


def write_stl10(root: Path) -> dict[str, np.ndarray]:
    """Three labelled, two unlabelled and two test images; returns those of each split."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    (folder / "class_names.txt").write_text("airplane\nbird\ncar\n")
    parts = {"train": pixels(3, 96, 0), "unlabeled": pixels(2, 96, 1), "test": pixels(2, 96, 2)}
    for name, part in parts.items():
        part.transpose(0, 1, 3, 2).tofile(folder / f"{name}_X.bin")  # columns first
    np.array([3, 1, 2], dtype=np.uint8).tofile(folder / "train_y.bin")  # counted from 1
    np.array([1, 3], dtype=np.uint8).tofile(folder / "test_y.bin")
    train = np.concatenate([parts["train"], parts["unlabeled"]])
    return {"train": train, "test": parts["test"]}


def write_imagenet(root: Path) -> None:
    """Two images of each class in either split, unpacked as torchvision does it."""
    root.mkdir(parents=True, exist_ok=True)
    torch.save((WNIDS, list(WNIDS)), root / "meta.bin")
    for split in ("train", "val"):
        for number, wnid in enumerate(WNIDS):
            (root / split / wnid).mkdir(parents=True)
            for copy in range(2):
                image = Image.new("RGB", (20, 16), (80 * number, 0, 0))
                image.save(root / split / wnid / f"{wnid}_{copy}.JPEG")


@pytest.mark.parametrize("name", DOWNLOADS)
def test_files_behind_the_splits_are_torchvisions(name: str) -> None:
    cls: Any = getattr(datasets, DOWNLOADS[name].dataset)
    listed = {split: set(DOWNLOADS[name].files(split)) for split in SPLITS}
    extra = {"class_names.txt"} if name == "stl10" else {cls.meta["filename"]}
    assert DOWNLOADS[name].folder == cls.base_folder
    assert listed["train"] == {file for file, _ in cls.train_list} | extra
    assert listed["test"] == {file for file, _ in cls.test_list} | extra


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_images_labels_and_class_names_are_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    expected = write_cifar(tmp_path, name)
    publish(monkeypatch, tmp_path, name)
    found = read_set(tmp_path / "out", source=name, path=tmp_path, resolution=32)
    assert found.class_names[:2] == ("class 0", "class 1")
    assert len(found.class_names) == (10 if name == "cifar10" else 100)
    for split, part in (("train", found.train), ("test", found.test)):
        np.testing.assert_array_equal(np.stack(part.images), expected[split])
        assert part.labels == [0, 1] * (len(part.images) // 2)


def test_cifar_limit_reads_the_images_that_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_cifar(tmp_path, "cifar10", per_file=3)["train"]
    publish(monkeypatch, tmp_path, "cifar10")
    whole = [image.tobytes() for image in expected]
    fields = {"source": "cifar10", "path": tmp_path, "resolution": 32, "limit": "40_percent"}
    part = read_set(tmp_path / "out", **fields).train
    assert part.num_available == 15
    places = [whole.index(image.tobytes()) for image in part.images]
    assert places == sorted(places)
    assert part.labels == [place % 3 for place in places]


def test_stl10_train_split_has_the_unlabelled_images_behind_the_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = write_stl10(tmp_path)
    publish(monkeypatch, tmp_path, "stl10")
    found = read_set(tmp_path / "out", source="stl10", path=tmp_path, resolution=32)
    assert found.class_names == ("airplane", "bird", "car")
    assert found.train.labels == [2, 0, 1, -1, -1]
    assert found.test.labels == [0, 2]
    for split, part in (("train", found.train), ("test", found.test)):
        for image, original in zip(part.images, expected[split], strict=True):
            assert image.shape == (3, 32, 32)
            # each pixel is a weighted mean of some 6x6 of them: the same picture, not a transposed
            small = original.reshape(3, 32, 3, 32, 3).mean((2, 4))
            assert np.corrcoef(image.ravel(), small.ravel())[0, 1] > 0.8


def test_imagenet_validation_images_are_the_test_split(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    found = read_set(tmp_path / "out", source="imagenet", path=tmp_path)
    assert found.class_names == ("tench", "Alsatian", "chair")
    for part in (found.train, found.test):
        assert part.labels == [0, 0, 1, 1, 2, 2]
        for image, label in zip(part.images, part.labels, strict=True):
            assert abs(image[0].mean() - 80 * label) <= 3  # JPEG


def test_imagenet_listed_classes_are_numbered_anew(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    classes = tmp_path / "list.txt"
    classes.write_text("n03376595\nn02106662\n")
    fields = {"source": "imagenet", "path": tmp_path, "classes": classes}
    found = read_set(tmp_path / "out", **fields)
    assert found.class_names == ("Alsatian", "chair")
    assert found.train.labels == found.test.labels == [0, 0, 1, 1]
    classes.write_text("tench\n")
    with pytest.raises(UserError, match=r"real\.classes.*tench"):
        read_set(tmp_path / "out", **fields)


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "imagenet"])
def test_absent_data_are_named_with_what_gets_them(tmp_path: Path, name: str) -> None:
    root = tmp_path / "my images"
    with pytest.raises(UserError) as raised:
        read_set(tmp_path / "out", source=name, path=root)
    message = str(raised.value)
    assert message.startswith("real.path: ")
    assert "\n" not in message
    if name == "imagenet":
        assert "https://image-net.org/" in message
        assert "ILSVRC2012_img_val.tar" in message
    else:
        assert f"{DOWNLOADS[name].dataset}(" in message
        assert "download=True" in message
        assert DOWNLOADS[name].folder in message
    _, _, command = message.partition("python -c ")
    compile(shlex.split(command)[0], "command", "exec")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10"])
def test_other_files_than_the_published_ones_are_refused_unread(tmp_path: Path, name: str) -> None:
    if name == "stl10":
        write_stl10(tmp_path)
    else:
        write_cifar(tmp_path, name)
        folder = tmp_path / DOWNLOADS[name].folder
        trap = b"cos\nmkdir\n(V" + os.fsencode(tmp_path / "executed") + b"\ntR."
        for file in folder.iterdir():
            file.write_bytes(trap)
    with pytest.raises(UserError, match=r"real\.path.*download=True"):
        read_set(tmp_path / "out", source=name, path=tmp_path)
    assert not (tmp_path / "executed").exists()


def test_damaged_imagenet_meta_file_is_named(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    (tmp_path / "meta.bin").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"real\.path.*meta\.bin"):
        read_set(tmp_path / "out", source="imagenet", path=tmp_path)


def test_imagenet_with_a_foreign_or_without_any_class_is_named(tmp_path: Path) -> None:
    write_imagenet(tmp_path)
    (tmp_path / "train" / "n02106662").rename(tmp_path / "train" / "dogs")
    (tmp_path / "val" / "n02106662").rename(tmp_path / "val" / "dogs")
    with pytest.raises(UserError, match=r"real\.path: dogs is no class"):
        read_set(tmp_path / "out", source="imagenet", path=tmp_path)
    shutil.rmtree(tmp_path / "train")
    (tmp_path / "train").mkdir()
    with pytest.raises(UserError, match=r"real\.path: no images in .*train"):
        read_set(tmp_path / "out", source="imagenet", path=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "stl10", "imagenet"])
def test_digest_of_a_split_changes_with_its_files_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = tmp_path / "data"
    if name == "imagenet":
        write_imagenet(data)
        behind = data / "val" / "n02106662" / "n02106662_1.JPEG"
    elif name == "stl10":
        write_stl10(data)
        behind = data / "stl10_binary" / "test_X.bin"
    else:
        write_cifar(data, name)
        behind = data / "cifar-10-batches-py" / "test_batch"
    if name != "imagenet":
        publish(monkeypatch, data, name)

    def digests() -> dict[str, str]:
        listings = make_request(real_config(tmp_path, source=name, path=data)).listings
        return {split: listing.digest for split, listing in listings.items()}

    before = digests()
    (data / "readme.html").write_text("beside them")
    assert digests() == before
    os.utime(behind, ns=(1, 1))
    after = digests()
    assert after["train"] == before["train"]
    assert after["test"] != before["test"]


def test_stage_packs_stl10_once_and_knows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_stl10(tmp_path / "data")
    publish(monkeypatch, tmp_path / "data", "stl10")
    config = real_config(
        tmp_path, source="stl10", path=tmp_path / "data", resolution=32, samples_per_shard=2
    )
    assert stage.find(config) is None
    stage.run(config)
    record = stage.find(config)
    assert record is not None
    assert record.outputs.num_samples == {"train": 5, "test": 2}
    reader = real_shards(config, "train").open()
    assert reader.gather("label", np.arange(5)).tolist() == [2, 0, 1, -1, -1]
