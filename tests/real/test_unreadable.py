"""Images that cannot be read: all are listed, or skipped, and none is decoded twice for it."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.real import fill, pack, stage
from pipeline.real import listing as listing_module
from pipeline.real.sources import folder
from pipeline.real.sources.earlier import EarlierShards
from pipeline.records.products import RealImages
from pipeline.records.record import Record
from shards.errors import UserError
from shards.manifest import read_manifest
from shards.storage import Folder
from tests.support.command_line import assert_mistake, run, succeed
from tests.support.real_images import (
    real_config,
    tile,
    write,
    write_folder,
    write_zip,
)
from tests.support.real_runs import BAD, Counts, run_stage, samples, write_images
from tests.support.workspace import tars


def test_unreadable_images_stop_after_all_were_gone_through_and_are_listed(
    tmp_path: Path, counts: Counts
) -> None:
    images = write_images(tmp_path / "images", bad=BAD)
    write(images / "test" / "b" / "002.png", b"")
    config = real_config(tmp_path, path=images, samples_per_shard=4)
    with pytest.raises(UserError) as raised:
        stage.run(config)
    message = str(raised.value)
    assert message.startswith("real: 4 of 35 images cannot be read: ")
    assert "\n" not in message
    assert "real.unreadable=skip" in message
    for number in BAD:
        assert f"{images}/train/{'ab'[number // 15]}/{number:03}.png" in message
    assert "an empty file" in message
    listed = (config.run_dir / "real" / "unreadable.txt").read_text().splitlines()
    assert [Path(line.split("\t")[0]).name for line in listed] == [
        "007.png",
        "008.png",
        "023.png",
        "002.png",
    ]
    assert all(line.split("\t")[1] for line in listed)
    assert stage.find(config) is None
    counts.decoded.clear()
    with pytest.raises(UserError) as again:
        stage.run(config)
    assert str(again.value) == message
    assert counts.decoded.total() == 0


def test_unreadable_images_end_the_command_with_code_2_and_one_line(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", bad=dict.fromkeys(range(12), b""))
    path = tmp_path / "mine.yaml"
    config = {
        "name": "mine",
        "paths": {"store": str(tmp_path / "store"), "runs": str(tmp_path / "runs")},
        "real": {"path": str(images), "resolution": 8},
    }
    path.write_text(yaml.safe_dump(config))
    result = run("real", path)
    listed = tmp_path / "runs" / "mine" / "real" / "unreadable.txt"
    assert_mistake(result, "12 of 35 images", "009.png", "and 2 more", "skip", listed)
    assert "010.png" not in result.errors
    assert len(listed.read_text().splitlines()) == 12
    assert "12 unreadable skipped" in succeed("real", path, "real.unreadable=skip").errors
    assert "done" in succeed("real", path, "real.unreadable=skip").errors


def test_skipping_numbers_images_without_gaps(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", bad=BAD)
    config = real_config(tmp_path, path=images, unreadable="skip", samples_per_shard=4)
    record = run_stage(config)
    assert record.outputs.num_samples == {"train": 27, "test": 5}
    assert record.outputs.num_skipped == 3
    found = samples(config, record, "train")
    kept = [number for number in range(30) if number not in BAD]
    assert [s["number"] for s in found] == kept
    assert [s["index"] for s in found] == list(range(27))
    assert all(s["is_same"] for s in found)
    assert [s["label"] for s in found] == [number // 15 for number in kept]
    assert [Path(s["source"]).stem for s in found] == [f"{number:03}" for number in kept]
    manifest = read_manifest(Folder.at(record.outputs.folder) / "train")
    assert manifest is not None
    assert [shard.num_samples for shard in manifest.shards] == [4, 4, 4, 4, 4, 4, 3]
    assert "3 unreadable skipped" in stage.describe(config, record)


@pytest.mark.parametrize("codec", ["npy", "png", "webp", "jpg"])
def test_stop_then_skip_decodes_and_encodes_nothing_twice(
    tmp_path: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    images = write_images(tmp_path / "images", bad=BAD)
    fields = {"path": images, "samples_per_shard": 7, "image_codec": codec, "image_quality": 80}
    stopping = real_config(tmp_path / "two", **fields)
    with pytest.raises(UserError):
        stage.run(stopping)
    assert counts.decoded.total() == 35
    straight = run_stage(real_config(tmp_path / "one", unreadable="skip", **fields))
    counts.decoded.clear()

    def fail(*_: Any) -> None:
        raise AssertionError("made again")

    for name in ("to_array", "encode_image"):
        monkeypatch.setattr(pack, name, fail)
    record = run_stage(real_config(tmp_path / "two", unreadable="skip", **fields))
    assert counts.decoded.total() == 0
    assert record.outputs.digests == straight.outputs.digests
    assert record.fingerprint == straight.fingerprint
    assert tars(tmp_path / "two" / "store") == tars(tmp_path / "one" / "store")
    whole = members(tmp_path / "two" / "store", record, codec, is_other=True)
    kept = members(tmp_path / "two" / "store", record, codec, is_other=False)
    assert kept == whole
    assert len(kept) == 27


def members(store: Path, record: Record[RealImages], codec: str, is_other: bool) -> list[bytes]:
    """Images in the train shards of the record's folder, or of the other one."""
    folders = [
        f for f in (store / "real").iterdir() if (str(f) != record.outputs.folder) == is_other
    ]
    contents = []
    for shard in sorted((folders[0] / "train").glob("*.tar")):
        with tarfile.open(fileobj=io.BytesIO(shard.read_bytes())) as tar:
            for member in tar:
                if member.name.endswith(f"image.{codec}"):
                    content = tar.extractfile(member)
                    assert content is not None
                    contents.append(content.read())
    return contents


def test_skipping_is_still_done_when_the_shards_with_gaps_are_gone(
    tmp_path: Path, counts: Counts
) -> None:
    images = write_images(tmp_path / "images", bad=BAD)
    config = real_config(tmp_path, path=images, unreadable="skip")
    record = run_stage(config)
    for place in (tmp_path / "store" / "real").iterdir():
        if str(place) != record.outputs.folder:
            shutil.rmtree(place)
    assert stage.find(config) == record


def test_skipping_what_can_all_be_read_is_the_same_as_stopping(
    tmp_path: Path, counts: Counts
) -> None:
    images = write_images(tmp_path / "images")
    stopping = run_stage(real_config(tmp_path, path=images))
    skipping = real_config(tmp_path, path=images, unreadable="skip")
    assert stage.find(skipping) == stopping
    assert run_stage(skipping).outputs == stopping.outputs
    assert counts.decoded.total() == 35


def test_stopping_after_skipping_stops(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", bad=BAD)
    run_stage(real_config(tmp_path, path=images, unreadable="skip"))
    stopping = real_config(tmp_path, path=images)
    assert stage.find(stopping) is None
    with pytest.raises(UserError, match="3 of 35 images cannot be read"):
        stage.run(stopping)


@pytest.mark.parametrize("after", [10, 30])
def test_skipping_that_was_interrupted_goes_on(
    tmp_path: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    images = write_images(tmp_path / "images", bad=BAD)
    fields = {"path": images, "unreadable": "skip", "samples_per_shard": 4}
    whole = run_stage(real_config(tmp_path / "whole", **fields))
    config = real_config(tmp_path / "broken", **fields)
    counts.decoded.clear()
    counts.interrupt_at = after
    with pytest.raises(KeyboardInterrupt):
        stage.run(config)
    counts.interrupt_at = None
    pack_shard, copied = fill.pack_shard, []

    def interrupt(packing: pack.Packing, index: int) -> pack.PackedShard:
        copied.extend([index] if isinstance(packing.source, EarlierShards) else [])
        if len(copied) == 3:
            raise KeyboardInterrupt
        return pack_shard(packing, index)

    with monkeypatch.context() as patch:
        patch.setattr(fill, "pack_shard", interrupt)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config)
    record = run_stage(config)
    assert record.outputs.digests == whole.outputs.digests
    assert counts.decoded.total() <= 35 + 5


@pytest.mark.parametrize("mode", ["stop", "skip"])
def test_images_none_of_which_can_be_read_are_an_error(tmp_path: Path, mode: str) -> None:
    bad = dict.fromkeys(range(30), b"")
    images = write_images(tmp_path / "images", bad=bad)
    config = real_config(tmp_path, path=images, unreadable=mode, samples_per_shard=7)
    with pytest.raises(UserError, match="30 of 35 images cannot be read"):
        stage.run(config)
    assert stage.find(config) is None


def test_test_images_none_of_which_can_be_read_leave_an_empty_split(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    for number in range(5):
        write(images / "test" / "b" / f"{number:03}.png", b"")
    record = run_stage(real_config(tmp_path, path=images, unreadable="skip"))
    assert record.outputs.num_samples == {"train": 30, "test": 0}


@pytest.mark.parametrize("max_checked", [100_000, 3])
def test_unreadable_image_that_was_mended_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_checked: int
) -> None:
    monkeypatch.setattr(listing_module, "MAX_CHECKED", max_checked)
    images = write_images(tmp_path / "images", bad={3: b""})
    config = real_config(tmp_path, path=images)
    with pytest.raises(UserError, match="1 of 35 images"):
        stage.run(config)
    (images / "train" / "a" / "003.png").write_bytes(tile(3))
    record = run_stage(config)
    assert [s["number"] for s in samples(config, record, "train")] == list(range(30))


@pytest.mark.parametrize("problem", ["forbidden", "gone"])
def test_image_that_may_be_read_again_is_packed_and_the_other_shards_are_not(
    tmp_path: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    images = write_images(tmp_path / "images")
    config = real_config(tmp_path, path=images, samples_per_shard=5)
    path, aside = images / "train" / "a" / "007.png", tmp_path / "aside.png"
    read = folder.read_file

    def fail(location: str) -> bytes:
        if location == str(path):
            if problem == "forbidden":  # root may read what chmod forbids
                raise PermissionError(13, "Permission denied", location)
            path.rename(aside)
        return read(location)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "read_file", fail)
        with pytest.raises(UserError, match=r"1 of 35 .*007\.png \((Permission denied|not there)"):
            stage.run(config)
    if problem == "forbidden":
        path.chmod(0o600)
    else:
        aside.rename(path)
    counts.packed.clear()
    record = run_stage(config)
    assert [s["number"] for s in samples(config, record, "train")] == list(range(30))
    assert [index for _, _, index in counts.packed] == [1]


def test_unreadable_image_that_was_removed_is_not_missed(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", bad=BAD)
    config = real_config(tmp_path, path=images)
    with pytest.raises(UserError):
        stage.run(config)
    for number in BAD:
        (images / "train" / "ab"[number // 15] / f"{number:03}.png").unlink()
    assert run_stage(config).outputs.num_samples["train"] == 27


def test_limit_stops_at_the_unreadable_images_that_it_takes_only(
    tmp_path: Path, counts: Counts
) -> None:
    bad = dict.fromkeys(range(0, 30, 2), b"")
    config = real_config(tmp_path, path=write_images(tmp_path / "images", bad=bad), limit=10)
    with pytest.raises(UserError, match=r"real: \d of 15 images cannot be read"):
        stage.run(config)
    assert counts.decoded.total() == 15
    record = run_stage(real_config(tmp_path, path=tmp_path / "images", limit=10, unreadable="skip"))
    assert record.outputs.num_available == 30
    assert record.outputs.num_skipped + record.outputs.num_samples["train"] == 10


def test_set_of_zip_images_names_those_that_cannot_be_read(tmp_path: Path) -> None:

    path = write_zip(tmp_path / "a.zip", {"a/1.png": 1, "b/2.png": b"text"})
    config = real_config(tmp_path, train=path)
    with pytest.raises(UserError, match=r"1 of 2 images cannot be read: b/2\.png \(not an image"):
        stage.run(config)
    skipping = real_config(tmp_path, train=path, unreadable="skip")
    assert run_stage(skipping).outputs.num_samples["train"] == 1


def test_class_of_which_no_train_image_is_left_is_named(tmp_path: Path) -> None:
    files: dict[str, bytes | int] = {"train/a/1.png": 1, "train/b/2.png": b"text"}
    root = write_folder(tmp_path / "data", files | {"test/a/3.png": 3, "test/b/4.png": 4})
    with pytest.raises(UserError, match=r"real\.unreadable: no train image of class 'b'"):
        stage.run(real_config(tmp_path, path=root, unreadable="skip"))
