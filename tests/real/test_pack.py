"""Rows of a shard -> that shard, whoever packs it, and what of them cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config.root import Config
from pipeline.real.pack import Packing, Recipe, pack_shard, read_unreadable
from pipeline.real.request import make_request, select
from pipeline.real.rows import rows_of, write_rows
from shards.cache import Cache
from shards.manifest import Manifest, write_manifest
from shards.reader import ShardReader
from shards.schema import META_BYTES, real_schema
from shards.storage import Folder
from tests.support.real_images import encode, number_of, real_config, tile, write_folder


def packing_of(config: Config, folder: Path) -> Packing:
    """Of the train split, its rows written."""
    request = make_request(config)
    selections, _ = select(config.real, request, config.store)
    real = config.real
    place, size = Folder.at(folder), real.samples_per_shard
    write_rows(place, "train", rows_of(selections["train"], config.store), size)
    schema = real_schema(real.resolution, real.image_codec, real.image_quality)
    recipe = Recipe(schema, real.resolution, real.background, size)
    return Packing(place, "train", request.sources["train"], recipe)


def open_packed(packing: Packing, *indices: int) -> ShardReader:
    """A reader of shards, packed in that order."""
    packed = [pack_shard(packing, index) for index in indices]
    shards = tuple(sorted((p.shard for p in packed if p.shard), key=lambda s: s.start_index))
    folder = packing.folder / packing.split
    write_manifest(folder, Manifest(packing.recipe.schema, shards))
    return ShardReader(folder, remedy="", cache=Cache(Path("unused"), 0))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    files: dict[str, bytes | int] = {f"{'ab'[n % 2]}/{n:03}.png": n for n in range(100)}
    return write_folder(tmp_path / "images", files)


@pytest.mark.parametrize("codec", ["npy", "png", "webp"])
def test_shards_hold_images_labels_and_sources(images: Path, tmp_path: Path, codec: str) -> None:
    fields = {"image_codec": codec, "image_quality": 100, "samples_per_shard": 40}
    packing = packing_of(real_config(tmp_path, train=images, **fields), tmp_path / "packed")
    reader = open_packed(packing, 2, 0, 1)
    assert reader.num_samples == 100
    wanted = np.arange(100)
    pixels, labels = reader.gather("image", wanted), reader.gather("label", wanted)
    numbers = [number_of(image) for image in pixels]
    assert numbers == [*range(0, 100, 2), *range(1, 100, 2)]
    assert labels.tolist() == [0] * 50 + [1] * 50
    for index, meta in enumerate(reader.gather("meta", wanted)):
        said = json.loads(bytes(meta))
        name = f"{'ab'[numbers[index] % 2]}/{numbers[index]:03}.png"
        assert said == {"index": index, "label": labels[index], "source": name}


@pytest.mark.parametrize("codec", ["npy", "jpg"])
def test_shard_packed_alone_is_the_one_of_the_whole(
    images: Path, tmp_path: Path, codec: str
) -> None:
    config = real_config(tmp_path, train=images, image_codec=codec, samples_per_shard=33)
    whole, alone = (packing_of(config, tmp_path / name) for name in ("whole", "alone"))
    for index in range(4):
        pack_shard(whole, index)
    found = pack_shard(alone, 2)
    assert (found.split, found.index, found.num_rows, found.unreadable) == ("train", 2, 33, ())
    name = "train/shard-000002.tar"
    assert (tmp_path / "alone" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (tmp_path / "alone" / "train" / "shard-000001.tar").exists()


def test_shard_with_images_that_cannot_be_read_has_the_others_and_a_note(tmp_path: Path) -> None:
    files: dict[str, bytes | int] = {f"{number}.png": number for number in range(6)}
    files |= {"1.png": b"", "4.png": b"text"}
    folder = write_folder(tmp_path / "images", files)
    (folder / "9.png").symlink_to(tmp_path / "nowhere")
    config = real_config(tmp_path, train=folder, samples_per_shard=5)
    packing = packing_of(config, tmp_path / "packed")
    first, second = (pack_shard(packing, index) for index in (0, 1))
    assert first.shard is not None
    assert (first.shard.num_samples, first.num_rows) == (3, 5)
    assert [(one.row, one.source) for one in first.unreadable] == [(1, "1.png"), (4, "4.png")]
    assert [one.reason for one in second.unreadable] == ["no file, or a link that leads nowhere"]
    notes = read_unreadable(packing.folder, "train")
    assert notes == {0: list(first.unreadable), 1: list(second.unreadable)}
    assert read_unreadable(packing.folder, "test") == {}


def test_shard_of_which_nothing_can_be_read_leaves_no_file(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", {"0.png": b"", "1.png": b"", "2.png": 2})
    config = real_config(tmp_path, train=folder, samples_per_shard=2)
    packing = packing_of(config, tmp_path / "packed")
    found = pack_shard(packing, 0)
    assert found.shard is None
    assert len(found.unreadable) == found.num_rows == 2
    assert list((tmp_path / "packed" / "train").glob("*")) == []
    assert len(read_unreadable(packing.folder, "train")[0]) == 2


def test_shard_of_which_all_can_be_read_by_now_loses_its_note(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "images", {"0.png": 0, "1.png": b"x" * len(tile(1))})
    packing = packing_of(real_config(tmp_path, train=folder), tmp_path / "packed")
    assert len(pack_shard(packing, 0).unreadable) == 1
    (folder / "1.png").write_bytes(tile(1))
    assert pack_shard(packing, 0).unreadable == ()
    assert read_unreadable(packing.folder, "train") == {}


def test_meta_has_room_for_any_name(tmp_path: Path) -> None:
    name = "☃" * 80
    folder = write_folder(tmp_path / "images", {f"{'deep/' * 50}{name}.png": 1, f"{name}/x.png": 2})
    packing = packing_of(real_config(tmp_path, train=folder), tmp_path / "packed")
    for meta in open_packed(packing, 0).gather("meta", np.arange(2)):
        assert len(bytes(meta)) <= META_BYTES
        assert json.loads(bytes(meta))["source"].endswith(".png")


def test_storage_that_fails_leaves_nothing_behind(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packing = packing_of(real_config(tmp_path, train=images), tmp_path / "packed")

    def fail(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("pipeline.real.sources.folder.read_file", fail)
    with pytest.raises(OSError, match="Input/output error"):
        pack_shard(packing, 0)
    assert list((tmp_path / "packed" / "train").glob("*.tar")) == []
    assert read_unreadable(packing.folder, "train") == {}


def test_background_and_size_are_the_recipes(tmp_path: Path) -> None:
    clear = encode(Image.new("RGBA", (5, 5), (0, 0, 0, 0)))
    folder = write_folder(tmp_path / "images", {"0.png": clear})
    config = real_config(tmp_path, train=folder, background=[9, 8, 7], resolution=16)
    (image,) = open_packed(packing_of(config, tmp_path / "packed"), 0).gather("image", np.arange(1))
    assert image.shape == (3, 16, 16)
    assert image[:, 3, 3].tolist() == [9, 8, 7]
