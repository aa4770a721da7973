"""Packed images have the names and classes under which users know them, row by row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.root import Config
from pipeline.embed.images import Images, home_of, pack_images
from pipeline.real.request import folder_of
from pipeline.records.spec import Spec
from shards.errors import UserError
from tests.support.real_images import (
    number_of,
    real_config,
    write_folder,
    write_parquet,
    write_tar,
    write_zip,
)
from tests.support.real_runs import Counts


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return real_config(tmp_path, samples_per_shard=4, train=str(tmp_path / "own"))


def skipping(config: Config) -> Config:
    real = config.real.model_copy(update={"unreadable": "skip"})
    return config.model_copy(update={"real": real})


def numbered(packed: list[Images]) -> dict[str, tuple[int, str | None]]:
    """Name -> the tile that is stored there, and its class."""
    found = {}
    for images in packed:
        reader = images.open()
        pixels = reader.gather("image", np.arange(len(reader)))
        for image, (name, label) in zip(pixels, images.names(), strict=True):
            assert name not in found
            found[name] = number_of(image), label
    return found


def test_folder_of_classes_and_unlabelled_images_has_paths_and_class_names(
    tmp_path: Path, config: Config
) -> None:
    files = {f"{'ab'[n % 2]}/deep/{n}.png": n for n in range(9)} | {"9.png": 9}
    root = write_folder(tmp_path / "images", files)
    expected = {name: (n, name[0] if "/" in name else None) for name, n in files.items()}
    assert numbered(pack_images(config, str(root))) == expected


def test_images_that_are_skipped_shift_no_name(tmp_path: Path, config: Config) -> None:
    files: dict[str, bytes | int] = {f"{n:02}.png": n for n in range(14)}
    bad = {f"{n:02}.png": b"no image" for n in (0, 5, 6, 13)}
    root = write_folder(tmp_path / "images", files | bad)
    expected = {name: (n, None) for name, n in files.items() if name not in bad}
    assert numbered(pack_images(skipping(config), str(root))) == expected


@pytest.mark.parametrize("is_bad", [False, True])
def test_the_same_keys_in_several_tars_are_told_apart(
    tmp_path: Path, config: Config, is_bad: bool
) -> None:
    for tar in range(2):
        members: list[tuple[str, bytes | int]] = []
        for key in range(5):
            is_lost = is_bad and (tar, key) in ((0, 3), (1, 0))
            members.append((f"{key}.png", b"no image" if is_lost else 10 * tar + key))
            members.append((f"{key}.cls", b"cat" if key % 2 else b"dog"))
        write_tar(tmp_path / "tars" / f"{tar}.tar", members)
    found = numbered(pack_images(skipping(config), str(tmp_path / "tars" / "*.tar")))
    assert found == {
        f"{tar}.tar:{key}": (10 * tar + key, "cat" if key % 2 else "dog")
        for tar in range(2)
        for key in range(5)
        if not is_bad or (tar, key) not in ((0, 3), (1, 0))
    }


def test_names_remain_when_shards_with_gaps_were_collected(tmp_path: Path, config: Config) -> None:
    for tar in "ab":
        content: list[tuple[str, bytes | int]] = [(f"{tar}{n}.png", n) for n in range(5)]
        write_tar(tmp_path / "tars" / f"{tar}.tar", [*content, ("bad.png", b"")])
    packed = pack_images(skipping(config), str(tmp_path / "tars"))
    record = packed[0].record
    inputs = {name: value for name, value in record.inputs.items() if name != "skipped"}
    folder_of(Spec("real", record.config, inputs), config.store).remove_all()
    assert numbered(packed) == {f"{tar}{n}": (n, None) for tar in "ab" for n in range(5)}


def test_zip_and_parquet_have_their_own_names(tmp_path: Path, config: Config) -> None:
    zipped = write_zip(tmp_path / "images.zip", {"x/1.png": 1, "y/2.png": 2})
    found = numbered(pack_images(config, str(zipped)))
    assert found == {"x/1.png": (1, "x"), "y/2.png": (2, "y")}
    for part in range(2):
        numbers = [3 * part + row for row in range(3)]
        labels = [n % 2 for n in numbers]
        write_parquet(tmp_path / f"part-{part}.parquet", numbers, labels, names=("even", "odd"))
    found = numbered(pack_images(config, str(tmp_path / "part-*.parquet")))
    assert found == {
        f"part-{n // 3}.parquet:{n % 3}": (n, "odd" if n % 2 else "even") for n in range(6)
    }


def test_splits_are_all_there_under_their_names_with_classes_of_their_own(
    tmp_path: Path, config: Config
) -> None:
    root = write_folder(
        tmp_path / "root", {"train/a/1.png": 1, "test/a/2.png": 2, "val/z/3.png": 3}
    )
    assert numbered(pack_images(config, str(root))) == {
        "train/a/1.png": (1, "a"),
        "test/a/2.png": (2, "a"),
        "val/z/3.png": (3, "z"),
    }


def test_splits_in_one_zip_are_both_there(tmp_path: Path, config: Config) -> None:
    zipped = write_zip(tmp_path / "root.zip", {"train/a/1.png": 1, "test/a/2.png": 2})
    found = numbered(pack_images(config, str(zipped)))
    assert found == {"train/a/1.png": (1, "a"), "test/a/2.png": (2, "a")}


def test_images_are_packed_once(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "root", {f"{n}.png": n for n in range(6)})
    counts = Counts(monkeypatch)
    first = pack_images(config, str(root))
    monkeypatch.chdir(tmp_path)
    again = pack_images(config, "root")
    assert counts.decoded.total() == 6
    assert [one.record for one in again] == [one.record for one in first]
    assert home_of(config, "root") == home_of(config, str(root))
    assert home_of(config, "root").parent == config.run_dir / "embed"


def test_images_that_change_are_packed_again(tmp_path: Path, config: Config) -> None:
    root = write_folder(tmp_path / "root", {"1.png": 1})
    pack_images(config, str(root))
    write_folder(root, {"2.png": 2})
    assert numbered(pack_images(config, str(root))) == {"1.png": (1, None), "2.png": (2, None)}


def test_mistakes_are_told_of_images(tmp_path: Path, config: Config) -> None:
    (tmp_path / "empty").mkdir()
    bad = write_folder(tmp_path / "bad", {"1.png": 1, "2.png": b"no image"})
    for images, mentions in {
        tmp_path / "empty": ("IMAGES: no images in ", "empty"),
        tmp_path / "absent": ("IMAGES: ", "absent is not there"),
        bad: ("1 of 2 images cannot be read", "2.png", "real.unreadable=skip"),
    }.items():
        with pytest.raises(UserError) as raised:
            pack_images(config, str(images))
        message = str(raised.value)
        assert "\n" not in message
        assert "real.train" not in message
        for mention in mentions:
            assert mention in message
