"""Embeddings are those of the images whose names stand beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.embed import embedded as module
from pipeline.embed.embedded import Embedded, embed
from pipeline.embed.images import pack_images
from pipeline.embed.subject import open_subject
from pipeline.export.folder import write_export
from tests.support.embedding_runs import DIMS, StudentRun, expected_embeddings
from tests.support.real_images import number_of, write_folder


def rows(embedded: Embedded) -> dict[str, tuple[np.ndarray, str | None]]:
    found: dict[str, tuple[np.ndarray, str | None]] = {}
    for batch in embedded.batches():
        for source, label, vector in zip(
            batch.sources, batch.labels, batch.embeddings, strict=True
        ):
            found[source] = vector, label
    assert len(found) == len(embedded)
    return found


def assert_expected(run: StudentRun, embedded: Embedded, numbers: dict[str, int]) -> None:
    found = rows(embedded)
    assert found.keys() == numbers.keys()
    expected = expected_embeddings(run.config, list(numbers.values()))
    assert np.linalg.norm(expected[0] - expected[1]) > 0.01  # colours differ
    for vector, source in zip(expected, numbers, strict=True):
        np.testing.assert_allclose(found[source][0], vector, rtol=1e-4, atol=1e-5)


def test_embeddings_are_the_backbones_own_in_whatever_shards_and_splits(
    student_run: StudentRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_NUMBERS", 3 * DIMS)  # three a batch
    numbers = {f"train/{'ab'[n % 2]}/{n:02}.png": 10 * n for n in range(1, 13)}
    numbers |= {f"test/{'ab'[n % 2]}/{n}.png": 10 * n for n in range(13, 25)}
    bad = {f"train/{name}.png": b"" for name in ("a/00", "b/06", "b/999")}
    root = write_folder(tmp_path / "root", numbers | bad)
    embedded = student_run.embed(root, "real.unreadable=skip")
    assert embedded.num_dims == DIMS
    assert embedded.has_labels
    assert_expected(student_run, embedded, numbers)
    for source, (_, label) in rows(embedded).items():
        assert label == source.split("/")[1]
    for row, (source, _) in enumerate(embedded.names()):
        assert number_of(embedded.pixels(row)) == numbers[source]


def test_some_may_have_no_label(student_run: StudentRun, tmp_path: Path) -> None:
    numbers = {"a/1.png": 10, "2.png": 120, "unlabelled/3.png": 230}
    embedded = student_run.embed(write_folder(tmp_path / "images", numbers))
    assert_expected(student_run, embedded, numbers)
    labels = {source: label for source, (_, label) in rows(embedded).items()}
    assert labels == {"a/1.png": "a", "2.png": None, "unlabelled/3.png": None}
    assert not student_run.embed(write_folder(tmp_path / "flat", {"1.png": 1})).has_labels


def test_exported_folder_gives_the_runs_embeddings(student_run: StudentRun, tmp_path: Path) -> None:
    images = write_folder(tmp_path / "images", {f"{n}.png": n for n in range(7)})
    ours = student_run.embed(images)
    folder = write_export(student_run.config, tmp_path / "exported").folder
    places = [f"paths.{name}={tmp_path / 'else' / name}" for name in ("runs", "store")]
    subject = open_subject(folder, ["hardware.device=cpu", "ray.pack_workers=0", *places])
    theirs = embed(subject, pack_images(subject.config, str(images)))
    for mine, other in zip(ours.batches(), theirs.batches(), strict=True):
        assert mine.sources == other.sources
        np.testing.assert_array_equal(mine.embeddings, other.embeddings)
