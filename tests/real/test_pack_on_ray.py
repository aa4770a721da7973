"""Packing and listing by workers on Ray come to the same bytes as in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.ray import RayConfig
from pipeline.config.root import Config
from pipeline.real import stage
from pipeline.real.fill import list_on_workers
from pipeline.real.listing import LISTINGS, list_here, read_entries, take_listing
from pipeline.real.sources.recognise import find_source
from pipeline.records.products import RealImages
from pipeline.records.record import Record
from shards.errors import UserError
from shards.storage import Folder, file_system
from tests.support.ray_session import own_session
from tests.support.real_images import real_config, tile, write_folder, write_parquet, write_tar
from tests.support.s3 import BUCKET, S3Server, use_server
from tests.support.workspace import tars

pytestmark = [pytest.mark.ray, pytest.mark.slow]
NUM_IMAGES = 2100
"""More than are packed in this process whatever is set."""
PLACES = RayConfig(pack_workers=2, object_store_mb=100)


@pytest.fixture(scope="module", autouse=True)
def server(s3_server: S3Server) -> Iterator[S3Server]:
    """Ray, whose workers know the server of `s3://`."""
    s3_server.forget()
    with pytest.MonkeyPatch.context() as patch:
        use_server(s3_server, patch)
        with own_session(PLACES):
            yield s3_server


@pytest.fixture(scope="module")
def contents() -> list[bytes]:
    """Tiny images, a few of which cannot be read, nor can all of the second shard."""
    made = [tile(number, (2, 2)) for number in range(NUM_IMAGES)]
    for number in (5, 299, *range(300, 600), 1000, 2099):
        made[number] = b"no image"
    return made


def on_ray(config: Config) -> Config:
    return config.model_copy(update={"ray": PLACES})


def run_stage(config: Config) -> Record[RealImages]:
    stage.run(config)
    record = stage.find(config)
    assert record is not None
    return record


@pytest.mark.parametrize("kind", ["folder", "tars", "parquet"])
def test_packing_on_ray_has_the_bytes_of_packing_here(
    tmp_path: Path, contents: list[bytes], kind: str
) -> None:
    data = tmp_path / "data"
    labels = [number % 3 for number in range(NUM_IMAGES)]
    if kind == "folder":
        names = [f"{number % 3}/{number:04}.png" for number in range(NUM_IMAGES)]
        write_folder(data / "train", dict(zip(names, contents, strict=True)))
    for part in range(3):
        rows = range(700 * part, 700 * part + 700)
        if kind == "tars":
            members: list[tuple[str, bytes | int]] = []
            for n in rows:
                members += [(f"{n:04}.png", contents[n]), (f"{n:04}.cls", b"%d" % labels[n])]
            write_tar(data / f"train-{part}.tar", members)
        elif kind == "parquet":
            images, numbers = [contents[n] for n in rows], [labels[n] for n in rows]
            write_parquet(data / f"train-{part}.parquet", images, numbers, rows_per_group=110)
    fields = {"path": data, "samples_per_shard": 300}
    with pytest.raises(UserError, match="304 of 2,100 images cannot be read"):
        stage.run(on_ray(real_config(tmp_path / "ray", **fields)))
    here = run_stage(real_config(tmp_path / "here", unreadable="skip", **fields))
    there = run_stage(on_ray(real_config(tmp_path / "ray", unreadable="skip", **fields)))
    assert there.outputs.num_samples == {"train": NUM_IMAGES - 304, "test": 0}
    assert there.outputs.digests == here.outputs.digests
    assert there.fingerprint == here.fingerprint
    assert tars(tmp_path / "ray" / "store") == tars(tmp_path / "here" / "store")


def test_listing_of_remote_files_by_workers_is_the_one_made_here(
    tmp_path: Path, server: S3Server
) -> None:
    files = file_system("s3")
    numbers = np.random.default_rng(0).permutation(30).tolist()
    for part in range(5):
        members: list[tuple[str, bytes | int]] = []
        for number in numbers[part::5]:
            members += [(f"{number}.png", number), (f"{number}.json", b'{"y": %d}' % number)]
        path = write_tar(tmp_path / f"{part}.tar", members)
        files.pipe_file(f"{BUCKET}/tars/{part}.tar", path.read_bytes())
    config = real_config(tmp_path, train=f"s3://{BUCKET}/tars/*.tar", label_field="y")
    source = find_source(config.real, "train")
    assert source is not None
    here = take_listing(source, Folder.at(tmp_path / "here"), list_here(source))
    store = Folder.at(tmp_path / "there")
    there = take_listing(source, store, list_on_workers(source, PLACES))
    assert there == here
    keys = [entry.source for entry in read_entries(store / LISTINGS, there)]
    assert keys == [b"%d" % number for part in range(5) for number in numbers[part::5]]


def test_remote_file_that_cannot_be_listed_is_one_line(tmp_path: Path, server: S3Server) -> None:
    files = file_system("s3")
    for part in range(2):
        files.pipe_file(f"{BUCKET}/bad/{part}.tar", b"no tar at all")
    config = on_ray(real_config(tmp_path, train=f"s3://{BUCKET}/bad/*.tar"))
    with pytest.raises(UserError, match=r"bad/\d\.tar: not a readable tar") as raised:
        stage.run(config)
    assert "\n" not in str(raised.value)
