"""`python -m pipeline real CONFIG`: real images -> shards of both splits, once per content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

import numpy as np

from pipeline.config.real import RealConfig
from pipeline.config.root import Config
from pipeline.real.sources.named import SPLITS, open_source, source_digest, split_read
from pipeline.real.sources.source import Source
from pipeline.records.products import RECIPE_FILE, RealImages, RealShards, real_shards
from pipeline.records.record import Record, read_record, write_record
from pipeline.records.spec import Spec
from pipeline.terminal.progress import progress_bar
from shards.claims import Claims, remove_leftovers
from shards.errors import UserError
from shards.manifest import Manifest, ShardInfo, write_manifest
from shards.schema import SCHEMA_VERSION, Schema, encode_meta, real_schema
from shards.storage import Folder

REAL_SHARDS = "real"


def find(config: Config) -> Record[RealImages] | None:
    """Record of these shards if they are packed and whole."""
    record = read_record(config.run_dir / "real", RealImages)
    spec = spec_of(config)
    if (
        record is None
        or record.fingerprint != spec.fingerprint
        or Folder.at(record.outputs.folder) != _folder(config, spec)
    ):
        return None
    for split in SPLITS:
        try:
            reader = real_shards(config, split, record.outputs).open()
        except UserError:
            return None
        if reader.digest != record.outputs.digests[split]:
            return None
    return record


def run(config: Config) -> None:
    """Pack the splits that are not there yet into shards."""
    spec = spec_of(config)
    folder = _folder(config, spec)
    folder.write(RECIPE_FILE, (json.dumps(asdict(spec), indent=2) + "\n").encode())
    sources = {split: open_source(config.real, split) for split in SPLITS}
    with Claims(folder), progress_bar("images") as bar:
        digests = {}
        for split, source in sources.items():
            task = bar.add_task(f"real {split}", total=source.num_images, note="")
            packed = RealShards(folder / split, config.cache)
            if not _is_whole(packed):
                shards = []
                for shard in _pack(source, config.real, packed.folder):
                    shards.append(shard)
                    bar.advance(task, shard.num_samples)
                write_manifest(packed.folder, Manifest(_schema(config.real), tuple(shards)))
            bar.update(task, completed=source.num_images)
            digests[split] = packed.open().digest
        product = RealImages(
            folder=f"{config.paths.store}/{REAL_SHARDS}/{folder.name}",
            num_samples={split: source.num_images for split, source in sources.items()},
            class_names=tuple(sources["train"].class_names),
            digests=digests,
            num_available=sources["train"].num_available,
        )
        write_record(config.run_dir / "real", spec, product)
    remove_leftovers(folder, SPLITS)


def describe(config: Config, record: Record[RealImages]) -> str:
    """One line for the terminal."""
    images = record.outputs
    counts = " + ".join(f"{count:,} {split}" for split, count in images.num_samples.items())
    drawn = "" if images.num_available is None else f", drawn from {images.num_available:,} train"
    return f"{images.folder}, {counts} images of {config.real.resolution} px{drawn}"


def spec_of(config: Config) -> Spec:
    """What determines the bytes of the real shards."""
    inputs = {"schema": str(SCHEMA_VERSION)}
    if config.real.path is not None:
        inputs |= {
            split: source_digest(config.real, split_read(config.real, split)) for split in SPLITS
        }
    return Spec.of("real", config.real, inputs)


def _folder(config: Config, spec: Spec) -> Folder:
    return config.store / REAL_SHARDS / spec.fingerprint[:16]


def _schema(config: RealConfig) -> Schema:
    return real_schema(config.resolution, config.image_codec, config.image_quality)


def _is_whole(packed: RealShards) -> bool:
    """Whether all shards of a split are there: the manifest is written after the last of them."""
    try:
        packed.open()
    except UserError:
        return False
    return True


def _pack(source: Source, config: RealConfig, folder: Folder) -> Iterator[ShardInfo]:
    from shards.manifest import shard_name
    from shards.writer import write_shard

    schema = _schema(config)
    start = 0
    pairs = source.images
    chunks = iter(lambda: list(islice(pairs, config.samples_per_shard)), [])
    for shard_index, samples in enumerate(chunks):
        images, labels = zip(*samples, strict=True)
        meta = encode_meta(
            {"index": start + row, "label": label} for row, label in enumerate(labels)
        )
        batch = {"image": np.stack(images), "label": np.array(labels, dtype=np.int64), "meta": meta}
        yield write_shard(folder, shard_name(shard_index), schema, start, [batch])
        start += len(samples)
