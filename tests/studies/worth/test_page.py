"""What the page says of planted results."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.studies.collect import read_outcomes
from pipeline.studies.worth.page import write_worth
from pipeline.studies.worth.trainings import METHODS, Plan, Tuning
from tests.support.study_cells import write_cell
from tests.support.workspace import make_teacher

TUNINGS = {
    **{name: Tuning({0.1: 90.0, 0.2: 91.0, 0.4: 80.0}, 0.2) for name in METHODS},
    "squeeze": Tuning({0.1: 92.0, 0.2: 91.0}, 0.1),
}


def make_plan(folder: Path) -> Plan:
    make_teacher(folder / "teacher")
    path = folder / "teacher" / "teacher.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "origin": {**info["origin"], "num_real": 4321}}))
    config = {
        "name": "a",
        "paths": {"runs": str(folder)},
        "teacher": {"checkpoint": str(folder / "teacher")},
        "worth": {"sizes": [10, "all"], "learning_rates": [0.1, 0.2, 0.4], "tuning_size": 20},
    }
    (folder / "a.yaml").write_text(yaml.safe_dump(config))
    return Plan(folder / "a.yaml", (), 1437)


def write(folder: Path, tops: dict[str, tuple[float, ...]], **problems: str) -> list[Path]:
    plan = make_plan(folder)
    cells = [
        write_cell(folder, row, seed, top1)
        for row, values in tops.items()
        for seed, top1 in enumerate(values)
    ]
    trials = plan.size_trials({name: tuning.chosen for name, tuning in TUNINGS.items()})
    of_rows = {row.replace("_", "-"): why for row, why in problems.items()}
    return write_worth(plan, trials, TUNINGS, read_outcomes(cells), of_rows)


def test_page_says_what_the_teacher_adds_at_each_size(tmp_path: Path) -> None:
    tops = {
        "squeeze-and-span-10": (90.0, 92.0, 91.0),
        "vicreg-real-10": (80.0, 81.0, 81.0),
        "vicreg-both-10": (85.0, 85.0, 85.0),
        "squeeze-and-span-all": (95.0, 97.0, 96.0),
        "vicreg-real-all": (96.0, 96.0, 96.0),
    }
    files = write(tmp_path, tops)
    markdown = files[0].read_text()
    # by seed 10, 11 and 10: mean 10.33, t(2) = 4.303 times 0.577 / √3 = 1.43
    assert (
        "**10 real images:** 91.0 ± 1.0 % with the teacher, 80.7 ± 0.6 % without: +10.3 "
        "[+8.9, +11.8] points (paired by seed, n = 3): the teacher adds." in markdown
    )
    assert "**1,437 real images:** 96.0 ± 1.0 % with" in markdown
    assert "no difference is seen" in markdown
    assert "trained on 4,321 real images" in markdown
    assert "| squeeze and span | 91.0 ± 1.0 | 96.0 ± 1.0 |" in markdown
    assert "| squeeze | – | – |" in markdown
    assert "| raw pixels | 1.0 ± 0.0 | 1.0 ± 0.0 |" in markdown
    assert "| squeeze | 92.0 | 91.0 | failed | 0.1 (at the edge) |" in markdown
    assert "| VICReg, real images | 90.0 | 91.0 | 80.0 | 0.2 |" in markdown
    page = files[1].read_text()
    assert "data:image/svg+xml" in page
    assert "<b>the teacher adds</b>" in page
    rows = pq.read_table(files[2]).to_pylist()
    assert {(r["method"], r["num_real"], r["learning_rate"]) for r in rows if r["seed"] == 0} == {
        ("squeeze-and-span", 10, 0.2),
        ("vicreg-real", 10, 0.2),
        ("vicreg-both", 10, 0.2),
        ("squeeze-and-span", 1437, 0.2),
        ("vicreg-real", 1437, 0.2),
    }


@pytest.mark.parametrize(
    ("with_it", "alone", "verdict"),
    [
        ((80.0, 82.0, 81.0), (90.0, 92.0, 92.0), "the teacher takes away"),
        ((80.0,), (70.0,), "no interval, so nothing can be told"),
        ((80.0, 90.0), (80.0, 90.0), "no interval, so nothing can be told"),
    ],
)
def test_page_claims_no_more_than_the_interval_holds(
    tmp_path: Path, with_it: tuple[float, ...], alone: tuple[float, ...], verdict: str
) -> None:
    markdown = write(tmp_path, {"squeeze-and-span-10": with_it, "vicreg-real-10": alone})[0]
    (line,) = [text for text in markdown.read_text().splitlines() if text.startswith("- **10 ")]
    assert line.endswith(f"): {verdict}.")


def test_page_says_what_could_not_be_run(tmp_path: Path) -> None:
    tops = {"squeeze-and-span-10": (50.0,)}
    markdown = write(tmp_path, tops, vicreg_real_10="no reason")[0].read_text()
    assert "**10 real images:** not measured" in markdown
    assert "- VICReg, real images, 10 images: not run: no reason" in markdown
