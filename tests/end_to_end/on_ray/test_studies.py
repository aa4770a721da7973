"""Studies whose trainings run side by side on Ray: the numbers of one process."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command_line import start, succeed
from tests.support.stored_pools import TINY_TRAINING, Site

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray")]
TINY = (*TINY_TRAINING, "train.epochs=1")


def test_pool_sweep_on_ray_equals_that_of_one_process(site: Site, tmp_path: Path) -> None:
    arguments = (*TINY, "sweep.seeds=[3]", "sweep.pool_sizes=[8, 24]")
    site.stage("pool-sweep", *arguments)
    on_ray = Site(tmp_path / "ray", site.source)
    on_ray.stage("pool-sweep", *arguments, "ray.render_workers=2", "ray.study_workers=2")
    found = pq.read_table(on_ray.runs / "tiny" / "pool-sweep.parquet")
    assert found.equals(pq.read_table(site.runs / "tiny" / "pool-sweep.parquet"))


def test_tables_on_ray_interrupted_and_typed_again_equal_those_of_one_process(
    site: Site, tmp_path: Path
) -> None:
    rows = "tables.rows=[squeeze, simsiam-real, vicreg-both]"
    given = (*TINY_TRAINING, "tables.epochs=1", "tables.seeds=[0]", rows)
    site.stage("tables", *given)
    places = (f"paths.store={site.store}", f"paths.runs={tmp_path / 'ray'}")
    on_ray = (*given, *places, "ray.render_workers=2", "ray.study_workers=2")
    folder = tmp_path / "ray" / "tiny" / "tables"
    with start("tables", site.config, *on_ray) as run:
        run.wait_until(lambda: len(list(folder.glob("*/results.json"))) > 0)
        os.kill(run.pid, signal.SIGINT)
        code, _, errors = run.result()
        assert code == 130, errors
    succeed("tables", site.config, *on_ray)
    found = pq.read_table(tmp_path / "ray" / "tiny" / "tables.parquet")
    assert found.num_rows > 0
    assert found.equals(pq.read_table(site.runs / "tiny" / "tables.parquet"))
