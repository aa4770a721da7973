"""Damage to a shard is found and named, with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shards.errors import UserError
from shards.manifest import read_manifest, shard_name
from shards.storage import Folder
from shards.verify import inspect_shards, verified, verify_digests
from tests.support.tiny_shards import open_reader, write_real_shards

NAMES = [shard_name(index) for index in range(3)]


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def alter(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "remedy"),
    [
        (truncate, "run `make it` again"),
        (Path.unlink, "run `make it` again"),
        (alter, "delete it and run `make it` again"),
    ],
)
def test_verify_digests_damaged_shard_is_named_with_the_remedy(
    tmp_path: Path, damage: Callable[[Path], None], remedy: str
) -> None:
    write_real_shards(tmp_path)
    reader = open_reader(tmp_path)
    damage(tmp_path / NAMES[1])
    with pytest.raises(UserError, match=rf"shard-000001\.tar.*; {remedy}"):
        list(verify_digests(reader))
    with pytest.raises(UserError, match=rf"shard-000001\.tar.*; {remedy}"):
        verified(reader)


@pytest.mark.parametrize("damage", [truncate, Path.unlink])
def test_reader_missing_or_truncated_shard_is_named_on_opening(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    write_real_shards(tmp_path)
    damage(tmp_path / NAMES[1])
    with pytest.raises(UserError, match=r"shard-000001\.tar.*; run `make it` again"):
        open_reader(tmp_path)


def test_verify_digests_intact_store_yields_every_shard(tmp_path: Path) -> None:
    write_real_shards(tmp_path)
    reader = open_reader(tmp_path)
    assert [shard.name for shard in verify_digests(reader)] == NAMES
    assert verified(reader) is reader


def test_inspect_shards_finds_nothing_in_an_intact_store(tmp_path: Path) -> None:
    manifest = write_real_shards(tmp_path)
    findings = list(inspect_shards(Folder.at(tmp_path), manifest))
    assert [(finding.shard, finding.problem) for finding in findings] == [
        (shard, None) for shard in manifest.shards
    ]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [(truncate, "bytes instead of"), (Path.unlink, "is missing"), (alter, "sha256")],
)
def test_inspect_shards_goes_on_past_a_damaged_shard(
    tmp_path: Path, damage: Callable[[Path], None], problem: str
) -> None:
    write_real_shards(tmp_path)
    damage(tmp_path / NAMES[1])
    manifest = read_manifest(Folder.at(tmp_path))
    assert manifest is not None
    findings = list(inspect_shards(Folder.at(tmp_path), manifest))
    assert [finding.shard.name for finding in findings] == NAMES
    assert [finding.problem is None for finding in findings] == [True, False, True]
    assert problem in str(findings[1].problem)
