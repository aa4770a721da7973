"""The whole road on Ray, and commands on Ray beside the same in one process: all in one session."""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.cluster import connection
from pipeline.config.ray import RayConfig
from tests.support.command_line import run_process, succeed
from tests.support.stored_pools import TINY_TRAINING, Site
from tests.support.workspace import Workspace, tars

pytestmark = [pytest.mark.ray, pytest.mark.slow]
TINY = (*TINY_TRAINING, "train.epochs=1")
IMPORTED = """
import sys
from pipeline.__main__ import main
code = main()
print("imported", [name for name in ("torch", "ray") if name in sys.modules])
sys.exit(code)
"""
ROWS = {
    (representation, probe, labels)
    for representation in ("student", "raw_pixels", "untrained_student")
    for probe in ("linear", "knn")
    for labels in ("all", "2_per_class")
}


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """One Ray for all commands, as all stages of one command have."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    connection.connect(RayConfig(render_workers=2, object_store_mb=200))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "disconnect", lambda: None)
        yield
    connection.disconnect()
    for number, handler in handlers.items():
        signal.signal(number, handler)


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_run_from_nothing_writes_results_and_report_and_then_does_nothing(
    original: Site, tmp_path: Path
) -> None:
    site = Site(tmp_path / "site", original.source)
    given = (*TINY, "eval.probes=[linear, knn]", "ray.render_workers=2", "ray.eval_workers=2")
    site.stage("run", *given)
    run = site.runs / "tiny"
    rows = json.loads((run / "results.json").read_text())
    assert {(row["representation"], row["probe"], row["labels"]) for row in rows} == ROWS
    assert all(0 <= row["top1_mean"] <= 100 and row["top1_std"] >= 0 for row in rows)
    assert all({"seeds", "protocol"} <= set(row) for row in rows)

    page = (run / "report.html").read_text()
    assert not re.search(r"(?:src|href)=[\"'](?!data:)", page), "the page must be self-contained"

    before = times(site.folder)
    again = [str(site.config), *site.places, *given, "hardware.compile=off"]
    second = run_process([sys.executable, "-c", IMPORTED, "run", *again])
    assert second.code == 0, second.errors
    assert times(site.folder) == before
    assert "imported []" in second.out


def test_generate_with_one_two_or_no_ray_workers_gives_the_same_bytes(workspace: Workspace) -> None:
    pools = []
    for workers in (0, 1, 2):
        store = workspace.folder / f"store{workers}"
        places = f"paths.store={store}"
        succeed("generate", workspace.config, f"ray.render_workers={workers}", places)
        pools.append(tars(store))
    assert len(pools[0]) == 2 * 3, "images and features"
    assert pools[0] == pools[1] == pools[2]


def test_pool_sweep_on_ray_equals_that_of_one_process(site: Site, tmp_path: Path) -> None:
    arguments = (*TINY, "sweep.seeds=[3]", "sweep.pool_sizes=[8, 24]")
    site.stage("pool-sweep", *arguments)
    on_ray = Site(tmp_path / "ray", site.source)
    on_ray.stage("pool-sweep", *arguments, "ray.render_workers=2", "ray.study_workers=2")
    found = pq.read_table(on_ray.runs / "tiny" / "pool-sweep.parquet")
    assert found.equals(pq.read_table(site.runs / "tiny" / "pool-sweep.parquet"))
