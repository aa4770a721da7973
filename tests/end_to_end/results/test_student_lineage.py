"""What a student was trained on, and what is said of it afterwards, through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.support.command_line import assert_mistake
from tests.support.measured_runs import TINY
from tests.support.stored_pools import Site

pytestmark = pytest.mark.slow


@pytest.fixture
def other_images(site: Site, tmp_path: Path) -> str:
    """An override that names images which the student of `tiny` never saw."""
    shutil.copytree(site.source / "images", tmp_path / "others")
    for file in (tmp_path / "others").rglob("*.png"):
        Image.new("RGB", (16, 16), (200, 10, 10)).save(file)
    return f"real.path={tmp_path / 'others'}"


@pytest.mark.parametrize("stage", ["eval", "report", "export"])
def test_stage_after_real_was_run_on_other_images_refuses(
    site: Site, other_images: str, stage: str
) -> None:
    site.stage("real", *TINY, other_images)
    result = site.try_stage(stage, *TINY, other_images)
    assert_mistake(result, site.runs / "tiny" / "real", "trained on other samples", "name=…")
    assert not (site.runs / "tiny" / "export").exists()


def test_stage_after_another_pool_was_rendered_refuses(site: Site) -> None:
    changed = (*TINY, "generate.seed=5")
    site.stage("generate", *changed)
    for stage in ("eval", "report", "export"):
        result = site.try_stage(stage, *changed)
        assert_mistake(result, site.runs / "tiny" / "generate", "trained on other samples")


def test_report_after_real_was_run_again_on_changed_images_refuses(
    site: Site, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(site.source / "images", folder)
    config = (*TINY, "name=mine", f"real.path={folder}")
    for stage in ("real", "generate", "train", "eval"):
        site.stage(stage, *config)
    next(folder.glob("train/*/*.png")).unlink()
    site.stage("real", *config)
    assert_mistake(site.try_stage("report", *config), site.runs / "mine" / "real")


@pytest.mark.parametrize("stage", ["train", "eval"])
def test_stage_on_shards_that_are_no_longer_the_folders_refuses(
    site: Site, tmp_path: Path, stage: str
) -> None:
    folder = tmp_path / "images"
    shutil.copytree(site.source / "images", folder)
    config = (*TINY, "name=mine", f"real.path={folder}")
    for before in ("real", "generate", *(["train"] if stage == "eval" else [])):
        site.stage(before, *config)
    next(folder.glob("test/*/*.png")).unlink()
    result = site.try_stage(stage, *config)
    assert_mistake(result, site.runs / "mine" / "real", "no longer the images")
    shutil.rmtree(folder)  # the shards are what is left: they are the data set
    site.stage(stage, *config)


def test_eval_after_a_changed_training_advises_what_then_works(site: Site) -> None:
    result = site.try_stage("eval", *TINY, "train.epochs=2")
    assert_mistake(result, "train.epochs=1 (now 2)", "name=…")
    for stage in ("real", "generate", "train", "eval"):
        site.stage(stage, *TINY, "train.epochs=2", "name=other")


def test_gc_keeps_what_a_run_anywhere_below_refers_to(site: Site) -> None:
    deep = site.runs / "studies" / "of" / "another" / "layout"
    deep.parent.mkdir(parents=True)
    shutil.move(site.runs / "tiny", deep)
    shutil.rmtree(site.runs / "longer")
    out = site.shards("gc", "--delete", "--yes").out
    assert "0 recipes" in out
    record = json.loads((deep / "generate" / "record.json").read_text())
    assert Path(record["outputs"]["folder"]).is_dir()
