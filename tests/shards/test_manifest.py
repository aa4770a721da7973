"""The list of shards: what it holds, in parts, and how damage to it is put."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from shards.errors import UserError
from shards.manifest import MANIFEST_FOLDER, read_manifest, shard_name, write_manifest
from shards.schema import SCHEMA_VERSION
from shards.storage import Folder
from tests.support.tiny_shards import RESOLUTION, real_arrays, write_real_shards


def find_part(folder: Path) -> Path:
    (part,) = (folder / MANIFEST_FOLDER).iterdir()
    return part


def test_manifest_holds_offsets_that_other_tools_can_use(tmp_path: Path) -> None:
    write_real_shards(tmp_path, num_samples=10, samples_per_shard=10)
    metadata = pq.read_schema(find_part(tmp_path)).metadata
    columns = {column["name"]: column for column in json.loads(metadata[b"columns"])}
    content = (tmp_path / shard_name(0)).read_bytes()
    start = 3 * int(metadata[b"stride_bytes"]) + columns["image"]["offset_bytes"]
    size = 3 * RESOLUTION**2
    image = np.frombuffer(content[start : start + size], np.uint8)
    np.testing.assert_array_equal(image, real_arrays(10)["image"][3].reshape(-1))


def test_manifest_round_trip_sorts_shards_by_index(tmp_path: Path) -> None:
    folder, manifest = Folder.at(tmp_path), write_real_shards(tmp_path, num_samples=40)
    write_manifest(folder, replace(manifest, shards=manifest.shards[::-1]))
    assert read_manifest(folder) == manifest
    assert manifest.num_samples == 40


def test_read_manifest_of_an_empty_folder_is_none(tmp_path: Path) -> None:
    assert read_manifest(Folder.at(tmp_path)) is None


@pytest.mark.parametrize("num_bytes", [0, 10, 500])
def test_read_manifest_truncated_file_is_named(tmp_path: Path, num_bytes: int) -> None:
    write_real_shards(tmp_path)
    path = find_part(tmp_path)
    path.write_bytes(path.read_bytes()[:num_bytes])
    with pytest.raises(UserError, match=rf"{path}: damaged") as raised:
        read_manifest(Folder.at(tmp_path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("version", [b"1", str(SCHEMA_VERSION + 1).encode(), None])
def test_read_manifest_of_another_schema_version_is_refused(
    tmp_path: Path, version: bytes | None
) -> None:
    write_real_shards(tmp_path)
    path = find_part(tmp_path)
    table = pq.read_table(path)
    metadata = {**table.schema.metadata, b"schema_version": version}
    if version is None:
        del metadata[b"schema_version"]
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(UserError, match=rf"{path}: shards of schema"):
        read_manifest(Folder.at(tmp_path))
