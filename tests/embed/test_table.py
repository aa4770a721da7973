"""Files of embeddings, read as their users read them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open

from pipeline.embed import embedded as module
from pipeline.embed import table
from pipeline.embed.embedded import Embedded
from pipeline.embed.table import METADATA, WRITERS, choose_format, write_table
from shards.errors import UserError
from tests.support.embedding_runs import DIMS, StudentRun
from tests.support.real_images import write_folder

DESCRIPTION = {"student": "é", "view_size": 8}
SOURCES = ["0.png", "a/1.png", "a/2.png", "bé/3.png", "bé/4.png"]
LABELS = [None, "a", "a", "bé", "bé"]


@pytest.fixture
def labelled(student_run: StudentRun, tmp_path: Path) -> Embedded:
    files = {source: number for number, source in enumerate(SOURCES)}
    return student_run.embed(write_folder(tmp_path / "labelled", files))


@pytest.fixture
def unlabelled(student_run: StudentRun, tmp_path: Path) -> Embedded:
    return student_run.embed(write_folder(tmp_path / "unlabelled", {"1.png": 1, "2.png": 2}))


def whole(embedded: Embedded) -> np.ndarray:
    return np.concatenate([batch.embeddings for batch in embedded.batches()])


def written(folder: Path, kind: str, embedded: Embedded) -> Path:
    path = folder / f"embeddings.{kind}"
    write_table(path, kind, embedded, DESCRIPTION)
    return path


def test_parquet_is_read_by_pyarrow_and_pandas(
    tmp_path: Path, labelled: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_NUMBERS", 2 * DIMS)
    path = written(tmp_path, "parquet", labelled)
    found = pq.read_table(path)
    assert found.column_names == ["source", "embedding", "label"]
    assert found.schema.field("embedding").type == pa.list_(pa.float32(), DIMS)
    assert found["source"].to_pylist() == SOURCES
    assert found["label"].to_pylist() == LABELS
    embeddings = np.stack(pd.read_parquet(path)["embedding"])
    np.testing.assert_array_equal(embeddings, whole(labelled))
    assert embeddings.dtype == np.float32
    assert json.loads(found.schema.metadata[METADATA.encode()]) == DESCRIPTION
    assert pq.ParquetFile(path).num_row_groups == 3


def test_npz_is_read_by_numpy_without_pickle(tmp_path: Path, labelled: Embedded) -> None:
    with np.load(written(tmp_path, "npz", labelled), allow_pickle=False) as found:
        assert set(found.files) == {"embedding", "source", "label", "metadata"}
        np.testing.assert_array_equal(found["embedding"], whole(labelled))
        assert found["embedding"].dtype == np.float32
        assert found["source"].tolist() == SOURCES
        assert found["label"].tolist() == ["" if label is None else label for label in LABELS]
        assert json.loads(str(found["metadata"])) == DESCRIPTION


def test_safetensors_is_read_by_its_own_reader(tmp_path: Path, labelled: Embedded) -> None:
    with safe_open(written(tmp_path, "safetensors", labelled), "np") as found:
        assert list(found.keys()) == ["embedding"]
        np.testing.assert_array_equal(found.get_tensor("embedding"), whole(labelled))
        metadata = found.metadata()
    assert json.loads(metadata["source"]) == SOURCES
    assert json.loads(metadata["label"]) == LABELS
    assert json.loads(metadata[METADATA]) == DESCRIPTION


def test_without_labels_there_is_no_label(tmp_path: Path, unlabelled: Embedded) -> None:
    paths = {kind: written(tmp_path, kind, unlabelled) for kind in WRITERS}
    assert pq.read_table(paths["parquet"]).column_names == ["source", "embedding"]
    with np.load(paths["npz"]) as found:
        assert set(found.files) == {"embedding", "source", "metadata"}
    with safe_open(paths["safetensors"], "np") as file:
        assert file.metadata().keys() == {"source", METADATA}


@pytest.mark.parametrize("kind", WRITERS)
def test_the_same_embeddings_are_the_same_bytes(
    tmp_path: Path, unlabelled: Embedded, kind: str
) -> None:
    first = written(tmp_path / "a", kind, unlabelled)
    assert written(tmp_path / "b", kind, unlabelled).read_bytes() == first.read_bytes()


@pytest.mark.parametrize("kind", WRITERS)
def test_file_that_was_begun_is_not_there(
    tmp_path: Path, unlabelled: Embedded, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"embeddings.{kind}"
    path.write_bytes(b"of before")

    def fail(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(Embedded, "batches", fail)
    with pytest.raises(KeyboardInterrupt):
        write_table(path, kind, unlabelled, DESCRIPTION)
    assert path.read_bytes() == b"of before"
    assert [one.name for one in tmp_path.glob("*embeddings*")] == [path.name]
    assert not list(tmp_path.glob(".*.tmp"))


def test_more_names_than_safetensors_can_have_are_refused(
    tmp_path: Path, unlabelled: Embedded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "_LARGEST_HEADER", 100)
    with pytest.raises(UserError, match=r"^--format=safetensors: .* take parquet or npz$"):
        written(tmp_path, "safetensors", unlabelled)


@pytest.mark.parametrize(
    ("out", "kind", "chosen"),
    [
        (None, None, "parquet"),
        (None, "npz", "npz"),
        ("a.npz", None, "npz"),
        ("a.b.SafeTensors", None, "safetensors"),
        ("a.parquet", "parquet", "parquet"),
    ],
)
def test_format_is_the_suffixs(out: str | None, kind: str | None, chosen: str) -> None:
    assert choose_format(None if out is None else Path(out), kind) == chosen


@pytest.mark.parametrize(
    ("out", "kind", "mention"),
    [
        ("a.csv", None, "--out=a.csv: its suffix is none of .parquet, .npz, .safetensors"),
        ("a", None, "--out=a: its suffix"),
        ("a.npz", "parquet", "--out=a.npz: --format=parquet is another format"),
        ("a.csv", "npz", "--out=a.csv: its suffix"),
        (None, "csv", "--format=csv: is none of parquet, npz, safetensors"),
    ],
)
def test_formats_that_do_not_agree_are_refused(
    out: str | None, kind: str | None, mention: str
) -> None:
    with pytest.raises(UserError) as raised:
        choose_format(None if out is None else Path(out), kind)
    assert mention in str(raised.value)
