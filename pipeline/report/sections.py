"""Results of sweeps and tables: a page of their own, and a section of the run's report.

Neighbours: `studies/tables/page.py` and `studies/sweeps/page.py` make the views, `stage.py` shows
the sections.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
from markupsafe import Markup

from shards.atomic import write_atomic

SECTIONS = "sections"


def template(folder: Path, name: str) -> Any:
    """The jinja2 template `name` in `folder`, which may include this folder's."""
    loader = jinja2.FileSystemLoader([folder, Path(__file__).parent])
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template(name)


def write_section(
    run_dir: Path,
    name: str,
    templates: Path,
    view: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
) -> list[Path]:
    """Write `name`.md, .html and .parquet into `run_dir`, and the section; returns the three.

    Args:
        run_dir: the folder of the run whose report gets the section.
        name: of the files and, in `templates`, of `name`.md.j2 and `name`.section.html.j2.
        templates: a folder.
        view: what the templates show.
        rows: the numbers, for Parquet.
    """
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    section = template(templates, f"{name}.section.html.j2").render(view)
    page = template(templates, "section_page.html.j2")
    contents: dict[str, str | bytes] = {
        f"{name}.md": template(templates, f"{name}.md.j2").render(view),
        f"{name}.html": page.render(run=view["name"], section=Markup(section)),
        f"{name}.parquet": buffer.getvalue(),
    }
    for file, content in contents.items():
        write_atomic(run_dir / file, content)
    write_atomic(run_dir / SECTIONS / f"{name}.html", section)
    return [run_dir / file for file in contents]


def list_sections(run_dir: Path) -> list[Path]:
    """Files of the sections that a run has, in the order of their names."""
    return sorted((run_dir / SECTIONS).glob("*.html"))
