"""`python -m pipeline real CONFIG`: a source of real images -> real shards of both splits, packed
once per content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

import numpy as np

from pipeline.config import Config
from pipeline.progress import progress_bar
from pipeline.real.sources import SPLITS, Source, folder_digest, open_source
from pipeline.record import Recipe, Record, read_record, write_record
from pipeline.stores import RECIPE_FILE, RealShards, real_shards
from shards.errors import UserError
from shards.manifest import Manifest, ShardInfo, write_manifest
from shards.schema import SCHEMA_VERSION, Schema, encode_meta, real_schema
from shards.storage import Folder

REAL_SHARDS = "real"


def find(config: Config) -> Record | None:
    """Record of these shards if they are packed and whole."""
    record = read_record(config.run_dir / "real")
    recipe = recipe_of(config)
    if (
        record is None
        or record.fingerprint != recipe.fingerprint
        or Folder.at(record.outputs["folder"]) != _folder(config, recipe)
    ):
        return None
    for split in SPLITS:
        try:
            reader = real_shards(config, split, record).open()
        except UserError:
            return None
        if reader.digest != record.outputs["digests"][split]:
            return None
    return record


def run(config: Config) -> None:
    """Pack what is missing of both splits into shards."""
    recipe = recipe_of(config)
    folder = _folder(config, recipe)
    folder.write(RECIPE_FILE, (json.dumps(asdict(recipe), indent=2) + "\n").encode())
    schema = _schema(config)
    sources = {split: open_source(config.real, split) for split in SPLITS}
    with progress_bar("images") as bar:
        for split, source in sources.items():
            task = bar.add_task(f"real {split}", total=source.num_images, note="")
            shards = []
            for shard in _pack(source, schema, config.real.samples_per_shard, folder / split):
                shards.append(shard)
                bar.advance(task, shard.num_samples)
            write_manifest(folder / split, Manifest(schema, tuple(shards)))
    outputs = {
        "folder": f"{config.paths.store}/{REAL_SHARDS}/{folder.name}",
        "num_samples": {split: source.num_images for split, source in sources.items()},
        "class_names": sources["train"].class_names,
        "digests": {
            split: RealShards(folder / split, config.cache).open().digest for split in SPLITS
        },
    }
    write_record(config.run_dir / "real", recipe, outputs)


def describe(config: Config, record: Record) -> str:
    """One line for the terminal."""
    counts = " + ".join(
        f"{count:,} {split}" for split, count in record.outputs["num_samples"].items()
    )
    return f"{record.outputs['folder']}, {counts} images of {config.real.resolution} px"


def recipe_of(config: Config) -> Recipe:
    """What determines the bytes of the real shards."""
    inputs = {"schema": str(SCHEMA_VERSION)}
    if config.real.path is not None:
        inputs |= {split: folder_digest(config.real.path, split) for split in SPLITS}
    return Recipe.of("real", config.real, inputs)


def _folder(config: Config, recipe: Recipe) -> Folder:
    return config.store / REAL_SHARDS / recipe.fingerprint[:16]


def _schema(config: Config) -> Schema:
    real = config.real
    return real_schema(real.resolution, real.image_codec, real.image_quality)


def _pack(
    source: Source, schema: Schema, samples_per_shard: int, folder: Folder
) -> Iterator[ShardInfo]:
    from shards.manifest import shard_name
    from shards.writer import write_shard

    start = 0
    chunks = iter(lambda: list(islice(source.images, samples_per_shard)), [])
    for shard_index, samples in enumerate(chunks):
        images, labels = zip(*samples, strict=True)
        meta = encode_meta(
            {"index": start + row, "label": label} for row, label in enumerate(labels)
        )
        batch = {"image": np.stack(images), "label": np.array(labels, dtype=np.int64), "meta": meta}
        yield write_shard(folder, shard_name(shard_index), schema, start, [batch])
        start += len(samples)
