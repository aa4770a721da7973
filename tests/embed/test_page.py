"""The page takes any names and any size of pictures."""

from __future__ import annotations

import base64
import csv
import io
import re
from pathlib import Path

from PIL import Image

from pipeline.embed.neighbours import find_neighbours, read_queries
from pipeline.embed.page import write_page
from tests.support.embedding_runs import StudentRun, make_student_run
from tests.support.real_images import tile, write, write_folder

NAME = 'a "b", <i>&.png'


def page_and_table(run: StudentRun, folder: Path) -> tuple[str, str]:
    images = write_folder(folder / "images", {NAME: 9})
    subject, embedded = run.subject(), run.embed(images)
    queries = read_queries(subject, [str(write(folder / NAME, tile(9)))])
    neighbours = find_neighbours(subject, embedded, queries, 1)
    found = list(zip(queries, neighbours, strict=True))
    page, table = write_page(folder / "out", subject, embedded, found, "<images>", "a & b")
    return page.read_text(), table.read_text()


def test_names_are_shown_as_they_are(student_run: StudentRun, tmp_path: Path) -> None:
    page, table = page_and_table(student_run, tmp_path)
    for raw in ("<i>", "<images>", "a & b"):
        assert raw not in page
    assert "a &#34;b&#34;, &lt;i&gt;&amp;.png" in page
    (row,) = csv.DictReader(io.StringIO(table))
    assert (row["query"], row["source"], row["label"]) == (str(tmp_path / NAME), NAME, "")


def test_large_pictures_become_thumbnails(tmp_path: Path) -> None:
    page, _ = page_and_table(make_student_run(tmp_path / "run", resolution=300), tmp_path)
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    sizes = [Image.open(io.BytesIO(base64.b64decode(one))).size for one in pictures]
    assert sizes == [(128, 128)] * 2
