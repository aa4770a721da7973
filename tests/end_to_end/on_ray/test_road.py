"""The whole road on Ray, and what happens when it is typed again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from tests.support.command_line import run_process
from tests.support.stored_pools import TINY_TRAINING, Site

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray")]
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
