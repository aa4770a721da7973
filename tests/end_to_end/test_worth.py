"""`worth` through the command line."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command_line import assert_mistake
from tests.support.stored_pools import TINY_TRAINING, Site, make_site

pytestmark = pytest.mark.slow
TINY = (
    *TINY_TRAINING,
    "train.epochs=1",
    "ray.study_workers=0",
    "worth.sizes=[6, all]",
    "worth.seeds=[3]",
    "worth.learning_rates=[0.1, 1e30]",
)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return make_site(tmp_path)


def records(site: Site) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in site.runs.rglob("train/record.json")}


def test_worth_chooses_rates_trains_at_every_size_and_then_does_nothing(site: Site) -> None:
    code, _, errors = site.try_stage("worth", *TINY, "--dry-run")
    assert (code, errors.count("real      to do")) == (0, 1)
    assert not site.runs.exists()
    site.stage("worth", *TINY)
    folder = site.runs / "tiny"
    numbers = pq.read_table(folder / "worth.parquet").to_pylist()
    assert {number["learning_rate"] for number in numbers} == {0.1}  # the other diverges
    assert {(n["method"], n["num_real"], n["seed"]) for n in numbers} == {
        (method, num_real, 3)
        for method in ("squeeze-and-span", "squeeze", "vicreg-both", "vicreg-real")
        for num_real in (6, 12)
    }
    markdown = (folder / "worth.md").read_text()
    assert "| raw pixels |" in markdown
    assert "failed" in markdown
    before = records(site)
    site.stage("worth", *TINY)
    assert records(site) == before
    code, _, errors = site.try_stage("worth", *TINY, "--dry-run")
    assert (code, errors.count(" done")) == (0, 4 + 8)


def test_worth_without_labels_or_with_a_limit_is_refused(site: Site, tmp_path: Path) -> None:
    assert_mistake(site.try_stage("worth", *TINY, "real.limit=6"), "real.limit", "worth.sizes")
    assert_mistake(site.try_stage("worth", *TINY, "worth.sizes=[13]"), "worth.sizes: 13 of 12")
