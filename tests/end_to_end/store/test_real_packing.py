"""Real images in the store: packed once per content, by whichever run comes first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.real import stage
from pipeline.records.products import RealImages
from pipeline.records.record import read_record
from shards.claims import is_in_use
from shards.storage import Folder
from tests.support.stored_pools import SHARD, Site, contents, snapshot


def test_real_of_content_that_another_run_packed_packs_nothing(site: Site) -> None:
    before = snapshot(site.real)
    site.stage("real", "name=other")
    after = snapshot(site.real)
    del before[Path("recipe.json")], after[Path("recipe.json")]
    assert after == before
    mine, other = (read_record(site.runs / name / "real", RealImages) for name in ("tiny", "other"))
    assert mine is not None
    assert other is not None
    assert other.outputs == mine.outputs


def test_real_packs_only_the_split_that_lacks_a_shard(site: Site) -> None:
    expected = contents(site.real)
    before = snapshot(site.real / "test")
    (site.real / "train" / SHARD).unlink()
    site.stage("real")
    assert snapshot(site.real / "test") == before
    assert contents(site.real) == expected


def test_real_is_at_work_in_its_folder_until_its_record_refers_to_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for name in ("fill", "write_record"):
        write = getattr(stage, name)

        def look_and_write(*arguments: object, write: object = write) -> object:
            (folder,) = (site.store / "real").iterdir()
            seen.append(is_in_use(Folder.at(folder)))
            return write(*arguments)  # type: ignore[operator]

        monkeypatch.setattr(stage, name, look_and_write)
    (site.real / "train" / SHARD).unlink()
    site.stage("real")
    assert seen == [True, True]
    assert not is_in_use(Folder.at(site.real))


def test_real_removes_what_killed_runs_left_long_ago(site: Site) -> None:
    left = [site.real / ".recipe.json.0.tmp", site.real / "train" / f".{SHARD}.0.tmp"]
    for path in left:
        path.write_bytes(b"half")
        os.utime(path, (0, 0))
    site.stage("real", "name=other")
    assert [path for path in left if path.exists()] == []
