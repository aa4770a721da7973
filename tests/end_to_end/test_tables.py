"""`tables` through the command line: every row is run once, side by side, and shown."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.studies.tables.rows import choose_configs
from tests.support.command_line import assert_mistake
from tests.support.stored_pools import TINY_TRAINING, Site, make_site
from tests.support.workspace import ROOT

pytestmark = pytest.mark.slow
TINY = (*TINY_TRAINING, "tables.epochs=1", "tables.seeds=[0]")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def test_tables_runs_every_row_and_shows_them_and_then_does_nothing(site: Site) -> None:
    site.stage("tables", *TINY, "tables.paper=cifar10")
    folder = site.runs / "tiny"
    numbers = pq.read_table(folder / "tables.parquet").to_pylist()
    assert {number["row"] for number in numbers} == set(choose_configs("all"))
    assert all(0 <= number["top1"] <= 100 for number in numbers)
    by_row = {number["row"]: number for number in numbers}
    assert by_row["vicreg-real"]["pool_size"] == 0
    assert by_row["squeeze"]["pool_size"] == 24
    markdown = (folder / "tables.md").read_text()
    assert "| features, squeeze and span |" in markdown
    assert "92.54" in markdown
    assert "no perceptual term" in markdown or "lpips" in by_row["encoding-both"]["perceptual"]
    page = (folder / "tables.html").read_text()
    assert page.count("<figure") == 3
    assert "http" not in page.replace("http://www.w3.org", "")
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("record.json")}
    site.stage("tables", *TINY, "tables.paper=cifar10")
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("record.json")} == before


def test_tables_of_some_rows_names_one_that_is_not_there(site: Site) -> None:
    rows = "tables.rows=[vicreg-real, squeeze]"
    site.stage("tables", *TINY, rows, "tables.seeds=[0, 1]")
    markdown = (site.runs / "tiny" / "tables.md").read_text()
    assert markdown.count(" ± ") == 3 * 2  # squeeze is in two tables
    assert "VICReg" in markdown
    assert "SimSiam" not in markdown
    assert_mistake(site.try_stage("tables", *TINY, "tables.rows=[vicreg]"), "vicreg-real")


def test_tables_row_that_cannot_be_run_is_named_and_the_others_are_there(site: Site) -> None:
    (site.teacher / "discriminator.safetensors").unlink()
    rows = "tables.rows=[discriminator-multi, vicreg-real]"
    code, _, errors = site.try_stage("tables", *TINY, rows)
    assert code == 1
    assert "discriminator" in errors
    markdown = (site.runs / "tiny" / "tables.md").read_text()
    assert "not run: " in markdown
    numbers = pq.read_table(site.runs / "tiny" / "tables.parquet").to_pylist()
    assert {number["row"] for number in numbers} == {"vicreg-real"}


def test_tables_row_alone_is_an_ordinary_run_beside_its_base(site: Site) -> None:
    method = ROOT / "configs" / "methods" / "vicreg-real.yaml"
    site.stage("run", str(method), *TINY, "train.epochs=1")
    made = json.loads((site.runs / "tiny-vicreg-real" / "train" / "record.json").read_text())
    assert made["config"]["method"]["name"] == "vicreg"


def test_tables_of_a_base_with_another_method_train_what_their_rows_say(site: Site) -> None:
    site.stage("tables", *TINY, "tables.rows=squeeze", "train.method.name=vicreg")
    made = json.loads((site.runs / "tiny/tables/squeeze-seed0/train/record.json").read_text())
    assert made["config"]["method"]["name"] == "squeeze_and_span"


def test_shards_gc_knows_the_trainings_of_tables(site: Site) -> None:
    site.stage("tables", *TINY, "tables.rows=squeeze")
    shutil.rmtree(site.runs / "tiny" / "generate")
    code, out, _ = site.shards("gc")
    assert code == 0
    assert out.startswith("0 recipes")
