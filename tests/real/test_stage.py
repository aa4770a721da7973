"""Stage `real`: shards of both splits once per content, and what becomes of unreadable images."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.config.root import Config
from pipeline.real import fill, pack, stage
from pipeline.real import listing as listing_module
from pipeline.real.sources import folder
from pipeline.real.sources.earlier import EarlierShards
from pipeline.records.products import RealImages, real_shards
from pipeline.records.record import Record, write_record
from pipeline.records.spec import Spec
from shards.errors import UserError
from shards.manifest import read_manifest
from shards.storage import Folder
from tests.support.command_line import assert_mistake, run, succeed
from tests.support.real_images import INPUTS, number_of, real_config, tile, write, write_folder
from tests.support.s3 import BUCKET, S3Server
from tests.support.workspace import tars

BAD = {7: b"", 8: b"text", 23: (INPUTS / "unreadable" / "cut-in-half.jpg").read_bytes()}
"""Of the images, those that cannot be read."""


def write_images(folder: Path, count: int = 30, bad: dict[int, bytes] | None = None) -> Path:
    """Images of two classes in turn to train, five to test."""
    files: dict[str, bytes | int] = {
        f"train/{'ab'[n // 15 % 2]}/{n:03}.png": n for n in range(count)
    }
    files |= {
        f"train/{'ab'[n // 15 % 2]}/{n:03}.png": content for n, content in (bad or {}).items()
    }
    files |= {f"test/b/{n:03}.png": n for n in range(5)}
    return write_folder(folder, files)


def run_stage(config: Config) -> Record[RealImages]:
    stage.run(config)
    record = stage.find(config)
    assert record is not None
    return record


class Counts:
    """How often each image was decoded, and which shards were packed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.decoded = Counter[bytes]()
        self.packed: list[tuple[str, str, int]] = []
        self.interrupt_at: int | None = None
        decode, pack_shard = pack.decode, fill.pack_shard

        def count(content: bytes, *arguments: Any) -> np.ndarray:
            self.decoded[content] += 1
            if self.interrupt_at is not None and self.decoded.total() > self.interrupt_at:
                raise KeyboardInterrupt
            return decode(content, *arguments)

        def note(packing: pack.Packing, index: int) -> pack.PackedShard:
            done = pack_shard(packing, index)
            self.packed.append((packing.folder.name, packing.split, index))
            return done

        monkeypatch.setattr(pack, "decode", count)
        monkeypatch.setattr(fill, "pack_shard", note)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    return Counts(monkeypatch)


def samples(config: Config, record: Record[RealImages], split: str) -> list[dict[str, Any]]:
    """What `meta` says of each sample, with its number and label."""
    reader = real_shards(config, split, record.outputs).open()
    rows = np.arange(reader.num_samples)
    metas = [json.loads(bytes(meta)) for meta in reader.gather("meta", rows)]
    numbers = [number_of(image) for image in reader.gather("image", rows)]
    labels = reader.gather("label", rows).tolist()
    return [
        {**meta, "number": number, "is_same": meta["label"] == label}
        for meta, number, label in zip(metas, numbers, labels, strict=True)
    ]


def test_stage_packs_both_splits_once_and_knows_them(tmp_path: Path, counts: Counts) -> None:
    images = write_images(tmp_path / "images")
    config = real_config(tmp_path, path=images, samples_per_shard=7)
    assert stage.find(config) is None
    record = run_stage(config)
    assert record.outputs.num_samples == {"train": 30, "test": 5}
    assert record.outputs.class_names == ("a", "b")
    assert counts.decoded.total() == 35
    assert [s["number"] for s in samples(config, record, "train")] == list(range(30))
    assert {s["label"] for s in samples(config, record, "test")} == {1}
    stage.run(config)
    assert counts.decoded.total() == 35
    assert len(counts.packed) == len(set(counts.packed)) == 6


def test_stage_is_not_done_any_more_when_images_have_changed(tmp_path: Path) -> None:
    images = write_images(tmp_path / "images")
    config = real_config(tmp_path, path=images)
    before = run_stage(config)
    write(images / "train" / "a" / "003.png", 200)
    os.utime(images / "train" / "a" / "003.png", ns=(1, 1))
    assert stage.find(config) is None
    after = run_stage(config)
    assert after.outputs.folder != before.outputs.folder
    assert samples(config, after, "train")[3]["number"] == 200
    assert after.outputs.digests["test"] == before.outputs.digests["test"]


def test_stage_without_test_images_has_an_empty_split_that_opens(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    config = real_config(tmp_path, train=tmp_path / "images" / "train")
    record = run_stage(config)
    assert record.outputs.num_samples == {"train": 30, "test": 0}
    assert real_shards(config, "test", record.outputs).open().num_samples == 0


def test_stage_with_a_limit_packs_and_decodes_just_those(tmp_path: Path, counts: Counts) -> None:
    config = real_config(tmp_path, path=write_images(tmp_path / "images"), limit="4_per_class")
    record = run_stage(config)
    assert record.outputs.num_samples == {"train": 8, "test": 5}
    assert record.outputs.num_available == 30
    assert counts.decoded.total() == 13
    assert "8 train + 5 test images of 8 px, drawn from 30 train" in stage.describe(config, record)


@pytest.mark.parametrize("after", [3, 10, 15, 29, 33])
def test_stage_interrupted_between_or_within_shards_goes_on_where_it_was(
    tmp_path: Path, counts: Counts, after: int
) -> None:
    images = write_images(tmp_path / "images")
    whole = run_stage(real_config(tmp_path / "whole", path=images, samples_per_shard=5))
    counts.decoded.clear()
    counts.packed.clear()
    config = real_config(tmp_path / "broken", path=images, samples_per_shard=5)
    counts.interrupt_at = after
    with pytest.raises(KeyboardInterrupt):
        stage.run(config)
    assert stage.find(config) is None
    counts.interrupt_at = None
    record = run_stage(config)
    assert record.outputs.digests == whole.outputs.digests
    assert tars(tmp_path / "broken" / "store") == tars(tmp_path / "whole" / "store")
    assert len(counts.packed) == len(set(counts.packed)) == 7
    assert counts.decoded.total() - 35 <= 6, "those of the shard that was being packed"


@pytest.mark.parametrize("lost", ["train/shard-000001.tar", "train", "test", "train/manifest"])
def test_stage_makes_again_what_was_lost_and_no_more(
    tmp_path: Path, counts: Counts, lost: str
) -> None:
    config = real_config(tmp_path, path=write_images(tmp_path / "images"), samples_per_shard=10)
    record = run_stage(config)
    before = tars(tmp_path / "store")
    counts.packed.clear()
    place = Path(record.outputs.folder) / lost
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    assert stage.find(config) is None
    assert run_stage(config).outputs == record.outputs
    assert tars(tmp_path / "store") == before
    expected = {"train/shard-000001.tar": 1, "train": 3, "test": 1, "train/manifest": 3}
    assert len(counts.packed) == expected[lost]


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


def test_runs_at_once_share_the_shards_of_one_content(
    tmp_path: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill, "_POLL_S", 0.01)
    first, second = (
        real_config(tmp_path, path=write_images(tmp_path / "images"), samples_per_shard=5)
        for _ in range(2)
    )
    second = second.model_copy(update={"name": "other"})
    begun, ended, decode = threading.Event(), threading.Event(), pack.decode
    slow: list[int] = []

    def wait(*arguments: Any) -> np.ndarray:
        if threading.get_ident() in slow and not begun.is_set():
            begun.set()
            assert ended.wait(60)
        return decode(*arguments)

    monkeypatch.setattr(pack, "decode", wait)

    def pack_slowly() -> None:
        slow.append(threading.get_ident())
        stage.run(first)

    thread = threading.Thread(target=pack_slowly)
    thread.start()
    assert begun.wait(60)
    note = fill.pack_shard

    def note_and_release(packing: pack.Packing, index: int) -> pack.PackedShard:
        done = note(packing, index)
        if len(counts.packed) == 6:  # all but the one that the other run has in hand
            ended.set()
        return done

    monkeypatch.setattr(fill, "pack_shard", note_and_release)
    stage.run(second)
    thread.join()
    assert len(counts.packed) == len(set(counts.packed)) == 7
    records = [stage.find(config) for config in (first, second)]
    assert records[0] is not None
    assert records[1] is not None
    assert records[0].outputs == records[1].outputs


def test_storage_that_fails_on_the_way_is_one_line_and_what_is_packed_stays(
    tmp_path: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = write_images(tmp_path / "images")
    config = real_config(tmp_path, path=images, samples_per_shard=5)
    decode, left = pack.decode, [12]

    def fail(*arguments: Any) -> np.ndarray:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return decode(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pack, "decode", fail)
        with pytest.raises(UserError, match=r"shard 2 cannot be packed.*No space left") as raised:
            stage.run(config)
    assert "\n" not in str(raised.value)
    counts.packed.clear()
    run_stage(config)
    assert len(counts.packed) == 5


def as_packed_before(config: Config, record: Record[RealImages]) -> Spec:
    """Let a run, its shards and the store be as they were before sources were listed."""
    inputs = {name: value for name, value in record.inputs.items() if name != "decoding"}
    spec = Spec("real", record.config, inputs)
    folder = Path(record.outputs.folder)
    place = folder.rename(folder.with_name(spec.fingerprint[:16]))
    for name in ("rows-train.parquet", "rows-test.parquet"):
        (place / name).unlink()
    shutil.rmtree(folder.parents[1] / "listings")
    outputs = {**vars(record.outputs), "folder": str(place)}
    write_record(config.run_dir / "real", spec, RealImages(**outputs))
    written = config.run_dir / "real" / "record.json"
    content = json.loads(written.read_text())
    del content["outputs"]["num_skipped"]
    written.write_text(json.dumps(content))
    return spec


def test_run_recorded_before_sources_were_listed_is_found_done(tmp_path: Path) -> None:
    config = real_config(tmp_path, path=write_images(tmp_path / "images"))
    spec = as_packed_before(config, run_stage(config))
    found = stage.find(config)
    assert found is not None
    assert found.fingerprint == spec.fingerprint
    assert not (tmp_path / "store" / "listings").exists()
    assert stage.find(real_config(tmp_path, path=tmp_path / "images", resolution=16)) is None


def test_digits_packed_before_sources_were_listed_are_found_done(tmp_path: Path) -> None:
    config = real_config(tmp_path)
    as_packed_before(config, run_stage(config))
    assert stage.find(config) is not None


DIGITS: list[tuple[dict[str, Any], str, list[str], list[str]]] = [
    (
        {"resolution": 32},
        "7cbeb139311684f6",
        ["bf0d198779d73201", "6b124390a3f63256"],
        ["53d6b3b4b484329e"],
    ),
    (
        {"resolution": 8, "samples_per_shard": 500},
        "248b8f6826095858",
        ["313882a4493fa292", "727e3757cfb9a82b", "8fdfe55ec0aa1e5b"],
        ["15e8c9fb2ae65dd9"],
    ),
    (
        {"resolution": 8, "limit": "80_percent", "test_from": "train", "limit_seed": 3},
        "bf1a987ffb78c860",
        ["9dc6790f36c80774", "51a736577fc037a8"],
        ["876aae3e5e0bc6cd"],
    ),
]
"""Keys and shards of the digits, written down before sources were listed."""


@pytest.mark.parametrize(("fields", "key", "train", "test"), DIGITS)
def test_digits_have_the_keys_and_bytes_that_they_had(
    tmp_path: Path, fields: dict[str, Any], key: str, train: list[str], test: list[str]
) -> None:
    record = run_stage(real_config(tmp_path, **fields))
    folder = Folder.at(record.outputs.folder)
    assert folder.name == key
    for split, expected in (("train", train), ("test", test)):
        manifest = read_manifest(folder / split)
        assert manifest is not None
        assert [shard.sha256[:16] for shard in manifest.shards] == expected


def test_store_in_a_bucket_has_the_same_shards(tmp_path: Path, s3: S3Server) -> None:
    images = write_images(tmp_path / "images", bad=BAD)
    fields = {"path": images, "unreadable": "skip", "samples_per_shard": 10}
    here = run_stage(real_config(tmp_path, **fields))
    config = real_config(tmp_path / "far", **fields)
    paths = config.paths.model_copy(update={"store": f"s3://{BUCKET}/store"})
    config = config.model_copy(update={"paths": paths})
    there = run_stage(config)
    assert there.outputs.folder.startswith("s3://")
    assert there.outputs.digests == here.outputs.digests
    assert there.fingerprint == here.fingerprint


@pytest.mark.parametrize("source", ["path", "train"])
def test_stage_says_what_is_wrong_with_a_source_in_one_line(tmp_path: Path, source: str) -> None:
    path = tmp_path / "mine.yaml"
    config = {
        "name": "mine",
        "paths": {"store": str(tmp_path / "store"), "runs": str(tmp_path / "runs")},
        "real": {source: str(tmp_path / "absent"), "resolution": 8},
    }
    path.write_text(yaml.safe_dump(config))
    assert_mistake(run("real", path), f"real.{source}", "is not there")


def test_set_of_zip_images_names_those_that_cannot_be_read(tmp_path: Path) -> None:
    from tests.support.real_images import write_zip

    path = write_zip(tmp_path / "a.zip", {"a/1.png": 1, "b/2.png": b"text"})
    config = real_config(tmp_path, train=path)
    with pytest.raises(UserError, match=r"1 of 2 images cannot be read: b/2\.png \(not an image"):
        stage.run(config)
    skipping = real_config(tmp_path, train=path, unreadable="skip")
    assert run_stage(skipping).outputs.num_samples["train"] == 1
