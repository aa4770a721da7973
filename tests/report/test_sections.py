"""Sections that tables and sweeps leave for the report of their run."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipeline.report.sections import list_sections, write_section

VIEW = {"name": "<b>digits</b>", "value": "1 < 2"}


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    folder = tmp_path / "templates"
    folder.mkdir()
    (folder / "sweep.md.j2").write_text("# {{ name }}")
    (folder / "sweep.section.html.j2").write_text("<h2>Sweep</h2><p>{{ value }}</p>")
    return folder


def test_write_section_leaves_a_page_numbers_and_the_same_section(
    tmp_path: Path, templates: Path
) -> None:
    run_dir = tmp_path / "run"
    files = write_section(run_dir, "sweep", templates, VIEW, [{"top1": 1.5}, {"top1": 2.5}])

    assert [file.name for file in files] == ["sweep.md", "sweep.html", "sweep.parquet"]
    page = (run_dir / "sweep.html").read_text()
    assert "<h2>Sweep</h2><p>1 &lt; 2</p>" in page
    assert "<b>digits" not in page
    assert page.startswith("<!doctype html>")
    assert pq.read_table(run_dir / "sweep.parquet").to_pydict() == {"top1": [1.5, 2.5]}
    (section,) = list_sections(run_dir)
    assert section.read_text() == "<h2>Sweep</h2><p>1 &lt; 2</p>"


def test_list_sections_of_a_run_without_any_is_empty(tmp_path: Path) -> None:
    assert list_sections(tmp_path) == []


def test_list_sections_are_in_the_order_of_their_names(tmp_path: Path, templates: Path) -> None:
    for name in ("sweep", "again"):
        for end in ("md", "section.html"):
            (templates / f"{name}.{end}.j2").write_text(name)
        write_section(tmp_path / "run", name, templates, VIEW, [])
    assert [path.stem for path in list_sections(tmp_path / "run")] == ["again", "sweep"]
