"""A run with a file laid over it distils the teacher of the run without, which is trained once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.stored_pools import TINY_TRAINING, Site, make_site
from tests.support.workspace import ROOT

pytestmark = pytest.mark.slow
OVER = ROOT / "configs" / "methods" / "squeeze.yaml"
ON_REAL = ROOT / "configs" / "methods" / "vicreg-real.yaml"
TINY = (*TINY_TRAINING, "train.epochs=1")
TEACHER = {
    "num_images": 16,
    "global_batch": 8,
    "mbstd_group_size": 4,
    "z_dim": 8,
    "w_dim": 8,
    "num_mapping_layers": 1,
    "channel_base": 64,
    "channel_max": 8,
    "num_half_blocks": 0,
    "quality_images": 0,
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A config that names no teacher, as those that ship."""
    site = make_site(tmp_path)
    config = yaml.safe_load(site.config.read_text())
    site.config.write_text(yaml.safe_dump({**config, "teacher": {"checkpoint": None, **TEACHER}}))
    return site


def weights(folder: Path) -> bytes:
    return (folder / "teacher" / "generator.safetensors").read_bytes()


def test_run_with_a_file_laid_over_trains_the_teacher_that_both_runs_distil(site: Site) -> None:
    tiny, over = site.runs / "tiny", site.runs / "tiny-squeeze"
    code, _, errors = site.try_stage("run", OVER, *TINY, "--dry-run")
    assert code == 0
    assert "teacher   waits" in errors
    site.stage("run", OVER, *TINY)
    assert (over / "report.html").exists()
    assert not (over / "teacher").exists()
    before = {path: path.stat().st_mtime_ns for path in (tiny / "teacher").iterdir()}
    site.stage("real", *TINY)
    site.stage("teacher", *TINY)
    assert {path: path.stat().st_mtime_ns for path in (tiny / "teacher").iterdir()} == before


def test_run_with_a_file_laid_over_goes_on_with_a_teacher_whose_training_was_stopped(
    site: Site,
) -> None:
    site.stage("real")
    site.stage("teacher")
    tiny = site.runs / "tiny"
    (tiny / "teacher" / "record.json").unlink()
    site.stage("run", OVER, *TINY)
    assert (tiny / "teacher" / "record.json").exists()


def test_run_with_a_file_laid_over_takes_a_finished_teacher_of_other_settings(site: Site) -> None:
    site.stage("real")
    site.stage("teacher", "teacher.num_images=8")
    trained = weights(site.runs / "tiny")
    site.stage("run", OVER, *TINY)
    assert weights(site.runs / "tiny") == trained


def test_run_with_a_file_laid_over_trains_its_own_teacher_where_null_is_said(site: Site) -> None:
    site.stage("run", OVER, *TINY, "teacher.checkpoint=null")
    assert weights(site.runs / "tiny-squeeze")
    assert not (site.runs / "tiny").exists()


def test_run_on_real_images_alone_needs_no_teacher(site: Site) -> None:
    site.stage("run", ON_REAL, *TINY)
    assert [path.name for path in site.runs.glob("tiny*")] == ["tiny-vicreg-real"]
