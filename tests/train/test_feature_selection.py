"""`train.features`: which of the stored features the student learns from."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.generate.render import render_shard
from pipeline.train.data import TrainingShards
from shards.errors import UserError
from shards.pool import IMAGES, PoolReader
from shards.schema import feature_schema
from shards.storage import Folder
from tests.support.tiny_shards import (
    ARCHITECTURE,
    BLOCKS,
    FEATURES,
    REMEDY,
    RESOLUTION,
    SCHEMAS,
    TRAIN_CONFIG,
    list_rendered,
    open_reader,
    pool_recipe,
    random_generator,
)
from tests.support.trainings import open_stream, parts_of, run_training

ROWS = np.array([7, 0, 39, 7])
COLUMNS = {
    "synthesis.b4": slice(0, 12),
    "synthesis.b8": slice(12, 24),
    "synthesis.b16": slice(24, 32),
}
SELECTIONS = [
    ("synthesis.b8", "w"),
    ("w", "synthesis.b8"),
    ("w",),
    ("synthesis.b16", "synthesis.b4"),
    ("synthesis.b4", "synthesis.b8", "synthesis.b16"),
]


def stored_features(shards: TrainingShards, rows: np.ndarray = ROWS) -> np.ndarray:
    """The whole column, straight from the shards."""
    (features,) = shards.synthetic.feature_sets
    return features.gather("features", rows)


def gather(shards: TrainingShards, rows: np.ndarray = ROWS) -> np.ndarray:
    return shards.synthetic.gather_features(shards.features, rows)


def test_training_shards_all_features_are_the_whole_column(training_shards: TrainingShards) -> None:
    assert training_shards.features == FEATURES
    assert training_shards.block_channels == [channels for _, channels in BLOCKS]
    np.testing.assert_array_equal(gather(training_shards), stored_features(training_shards))


@pytest.mark.parametrize("names", SELECTIONS, ids="-".join)
def test_training_shards_chosen_features_are_the_stored_columns_in_that_order(
    names: tuple[str, ...], training_shards: TrainingShards
) -> None:
    chosen = replace(training_shards, features=names)
    stored = stored_features(training_shards)
    latents = training_shards.synthetic.images.gather("w", ROWS)
    parts = [latents if name == "w" else stored[:, COLUMNS[name]] for name in names]
    gathered = gather(chosen)
    np.testing.assert_array_equal(gathered, np.concatenate(parts, 1))
    assert gathered.dtype == np.float16
    assert chosen.block_channels == [part.shape[1] for part in parts]


def test_training_shards_feature_named_twice_is_refused(training_shards: TrainingShards) -> None:
    with pytest.raises(UserError, match=r"train\.features: duplicate name"):
        replace(training_shards, features=("w", "synthesis.b8", "w"))


@pytest.mark.parametrize("name", ["synthesis.b32", "b8", "synthesis.b8.conv0", "W"])
def test_training_shards_unknown_feature_lists_what_there_is(
    name: str, training_shards: TrainingShards
) -> None:
    with pytest.raises(UserError) as raised:
        replace(training_shards, features=("synthesis.b8", name))
    message = str(raised.value)
    assert "train.features" in message
    assert repr(name) in message
    for known in ("w", *COLUMNS):
        assert known in message


def test_training_shards_pool_of_chosen_layers_offers_them_and_w(
    tmp_path: Path, training_folder: Path
) -> None:
    """A pool with `w` among its features has it twice; both are the same numbers."""
    names, folder = ("synthesis.b8.conv0", "w"), Folder.at(tmp_path)
    schema = feature_schema([("synthesis.b8.conv0", 12), ("w", ARCHITECTURE.w_dim)])
    schemas = {IMAGES: SCHEMAS[IMAGES], "features-chosen": schema}
    list_rendered(
        folder, schemas, [render_shard(random_generator(), pool_recipe(), folder, schemas, 0)]
    )
    pool = PoolReader(folder, ["features-chosen"], remedy=REMEDY)
    real = open_reader(training_folder / "real")
    rows = np.arange(8)
    everything = TrainingShards(real, pool, RESOLUTION, names)
    stored = stored_features(everything, rows)
    assert everything.block_channels == [12, ARCHITECTURE.w_dim]
    np.testing.assert_array_equal(gather(everything, rows), stored)
    latents = TrainingShards(real, pool, RESOLUTION, ("w",))
    assert latents.block_channels == [ARCHITECTURE.w_dim]
    np.testing.assert_array_equal(gather(latents, rows), pool.images.gather("w", rows))
    layer = TrainingShards(real, pool, RESOLUTION, ("synthesis.b8.conv0",))
    np.testing.assert_array_equal(gather(layer, rows), stored[:, :12])


def test_batch_stream_carries_the_chosen_features(training_shards: TrainingShards) -> None:
    chosen = replace(training_shards, features=("synthesis.b8", "w"))
    whole = parts_of(open_stream(training_shards, TRAIN_CONFIG).batch(2))
    batch = parts_of(open_stream(chosen, TRAIN_CONFIG).batch(2))
    pooled, all_pooled = batch.pop("pooled"), whole.pop("pooled")
    assert pooled.shape == (TRAIN_CONFIG.num_synthetic, sum(chosen.block_channels))
    assert pooled.dtype == torch.float32
    assert torch.equal(pooled[:, :12], all_pooled[:, COLUMNS["synthesis.b8"]])
    assert batch.keys() == whole.keys() == {"synthetic 0", "real 0", "real 1"}
    for name, images in batch.items():
        assert torch.equal(images, whole[name]), "images and views stay the same"


def test_batch_stream_chosen_features_of_two_workers_are_those_of_one(
    training_shards: TrainingShards,
) -> None:
    chosen = replace(training_shards, features=("w", "synthesis.b4"))
    whole = parts_of(open_stream(chosen, TRAIN_CONFIG).batch(1))["pooled"]
    halves = [parts_of(open_stream(chosen, TRAIN_CONFIG, r, 2).batch(1)) for r in (0, 1)]
    assert torch.equal(torch.cat([half["pooled"] for half in halves]), whole)


def test_train_on_chosen_features_gives_a_student_of_its_own(
    training_shards: TrainingShards, tmp_path: Path
) -> None:
    config = TRAIN_CONFIG.model_copy(update={"epochs": 1})
    for name, features in (("all", FEATURES), ("some", ("synthesis.b8", "w"))):
        shards = replace(training_shards, features=features)
        run_training(config, shards, tmp_path / name, "0" * 64, lambda *_: None)
    students = [(tmp_path / name / "student.safetensors").read_bytes() for name in ("all", "some")]
    assert students[0] != students[1]
