"""What the sweeps show, of planted results."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.config.root import Config
from pipeline.studies.cells import Cell
from pipeline.studies.sweeps.figures import PAPER_CURVE, pool_plot, quality_plot
from pipeline.studies.sweeps.page import write_pool_sweep, write_quality_sweep
from pipeline.studies.sweeps.points import Snapshot
from shards.errors import UserError
from tests.support.study_cells import write_cell

SIZES = {"teacher-pool100": 100, "teacher-pool400": 400, "teacher-online": None}


def base(folder: Path) -> Config:
    sections = {"paths": {"runs": str(folder)}, "sweep": {"seeds": [0, 1]}}
    return Config.model_validate({"name": "base", **sections})


def cells(folder: Path, tops: dict[str, tuple[float, ...]], protocol: str = "p") -> list[Cell]:
    return [
        write_cell(folder, row, seed, top1, pool_size=SIZES.get(row) or 1000, protocol=protocol)
        for row, values in tops.items()
        for seed, top1 in enumerate(values)
    ]


def test_pool_sweep_shows_what_each_pool_loses_and_saves(tmp_path: Path) -> None:
    tops = {
        "teacher-pool100": (50.0, 52.0),
        "teacher-pool400": (59.0, 62.0),
        "teacher-online": (60.0, 64.0),
    }
    files = write_pool_sweep(base(tmp_path), SIZES, cells(tmp_path, tops), {})
    markdown = files[0].read_text()
    # 400 less online by seed: -1 and -2; mean -1.5, t(1) = 12.706 times std / √2 = 0.5
    assert "| 400 | 2.5× | -1.5 [-7.9, +4.9] | 60.5 ± 2.1 |" in markdown
    # 100: -10 and -12; mean -11, 12.706 times 1
    assert "| 100 | 10.0× | -11.0 [-23.7, +1.7] | 51.0 ± 1.4 |" in markdown
    assert "| online | – | – | 62.0 ± 2.8 |" in markdown
    rows = pq.read_table(files[2]).to_pylist()
    assert [(row["row"], row["pool_size"], row["top1"]) for row in rows if row["is_online"]] == [
        ("teacher-online", 1000, 60.0),
        ("teacher-online", 1000, 64.0),
    ]


def test_pool_sweep_without_the_limit_shows_the_pools_and_why(tmp_path: Path) -> None:
    found = cells(tmp_path, {"teacher-pool100": (50.0,)})
    files = write_pool_sweep(base(tmp_path), SIZES, found, {"teacher-online": "no reason"})
    markdown = files[0].read_text()
    assert "| 100 – seeds 0 only | – | – | 50.0 |" in markdown
    assert "| online – not run: no reason | – | – | – |" in markdown


def snapshots(*distances: float) -> dict[str, Snapshot]:
    return {
        f"{index}-pool9": Snapshot(f"{index}", Path(), index, distance, distance / 10, "space", 7)
        for index, distance in enumerate(distances)
    }


def test_quality_sweep_compares_the_teachers_by_distance(tmp_path: Path) -> None:
    tops = {"0-pool9": (50.0, 52.0), "1-pool9": (61.0, 62.0), "2-pool9": (55.0, 55.0)}
    of_rows = snapshots(9.0, 3.0, 5.0)
    files = write_quality_sweep(base(tmp_path), of_rows, cells(tmp_path, tops), {})
    markdown = files[0].read_text()
    assert "| 1 | 1 | 3.00 | 0.3000 | 61.5 ± 0.7 |" in markdown
    # from 9 to 3 by seed: 11 and 10
    assert "smallest: +10.5 [+4.1, +16.9] points (paired by seed, n = 2" in markdown
    assert "`space`" in markdown
    rows = pq.read_table(files[2]).to_pylist()
    assert {(row["row"], row["frechet_distance"]) for row in rows} == {
        ("0-pool9", 9.0),
        ("1-pool9", 3.0),
        ("2-pool9", 5.0),
    }


def test_numbers_of_different_protocols_are_refused(tmp_path: Path) -> None:
    found = cells(tmp_path, {"0-pool9": (50.0,)}) + cells(tmp_path, {"1-pool9": (51.0,)}, "q")
    with pytest.raises(UserError, match="different protocols"):
        write_quality_sweep(base(tmp_path), snapshots(9.0, 3.0), found, {})


def decoded(uri: str) -> str:
    return base64.b64decode(uri.partition(",")[2]).decode()


def test_plots_are_svg_with_the_paper_in_a_panel_of_its_own() -> None:
    assert len(PAPER_CURVE) == 9
    picture = decoded(quality_plot([(4.0, [50.0, 52.0]), (9.0, [40.0])], "top-1"))
    assert len(re.findall(r'id="axes_\d+"', picture)) == 2
    picture = decoded(pool_plot({100: [50.0], 400: [60.0, 61.0]}, [62.0], "top-1"))
    assert len(re.findall(r'id="axes_\d+"', picture)) == 1
    decoded(pool_plot({}, [], "top-1"))  # nothing could be run
    decoded(quality_plot([], "top-1"))
