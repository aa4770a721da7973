"""`embed` and `neighbours` through the command line."""

from __future__ import annotations

import base64
import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.student import extraction
from tests.support.command_line import Result, assert_mistake, run, succeed
from tests.support.embedding_runs import StudentRun
from tests.support.real_images import number_of, tile, write, write_folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_folder(
        tmp_path / "images", {f"{'ab'[n % 2]}/{n:02}.png": 10 * n for n in range(20)}
    )


def embed(student_run: StudentRun, images: Path, *words: object) -> Result:
    return run("embed", student_run.config_file, images, *words)


def neighbours(student_run: StudentRun, images: Path, *words: object) -> Result:
    return run("neighbours", student_run.config_file, images, *words)


def home(student_run: StudentRun) -> Path:
    (folder,) = (student_run.folder / "runs" / "tiny" / "embed").iterdir()
    return folder


def test_embed_writes_a_row_for_each_image_and_says_where(
    student_run: StudentRun, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "e.parquet"
    result = embed(student_run, images, "--out", out)
    assert result.code == 0, result.errors
    assert f"{out}, 20 images, 32 numbers each" in result.errors
    assert len(pq.read_table(out)) == 20
    assert embed(student_run, images, "--format", "npz").code == 0
    with np.load(home(student_run) / "embeddings.npz") as found:
        assert found["source"].tolist() == pq.read_table(out)["source"].to_pylist()


def test_embed_that_was_killed_goes_on_to_the_same_bytes(
    student_run: StudentRun, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "_PIECE_ROWS", (5, 5))
    whole, out = tmp_path / "whole.parquet", tmp_path / "e.parquet"
    other = tmp_path / "other"
    assert embed(student_run, images, "--out", whole, f"paths.store={other / 'store'}").code == 0
    blocks = student_run.folder / "runs" / "representations"
    for block in blocks.glob("*/*.npy"):
        block.unlink()
    write_block, kept = extraction.write_block, []

    def write_two(path: Path, block: np.ndarray) -> None:
        if len(kept) == 2:
            raise KeyboardInterrupt
        write_block(path, block)
        kept.append(path)

    monkeypatch.setattr(extraction, "write_block", write_two)
    assert embed(student_run, images, "--out", out).code == 130
    assert not out.exists()
    times = {path: path.stat().st_mtime_ns for path in blocks.glob("*/*.npy")}
    assert len(times) == 2
    monkeypatch.setattr(extraction, "write_block", write_block)
    assert embed(student_run, images, "--out", out).code == 0
    assert out.read_bytes() == whole.read_bytes()
    assert {path: path.stat().st_mtime_ns for path in times} == times


class Page(HTMLParser):
    """Pictures of a page, and what stands below each."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.pictures: list[np.ndarray] = []
        self.captions: list[str] = []
        self.links: list[str] = []
        self._is_caption = False
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.links += [str(given[name]) for name in ("src", "href") if given.get(name)]
        if tag == "img":
            content = base64.b64decode(str(given["src"]).partition(",")[2])
            pixels = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
            self.pictures.append(pixels.transpose(2, 0, 1))
        if tag == "figcaption":
            self.captions.append("")
            self._is_caption = True

    def handle_endtag(self, tag: str) -> None:
        self._is_caption &= tag != "figcaption"

    def handle_data(self, data: str) -> None:
        if self._is_caption:
            self.captions[-1] += f"{data} "


def test_neighbours_writes_a_page_and_a_table_and_prints_one(
    student_run: StudentRun, images: Path, tmp_path: Path
) -> None:
    queries = [write(tmp_path / "q=1.5.png", tile(50)), write(tmp_path / "other.gif", tile(180))]
    out = tmp_path / "found"
    result = neighbours(student_run, images, *queries, "--k", 3, "--out", out)
    assert result.code == 0, result.errors
    with (out / "neighbours.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["query"] for row in rows] == [str(q) for q in queries for _ in range(3)]
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2
    first = [rows[0], rows[3]]
    assert [row["source"] for row in first] == ["b/05.png", "a/18.png"]
    assert [row["label"] for row in first] == ["b", "a"]
    assert all(row["cosine"] == "1.000000" for row in first)
    for row in rows:
        assert re.search(
            rf"{float(row['cosine']):.4f} +{row['source']} +{row['label']}", result.out
        )
    page = Page(out / "neighbours.html")
    shown = [number_of(picture) for picture in page.pictures]
    expected = []
    for query, number in zip(queries, (50, 180), strict=True):
        found = [row for row in rows if row["query"] == str(query)]
        expected += [number, *(10 * int(row["source"][2:4]) for row in found)]
    assert shown == expected
    captions = [" ".join(caption.split()) for caption in page.captions]
    assert captions[:2] == ["query q=1.5.png", "1.0000 · b b/05.png"]
    assert all(link.startswith("data:image/png;base64,") for link in page.links)


def test_neighbours_of_unlabelled_images_lie_beside_what_is_kept_of_them(
    student_run: StudentRun, tmp_path: Path
) -> None:
    images = write_folder(tmp_path / "flat", {f"{n}.png": n for n in range(9)})
    result = neighbours(student_run, images, images / "3.png", "real.background=[0, 0, 0]")
    assert result.code == 0, result.errors
    assert "None" not in (home(student_run) / "neighbours.html").read_text()
    assert len((home(student_run) / "neighbours.csv").read_text().splitlines()) == 9


def test_mistakes_are_one_line_each(student_run: StudentRun, images: Path, tmp_path: Path) -> None:
    empty, text = tmp_path / "empty", write(tmp_path / "text.png", b"text")
    empty.mkdir()
    query = images / "a" / "00.png"
    assert_mistake(embed(student_run, empty), "IMAGES: no images in", empty)
    assert_mistake(embed(student_run, tmp_path / "absent"), "IMAGES: ", "absent is not there")
    assert_mistake(embed(student_run, images, "--out", tmp_path), f"--out={tmp_path}: is a folder")
    assert_mistake(embed(student_run, images, "--out", "a.csv"), "--out=a.csv")
    assert_mistake(embed(student_run, images, "--format", "csv"), "--format=csv")
    assert_mistake(embed(student_run, images, query), f"{query}: IMAGES is one place")
    assert_mistake(embed(student_run, images, "ray.eval_worker=2"), "ray.eval_worker")
    assert_mistake(neighbours(student_run, images, text), f"QUERY: {text}: not an image")
    assert_mistake(neighbours(student_run, images, "absent.png"), "QUERY: absent.png")
    assert_mistake(neighbours(student_run, images, "ray.eval_workers=0"), "QUERY: missing")
    assert_mistake(neighbours(student_run, images, query, "--k", 21), "--k=21", "20 images")
    assert_mistake(
        neighbours(student_run, images, query, "--out", text), f"--out={text}: is a file"
    )
    assert_mistake(run("embed", empty, images), f"{empty}: a folder without config.json")
    other = run("embed", student_run.config_file, images, "name=other")
    assert_mistake(other, "train stage has not finished", "python -m pipeline train")
    assert not list(tmp_path.glob("**/embeddings.*"))


def test_exported_folder_stands_in_for_a_run(
    student_run: StudentRun, images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    succeed("export", student_run.config_file, "--out", folder)
    places = [f"paths.{name}={tmp_path / 'else' / name}" for name in ("runs", "store")]
    ours, theirs = tmp_path / "ours.parquet", tmp_path / "theirs.parquet"
    succeed("embed", student_run.config_file, images, "--out", ours)
    succeed("embed", folder, images, "hardware.device=cpu", *places, "--out", theirs)
    assert pq.read_table(ours).equals(pq.read_table(theirs))
    succeed("neighbours", folder, images, images / "a" / "00.png", "hardware.device=cpu", *places)
    (page,) = tmp_path.glob("else/runs/exported/embed/*/neighbours.html")
    assert "exported" in page.read_text()
