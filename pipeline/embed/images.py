"""IMAGES -> packed shards, with the name and the class of every image in them.

They are packed by stage `real` under a config of their own, stored as the run's images are, and
found again by where they lie, in `runs/NAME/embed/IMAGES-DIGEST/`. Neighbours: `naming.py` says
what IMAGES are, `embedded.py` embeds what is here.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa

from pipeline.config.root import Config
from pipeline.embed.naming import NamedSplit, find_named, resolve, typed_fields
from pipeline.real.pack import read_unreadable
from pipeline.real.request import find_sources, folder_of
from pipeline.real.rows import count_rows, read_group
from pipeline.real.sources.location import in_words
from pipeline.real.sources.source import File
from pipeline.records.products import RealImages, real_shards
from pipeline.records.record import Record
from pipeline.records.spec import Spec
from pipeline.stages import load_stage, run_stage
from shards.errors import UserError
from shards.reader import ShardReader
from shards.storage import Folder

EMBED_FOLDER = "embed"
"""In a run's folder."""
_ALL = "images"
_FIELDS = re.compile(r"^real\.(train|path)\b")


@dataclass(frozen=True)
class Images:
    """Packed images: all of those that were named, or one split."""

    name: str
    """Of the split, "" for all."""
    config: Config
    """Under which they are packed."""
    record: Record[RealImages]
    split: str
    """Among what is packed."""

    def __len__(self) -> int:
        return self.record.outputs.num_samples[self.split]

    def open(self) -> ShardReader:
        """A reader of the shards."""
        return real_shards(self.config, self.split, self.record.outputs).open()

    def names(self) -> Iterator[tuple[str, str | None]]:
        """Of each image, in the shards' order, its source as the listing has it, behind the name of
        the split, and its class, None for none.
        """
        classes = self.record.outputs.class_names
        folder, lost, files = self._rows()
        holders = _shortened([file.url for file in files]) if len(files) > 1 else []
        for row, entry in enumerate(_read_rows(folder, self.split, lost)):
            name = entry["source"].decode("utf-8", "backslashreplace") or str(row)
            holder = holders[entry["file"]] if holders and entry["file"] >= 0 else ""
            if holder and not name.startswith(f"{PurePath(holder).name}:"):
                name = f"{holder}:{name}"
            label = entry["label"]
            yield (
                f"{self.name}/{name}" if self.name else name,
                classes[label] if label >= 0 else None,
            )

    def _rows(self) -> tuple[Folder, Mapping[int, Collection[int]], Sequence[File]]:
        """Where rows of the images are, which of them have no image that can be read, and the files
        whose numbers they have.
        """
        final = Folder.at(self.record.outputs.folder)
        files = find_sources(self.config.real)[self.split].files
        inputs = {name: of for name, of in self.record.inputs.items() if name != "skipped"}
        if inputs == self.record.inputs:
            return final, {}, files
        spec = Spec(self.record.stage, self.record.config, inputs)
        whole = folder_of(spec, self.config.store)
        if count_rows(whole, self.split) is None:  # collected; what is left has no files' numbers
            return final, {}, ()
        size = self.config.real.samples_per_shard
        lost = {
            group: {one.row - group * size for one in notes}
            for group, notes in read_unreadable(whole, self.split).items()
        }
        return whole, lost, files


def _read_rows(
    folder: Folder, split: str, lost: Mapping[int, Collection[int]]
) -> Iterator[dict[str, Any]]:
    left, group = count_rows(folder, split) or 0, 0
    while left > 0:
        table: pa.Table = read_group(folder, split, group).select(["source", "file", "label"])
        for row, entry in enumerate(table.to_pylist()):
            if row not in lost.get(group, ()):
                yield entry
        left -= len(table)
        group += 1


def _shortened(urls: Sequence[str]) -> list[str]:
    """Names of files below the deepest folder that all are in."""
    paths = [url.split("/") for url in urls]
    depth = 0
    while all(len(path) > depth + 1 and path[depth] == paths[0][depth] for path in paths):
        depth += 1
    return ["/".join(path[depth:]) for path in paths]


def home_of(config: Config, images: str) -> Path:
    """Where the run keeps what is made of these images."""
    location = resolve(images)
    readable = re.sub(r"[^A-Za-z0-9._]+", "-", PurePath(location).name).strip("-._")[:40]
    digest = hashlib.sha256(os.fsencode(location)).hexdigest()[:8]
    return config.run_dir / EMBED_FOLDER / f"{readable or _ALL}-{digest}"


def pack_images(config: Config, images: str, changes: Sequence[str] = ()) -> list[Images]:
    """Bring the shards of IMAGES up to date; what is there is not packed again. Splits without
    images are left out.

    Args:
        config: of the run.
        images: a path, URL, pattern or set's name.
        changes: what was typed to change the config.

    Raises:
        UserError: if there are none, or, unless they are to be skipped, some cannot be read.
    """
    home, packed = home_of(config, images), []
    with _in_users_words(), in_words("IMAGES"):
        fields = typed_fields(config.real, changes)
        for named in find_named(resolve(images), config.real, fields):
            own = _config_of(config, named, home)
            record = load_stage("real").find(own)
            if record is None:
                record = run_stage("real", own)
            packed.append(Images(named.name, own, record, named.split))
    return [one for one in packed if len(one)]


def _config_of(config: Config, named: NamedSplit, home: Path) -> Config:
    """The config by which stage `real` packs images, and finds them again."""
    is_shared = named.real.train is None  # by all splits
    return config.packing(named.real, _ALL if is_shared or not named.name else named.name, home)


@contextmanager
def _in_users_words() -> Iterator[None]:
    """IMAGES are what a message calls `real.train`."""
    try:
        yield
    except UserError as error:
        text = _FIELDS.sub("IMAGES", str(error)).replace(" (train)", "")
        if text == str(error):
            raise
        raise type(error)(text) from None
