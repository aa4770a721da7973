"""Runs whose stored real images, teacher and views have a size each: 24, 16 and 12 px."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.reader import ShardReader
from tests.support.command_line import assert_mistake
from tests.support.stored_pools import TINY_TRAINING, Site, make_site
from tests.support.trainings import interrupted_when_saved

pytestmark = pytest.mark.slow

SIZES = ("real.resolution=24", "train.view_size=12", *TINY_TRAINING)
SGD = ("eval.probes=[knn, linear_sgd]", "eval.sgd_epochs=1")
WAYS = {
    "squeeze-and-span": ("train.augment.rotation_deg=20", "train.augment.blur_p=0.5", *SGD),
    "not-augmented": ("train.augment.enabled=false",),
    "online": ("train.source=online",),
    "discriminator": ("train.method.name=discriminator",),
    "encoding": (
        "train.method.name=encoding",
        "train.method.perceptual=none",
        "train.features=[w]",
        "train.augment.enabled=false",
    ),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Real images and a pool."""
    site = make_site(tmp_path_factory.mktemp("sizes"))
    site.stage("real", *SIZES)
    site.stage("generate", *SIZES)
    return site


def read_record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return record


def test_stored_images_keep_the_sizes_of_their_sources(prepared: Site) -> None:
    for folder, side in ((prepared.real / "train", 24), (prepared.pool / "images", 16)):
        reader = ShardReader(folder, remedy="")
        assert reader.gather("image", np.arange(2)).shape == (2, 3, side, side)
    assert read_record(prepared.runs / "tiny" / "generate")["outputs"]["resolution"] == 16


@pytest.mark.parametrize("name", WAYS)
def test_run_of_three_sizes_goes_through_every_stage(prepared: Site, name: str) -> None:
    overrides = (*SIZES, f"name={name}", "train.epochs=1", *WAYS[name])
    prepared.stage("run", *overrides)
    folder = prepared.runs / name
    assert read_record(folder / "train")["config"]["view_size"] == 12
    assert read_record(folder / "eval")["inputs"]["view size"] == "12"
    rows = json.loads((folder / "results.json").read_text())
    assert {row["representation"] for row in rows} >= {"student", "raw_pixels"}
    assert all("images at 12 px, resized" in row["protocol"] for row in rows)
    page = (folder / "report.html").read_text()
    assert "Real train images, 24 px" in page
    assert "views of 12 px" in page
    if name != "discriminator":
        prepared.stage("export", *overrides)
        card = (folder / "export" / "README.md").read_text()
        assert "an image of 12 px" in card
        exported = json.loads((folder / "export" / "config.json").read_text())
        assert exported["pretrained_cfg"]["input_size"] == [3, 12, 12]


def test_training_on_three_sizes_that_is_interrupted_ends_as_one_that_is_not(
    prepared: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = (*SIZES, "train.epochs=3", "train.checkpoint_interval_s=0")
    whole, parted = (prepared.copy_to(tmp_path / name) for name in ("whole", "parted"))
    whole.stage("train", *training)
    with interrupted_when_saved(monkeypatch):
        assert parted.try_stage("train", *training)[0] == 130
    parted.stage("train", *training)
    for name in ("student.safetensors", "metrics.jsonl"):
        file = Path("runs", "tiny", "train", name)
        assert (parted.folder / file).read_bytes() == (whole.folder / file).read_bytes()


def test_view_size_of_a_trained_run_is_not_changed_behind_its_back(
    prepared: Site, tmp_path: Path
) -> None:
    site = prepared.copy_to(tmp_path / "site")
    site.stage("train", *SIZES, "train.epochs=1")
    result = site.try_stage("train", *SIZES, "train.epochs=1", "train.view_size=16")
    assert_mistake(result, "train.view_size=12 (now 16)")


def test_teacher_of_ones_own_wants_a_power_of_two(prepared: Site) -> None:
    result = prepared.try_stage("teacher", *SIZES, "teacher.checkpoint=null")
    assert_mistake(result, "real.resolution", "24", "teacher.checkpoint")
