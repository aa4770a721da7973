"""Neighbours -> a self-contained page, a table as CSV, and one for the terminal.

Neighbours: `neighbours.py` finds them; the page has the report's style.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table

from pipeline.embed.embedded import Embedded
from pipeline.embed.neighbours import Neighbour, Query
from pipeline.embed.subject import Subject
from pipeline.report.figures import png
from pipeline.report.sections import template
from pipeline.student.view_size import bring_to_size
from shards.atomic import write_atomic

PAGE_FILE = "neighbours.html"
TABLE_FILE = "neighbours.csv"
_LARGEST = 128
"""Side of a picture on the page, in pixels, at the most."""
_SHARP = 64
"""Smaller pictures show their pixels."""
_COLUMNS = ("query", "rank", "cosine", "source", "label")

Found = Sequence[tuple[Query, Sequence[Neighbour]]]
"""Each query and its neighbours."""


def write_page(
    folder: Path, subject: Subject, embedded: Embedded, found: Found, images: str, command: str
) -> list[Path]:
    """Write page and table into `folder`; returns both files.

    Args:
        folder: where to.
        subject: whose embeddings are compared.
        embedded: the images that were searched.
        found: what was found.
        images: where they are, for readers.
        command: that made the page.
    """
    queries = [
        {
            "name": query.name,
            "file": query.name.rstrip("/").rpartition("/")[2],
            "picture": _thumbnail(query.pixels),
            "neighbours": [
                {
                    "picture": _thumbnail(embedded.pixels(neighbour.row)),
                    "rank": neighbour.rank,
                    "cosine": f"{neighbour.cosine:.4f}",
                    "source": neighbour.source,
                    "label": neighbour.label,
                }
                for neighbour in neighbours
            ],
        }
        for query, neighbours in found
    ]
    view = {
        "queries": queries,
        "is_small": subject.config.real.resolution < _SHARP,
        "num_images": len(embedded),
        "num_dims": embedded.num_dims,
        "view_size": subject.side,
        "name": subject.config.name,
        "images": images,
        "lineage": _lineage(subject.description),
        "command": command,
    }
    contents = {
        PAGE_FILE: template(Path(__file__).parent, "neighbours.html.j2").render(view),
        TABLE_FILE: _csv(found),
    }
    for name, content in contents.items():
        write_atomic(folder / name, content)
    return [folder / name for name in contents]


def terminal_table(found: Found) -> Table:
    """All neighbours, a row each."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, justify="right" if name in ("rank", "cosine") else "left",
                         overflow="fold")  # fmt: skip
    for query, neighbours in found:
        for place, neighbour in enumerate(neighbours):
            table.add_row(
                query.name if place == 0 else "",
                str(neighbour.rank),
                f"{neighbour.cosine:.4f}",
                neighbour.source,
                neighbour.label or "",
            )
    return table


def _csv(found: Found) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for query, neighbours in found:
        for one in neighbours:
            cosine = f"{one.cosine:.6f}"
            writer.writerow([query.name, one.rank, cosine, one.source, one.label or ""])
    return buffer.getvalue()


def _thumbnail(pixels: np.ndarray) -> str:
    """PNG data URI of uint8 [3, R, R]."""
    side = min(pixels.shape[-1], _LARGEST)
    small = bring_to_size(torch.from_numpy(np.array(pixels))[None], side)[0]
    return png(small.permute(1, 2, 0).contiguous().numpy())


def _lineage(description: Mapping[str, Any]) -> dict[str, str]:
    """What made the embeddings, by what readers call it."""
    titles = {
        "run": "run",
        "export": "exported folder",
        "student": "student, SHA-256",
        "view_size": "view size, px",
        "stored_size": "stored size, px",
        "commit": "commit",
    }
    return {
        title: str(description[name] or "not a git checkout")
        for name, title in titles.items()
        if name in description
    }
