"""A training that is interrupted, and the pool it goes on with: the same recipe, other bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.command_line import assert_mistake
from tests.support.stored_pools import (
    NUM_SHARDS,
    TINY_TRAINING,
    Site,
    edit_column,
    make_site,
    relist_as_it_is,
)
from tests.support.trainings import interrupted_when_saved

pytestmark = pytest.mark.slow

TRAINING = (*TINY_TRAINING, "train.epochs=4", "train.checkpoint_interval_s=0")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Real images and a pool; read only."""
    site = make_site(tmp_path_factory.mktemp("stage"))
    site.stage("real", *TRAINING)
    site.stage("generate", *TRAINING)
    return site


@pytest.fixture
def stopped(prepared: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A copy whose training has seen one of four steps."""
    site = prepared.copy_to(tmp_path / "site")
    with interrupted_when_saved(monkeypatch):
        assert site.try_stage("train", *TRAINING)[0] == 130
    assert not student_of(site).exists()
    return site


def student_of(site: Site) -> Path:
    return site.runs / "tiny" / "train" / "student.safetensors"


def record_of(site: Site, stage: str) -> dict[str, Any]:
    path = site.runs / "tiny" / stage / "record.json"
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def pool_digest(site: Site) -> str:
    return str(record_of(site, "generate")["outputs"]["digest"])


def render_elsewhere(site: Site) -> None:
    """The pool as another card renders it: features that differ in a last digit."""

    def nudge(features: np.ndarray) -> None:
        features[:] = np.nextafter(features, features.dtype.type(np.inf))

    features = site.features
    for number in range(NUM_SHARDS):
        name = f"shard-{number:06d}.tar"
        edit_column(features, name, "features", 0, nudge)
        relist_as_it_is(features, name)
    (site.runs / "tiny" / "generate" / "record.json").unlink()
    site.stage("generate", *TRAINING)


def test_train_goes_on_with_other_bytes_of_its_pool_and_names_both(stopped: Site) -> None:
    first = pool_digest(stopped)
    render_elsewhere(stopped)
    second = pool_digest(stopped)
    assert second != first
    stopped.stage("train", *TRAINING)
    assert record_of(stopped, "train")["outputs"]["synthetic"] == [first, second]
    written_at = student_of(stopped).stat().st_mtime_ns
    render_elsewhere(stopped)
    stopped.stage("train", *TRAINING)  # is done
    assert student_of(stopped).stat().st_mtime_ns == written_at
    stopped.stage("eval", *TRAINING)
    assert record_of(stopped, "eval")["inputs"]["pool"] == pool_digest(stopped)


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("generate.seed=1", "input pool="),
        ("generate.num_samples=16", "input pool size=24 (now 16)"),
        ("generate.feature_dtype=float32", "input feature type=float16 (now float32)"),
    ],
)
def test_train_does_not_go_on_with_a_pool_of_another_recipe(
    stopped: Site, change: str, difference: str
) -> None:
    checkpoint = student_of(stopped).with_name("checkpoint.pt")
    before = checkpoint.read_bytes()
    stopped.stage("generate", *TRAINING, change)
    assert_mistake(stopped.try_stage("train", *TRAINING, change), difference, "name=…")
    assert checkpoint.read_bytes() == before
    stopped.stage("generate", *TRAINING)
    stopped.stage("train", *TRAINING)
    stopped.stage("generate", *TRAINING, change)
    assert_mistake(stopped.try_stage("train", *TRAINING, change), difference, "name=…")


def test_train_of_a_method_that_reads_no_features_goes_on_whatever_is_stored(
    prepared: Site, tmp_path: Path
) -> None:
    site = prepared.copy_to(tmp_path / "site")
    method = (*TRAINING, "train.method.name=vicreg")
    site.stage("train", *method)
    other = (*method, "generate.feature_dtype=float32")
    site.stage("generate", *other)
    written_at = student_of(site).stat().st_mtime_ns
    site.stage("train", *other)
    assert student_of(site).stat().st_mtime_ns == written_at


WATCHED = (*TRAINING, "train.monitor.every_epochs=1", "train.monitor.samples=10")


def test_train_is_watched_on_its_own_images_and_is_the_same_training(
    prepared: Site, tmp_path: Path
) -> None:
    site = prepared.copy_to(tmp_path / "site")
    site.stage("train", *WATCHED)
    lines = student_of(site).with_name("metrics.jsonl").read_text().splitlines()
    assert 0 <= json.loads(lines[-1])["monitor_knn_top1"] <= 100
    written_at = student_of(site).stat().st_mtime_ns
    for other in ("train.monitor.every_epochs=0", "train.monitor.samples=4"):
        site.stage("train", *WATCHED, other)  # is done
    assert student_of(site).stat().st_mtime_ns == written_at
    watched = student_of(site).read_bytes()
    shutil.rmtree(student_of(site).parent)
    site.stage("train", *TRAINING, "train.monitor.every_epochs=0")
    assert student_of(site).read_bytes() == watched


def test_train_watched_on_a_set_that_there_is_not_does_not_begin(
    prepared: Site, tmp_path: Path
) -> None:
    site = prepared.copy_to(tmp_path / "site")
    result = site.try_stage("train", *TRAINING, "train.monitor.set=other")
    assert_mistake(result, "train.monitor.set: no set other in eval.sets", "there are none")
    assert not student_of(site).with_name("metrics.jsonl").exists()
