"""Stage `real`: shards of both splits once per content."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.config.root import Config
from pipeline.real import fill, pack, stage
from pipeline.records.products import RealImages, real_shards
from pipeline.records.record import Record, write_record
from pipeline.records.spec import Spec
from pipeline.stages import check_images
from shards.errors import UserError
from shards.manifest import read_manifest
from shards.storage import Folder
from tests.support.command_line import assert_mistake, run
from tests.support.real_images import real_config, write
from tests.support.real_runs import BAD, Counts, run_stage, samples, write_images
from tests.support.s3 import BUCKET, S3Server
from tests.support.workspace import tars


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


@pytest.mark.parametrize("name", ["images", "images/*/*/*.png", "images/train"])
def test_later_stages_want_the_images_as_they_were_packed_unless_they_are_gone(
    tmp_path: Path, name: str
) -> None:
    images = write_images(tmp_path / "images")
    field = "path" if name == "images" else "train"
    config = real_config(tmp_path, **{field: tmp_path / name})
    check_images("train", config)
    run_stage(config)
    check_images("train", config)
    changed = write(images / "train" / "a" / "003.png", 200)
    os.utime(changed, ns=(1, 1))
    with pytest.raises(UserError, match="no longer the images"):
        check_images("train", config)
    images.rename(tmp_path / "elsewhere")
    check_images("train", config)


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
