"""`python -m pipeline real CONFIG`: a source of real images -> real shards of both splits, packed
once per content.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from pipeline.config import Config
from pipeline.progress import progress_bar
from pipeline.real.sources import SPLITS, Source, folder_digest, open_source
from pipeline.record import Recipe, Record, read_record, write_record
from shards.manifest import Manifest, ShardInfo, read_manifest, write_manifest
from shards.reader import ShardReader
from shards.schema import encode_meta, real_schema

_REMEDY = "run `make real` again"


def find(config: Config) -> Record | None:
    """Record of these shards if they are packed and whole."""
    record = read_record(config.run_dir / "real")
    if record is None or record.fingerprint != _recipe(config).fingerprint:
        return None
    folder = Path(record.outputs["folder"])
    for split in SPLITS:
        manifest = read_manifest(folder / split)
        if manifest is None or any(not s.has_right_size(folder / split) for s in manifest.shards):
            return None
        if ShardReader(folder / split, remedy=_REMEDY).digest != record.outputs["digests"][split]:
            return None
    return record


def run(config: Config) -> None:
    """Pack what is missing of both splits into shards."""
    recipe = _recipe(config)
    folder = config.paths.store / "real" / recipe.fingerprint[:16]
    sources = {split: open_source(config.real, split) for split in SPLITS}
    with progress_bar("images") as bar:
        for split, source in sources.items():
            task = bar.add_task(f"real {split}", total=source.num_images, note="")
            shards = []
            for shard in _pack(source, config, folder / split):
                shards.append(shard)
                bar.advance(task, shard.num_samples)
            write_manifest(
                folder / split, Manifest(real_schema(config.real.resolution), tuple(shards))
            )
    outputs = {
        "folder": str(folder),
        "num_samples": {split: source.num_images for split, source in sources.items()},
        "class_names": sources["train"].class_names,
        "digests": {split: ShardReader(folder / split, remedy=_REMEDY).digest for split in SPLITS},
    }
    write_record(config.run_dir / "real", recipe, outputs)


def describe(config: Config, record: Record) -> str:
    """One line for the terminal."""
    counts = " + ".join(
        f"{count:,} {split}" for split, count in record.outputs["num_samples"].items()
    )
    return f"{record.outputs['folder']}, {counts} images of {config.real.resolution} px"


def _recipe(config: Config) -> Recipe:
    inputs = {}
    if config.real.path is not None:
        inputs = {split: folder_digest(config.real.path, split) for split in SPLITS}
    return Recipe.of("real", config.real, inputs)


def _pack(source: Source, config: Config, folder: Path) -> Iterator[ShardInfo]:
    from shards.writer import shard_name, write_shard

    schema = real_schema(config.real.resolution)
    start = 0
    chunks = iter(lambda: list(islice(source.images, config.real.samples_per_shard)), [])
    for shard_index, samples in enumerate(chunks):
        images, labels = zip(*samples, strict=True)
        meta = encode_meta(
            {"index": start + row, "label": label} for row, label in enumerate(labels)
        )
        batch = {"image": np.stack(images), "label": np.array(labels, dtype=np.int64), "meta": meta}
        yield write_shard(folder / shard_name(shard_index), schema, start, [batch])
        start += len(samples)
