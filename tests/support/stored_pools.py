"""A store made through the command line, real images and a pool in it, and ways to damage it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from shards.atomic import write_atomic
from shards.manifest import MANIFEST_FOLDER, Manifest, read_manifest, write_manifest
from shards.schema import feature_set_name
from shards.storage import Folder
from tests.support.command_line import Result, run, succeed
from tests.support.workspace import ROOT, make_teacher

PER_SHARD = 8
NUM_SHARDS = 3
SHARD = "shard-000001.tar"
BLOCKS = ("synthesis.b4", "synthesis.b8", "synthesis.b16")
"""Features of a teacher of 16 px."""
TINY_TRAINING = (
    "train.global_batch=8",
    "train.student.width=4",
    "train.student.embedding_dim=8",
    "train.student.projector_layers=2",
    "eval.probes=[knn]",  # some 30 logistic regressions take longer than all the rest
    "eval.knn_k=3",
    "eval.few_labels=[2_per_class]",
    "eval.embedding_samples=0",  # compiles for half a minute
)


@dataclass(frozen=True)
class Site:
    """A store and runs in `folder`, what they were made of in `source`."""

    folder: Path
    source: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def config(self) -> Path:
        return self.source / "tiny.yaml"

    @property
    def teacher(self) -> Path:
        return self.source / "teacher"

    @property
    def pool(self) -> Path:
        """That of the run."""
        record = json.loads((self.runs / "tiny" / "generate" / "record.json").read_text())
        return Path(record["outputs"]["folder"])

    @property
    def real(self) -> Path:
        (folder,) = (self.store / "real").iterdir()
        return folder

    @property
    def features(self) -> Path:
        (folder,) = self.pool.glob("features-*")
        return folder

    def copy_to(self, folder: Path) -> Site:
        """The same store and runs elsewhere, the records of the runs pointing there."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        for record in folder.glob("runs/*/*/record.json"):
            record.write_text(record.read_text().replace(str(self.folder), str(folder)))
        return Site(folder, self.source)

    def stage(self, name: str, *overrides: object) -> Result:
        return succeed(name, self.config, *self.places, *overrides)

    def try_stage(self, name: str, *overrides: object) -> Result:
        return run(name, self.config, *self.places, *overrides)

    @property
    def places(self) -> list[str]:
        """Overrides for a command's runs and store to be here."""
        return [f"paths.store={self.store}", f"paths.runs={self.runs}"]

    def shards(self, command: str, *arguments: object, answer: str = "") -> Result:
        """`shards COMMAND` on this store."""
        places: list[object] = ["--store", self.store]
        if command in ("list", "gc"):
            places += ["--runs", self.runs]
        return run("shards", command, *arguments, *places, answer=answer)

    def verify(self, *options: object, entry: Path | None = None) -> Result:
        return self.shards("verify", (entry or self.pool).name, *options)


def features(*names: str) -> str:
    """The override that asks for these."""
    return f"generate.features=[{', '.join(names)}]"


def set_of(*names: str, dtype: str = "float16") -> str:
    """Where a pool keeps these."""
    return feature_set_name(names, dtype)


def make_site(folder: Path) -> Site:
    """Three shards of 8 samples, and 12 + 6 real images in shards of 5; the config lies beside
    `methods/`, as those that ship do.
    """
    source, site = folder / "source", Site(folder / "site", folder / "source")
    make_teacher(source / "teacher")
    (source / "methods").symlink_to(ROOT / "configs" / "methods")
    _save_images(source / "images" / "train", 12)
    _save_images(source / "images" / "test", 6)
    config = {
        "name": "tiny",
        "ray": {"render_workers": 0, "study_workers": 0},
        "hardware": {"device": "cpu"},
        "real": {
            "source": "folder",
            "path": str(source / "images"),
            "resolution": 16,
            "samples_per_shard": 5,
        },
        "teacher": {"checkpoint": str(source / "teacher")},
        "generate": {
            "num_samples": NUM_SHARDS * PER_SHARD,
            "samples_per_shard": PER_SHARD,
            "render_batch": 5,
        },
    }
    site.config.write_text(yaml.safe_dump(config))
    return site


def _save_images(folder: Path, count: int) -> None:
    generator = np.random.default_rng(count)
    for index in range(count):
        pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        path = folder / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def read_set(folder: Path) -> Manifest:
    manifest = read_manifest(Folder.at(folder))
    assert manifest is not None
    return manifest


def relist(folder: Path, name: str, **changes: Any) -> None:
    """Let the manifest say something else of one shard."""
    manifest = read_set(folder)
    rows = tuple(replace(s, **changes) if s.name == name else s for s in manifest.shards)
    write_manifest(Folder.at(folder), Manifest(manifest.schema, rows))


def unlist(folder: Path, name: str) -> None:
    manifest = read_set(folder)
    rows = tuple(shard for shard in manifest.shards if shard.name != name)
    write_manifest(Folder.at(folder), Manifest(manifest.schema, rows))


def relist_as_it_is(folder: Path, name: str) -> None:
    """Let the manifest have the size and digest that a shard now has."""
    content = (folder / name).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    relist(folder, name, sha256=digest, num_bytes=len(content))


def edit_column(
    folder: Path, name: str, column: str, row: int, edit: Callable[[np.ndarray], None]
) -> None:
    """Change one value of one sample of a shard of fixed size, in place."""
    schema = read_set(folder).schema
    spec = schema.column(column)
    content = np.fromfile(folder / name, dtype=np.uint8)
    start = row * schema.stride_bytes + schema.offset_bytes(column)
    count = int(np.prod(spec.shape)) * np.dtype(spec.dtype).itemsize
    edit(content[start : start + count].view(spec.dtype).reshape(spec.shape))
    content.tofile(folder / name)


def flip(path: Path, at: int) -> None:
    """Change a byte; a training that has mapped the file still sees the old one."""
    content = bytearray(path.read_bytes())
    content[at] ^= 255
    write_atomic(path, bytes(content))


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Time and content of every file."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file()
    }


def contents(folder: Path, pattern: str = "**/*.tar") -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.glob(pattern)}


def listed_rows(folder: Path) -> list[str]:
    """Names of the shards in all parts of a manifest, once for each row."""
    import pyarrow.parquet as pq

    parts = sorted((folder / MANIFEST_FOLDER).glob("*.parquet"))
    return [name for part in parts for name in pq.read_table(part)["name"].to_pylist()]


def folder_of(site: Site, name: str) -> Path:
    return site.features if name == "features" else site.pool / name


def assert_damage(result: tuple[int, str, str], *lines_with: str) -> None:
    """Exit code 1, one damaged shard, a line that has all of `lines_with`, the remedy."""
    code, out, errors = result
    assert code == 1, errors
    first, *_, last = out.splitlines()
    assert all(part in first for part in lines_with), first
    assert last.startswith("1 of 6 ")
    assert "--repair" in last


def assert_only_changed(site: Site, before: dict[Path, tuple[int, bytes]], *repaired: Path) -> None:
    """`repaired` are what they were, nothing else was touched; the manifest has new parts."""
    after = snapshot(site.folder)
    paths = {path.relative_to(site.folder) for path in repaired}
    for path, (written_at, content) in before.items():
        assert after[path][1] == content, path
        assert path in paths or after[path][0] == written_at, path
    new = after.keys() - before.keys()
    assert {path.parent for path in new} == {path.parent / "manifest" for path in paths}
