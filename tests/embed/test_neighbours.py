"""Nearest images of queries, which are brought to the student as the stored ones are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.embed.images import pack_images
from pipeline.embed.neighbours import choose_count, find_neighbours, read_queries
from shards.errors import UserError
from tests.support.embedding_runs import StudentRun, expected_embeddings, make_student_run
from tests.support.real_images import INPUTS, encode, smooth, tile, write, write_folder


def test_neighbours_are_the_nearest_by_cosine_over_all_splits(
    student_run: StudentRun, tmp_path: Path
) -> None:
    numbers = {"train/a/1.png": 1, "train/b/2.png": 90, "test/a/3.png": 180, "test/b/4.png": 250}
    embedded = student_run.embed(write_folder(tmp_path / "root", numbers))
    asked = {"x.webp": 85, "y.bmp": 180}
    for name, number in asked.items():
        write(tmp_path / name, tile(number, (30, 20)))
    subject = student_run.subject()
    queries = read_queries(subject, [str(tmp_path / name) for name in asked])
    found = find_neighbours(subject, embedded, queries, 3)
    keys = expected_embeddings(student_run.config, list(numbers.values()))
    unit = keys / np.linalg.norm(keys, axis=1, keepdims=True)
    for number, neighbours in zip(asked.values(), found, strict=True):
        query = expected_embeddings(student_run.config, [number])[0]
        cosines = unit @ (query / np.linalg.norm(query))
        order = np.argsort(-cosines)[:3]
        assert [one.rank for one in neighbours] == [1, 2, 3]
        assert [one.source for one in neighbours] == [list(numbers)[row] for row in order]
        assert [one.row for one in neighbours] == order.tolist()
        assert [one.label for one in neighbours] == [
            list(numbers)[row].split("/")[1] for row in order
        ]
        np.testing.assert_allclose([one.cosine for one in neighbours], cosines[order], atol=1e-5)


@pytest.mark.parametrize("codec", ["npy", "jpg"])
def test_identical_image_is_first_with_cosine_one(tmp_path: Path, codec: str) -> None:
    run = make_student_run(tmp_path / "run", image_codec=codec, image_quality=30)
    content = encode(smooth(60, 90))
    files: dict[str, bytes | int] = {f"{n}.png": 25 * n for n in range(7)}
    images = write_folder(tmp_path / "images", {**files, "same.png": content})
    subject = run.subject()
    queries = read_queries(subject, [str(write(tmp_path / "query.png", content))])
    ((first, second),) = find_neighbours(subject, run.embed(images), queries, 2)
    assert first.source == "same.png"
    assert f"{first.cosine:.4f}" == "1.0000"
    assert second.cosine < first.cosine


def test_query_that_is_no_image_is_named(student_run: StudentRun, tmp_path: Path) -> None:
    cut = INPUTS / "unreadable" / "cut-in-half.jpg"
    text = write(tmp_path / "text.png", b"text")
    for path in (text, cut, tmp_path, tmp_path / "absent.png"):
        with pytest.raises(UserError) as raised:
            read_queries(student_run.subject(), [str(path)])
        message = str(raised.value)
        assert message.startswith(f"QUERY: {path}")
        assert "\n" not in message


def test_more_neighbours_than_images_are_refused(student_run: StudentRun, tmp_path: Path) -> None:
    images = write_folder(tmp_path / "images", {"1.png": 1, "2.png": 2})
    packed = pack_images(student_run.config, str(images))
    assert choose_count(2, packed, 8) == choose_count(None, packed, 8) == 2
    with pytest.raises(UserError, match=r"^--k=3: there are 2 images; take --k=2 at most"):
        choose_count(3, packed, 8)
