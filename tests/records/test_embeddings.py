"""What `eval` leaves of the spaces: as it was when it is read, and refused when damaged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.records.embeddings import read_embeddings, write_embeddings
from shards.errors import UserError
from tests.support.embedded import make_embeddings


def test_read_embeddings_finds_what_was_written(tmp_path: Path) -> None:
    written = make_embeddings(30)
    write_embeddings(tmp_path / "embeddings.json", written)
    found = read_embeddings(tmp_path / "embeddings.json")
    np.testing.assert_array_equal(found.labels, written.labels)
    assert found.labels.dtype == np.int64
    np.testing.assert_allclose(found.confidences, written.confidences, atol=5e-4)
    for space, expected in zip(found.spaces, written.spaces, strict=True):
        np.testing.assert_allclose(space.coordinates, expected.coordinates, atol=6e-4)
        assert space.coordinates.dtype == np.float32
        assert replace(space, coordinates=0) == replace(expected, coordinates=0)
    for name in ("class_names", "classifier_accuracy", "chance_agreement", "protocols"):
        assert getattr(found, name) == getattr(written, name)
    assert found.to_json() == written.to_json()


def test_embeddings_json_is_compact() -> None:
    embeddings = make_embeddings(500)
    num_numbers = 500 * (2 * len(embeddings.spaces) + 2)
    assert len(embeddings.to_json()) < 1000 + 9 * num_numbers


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"labels"', '"names"'),
        lambda text: text.replace('"labels":[', '"labels":[0,'),
        lambda text: text.replace('"chance_agreement"', '"else"'),
    ],
    ids=["truncated", "another type", "no labels", "a label too many", "unknown field"],
)
def test_read_embeddings_damaged_file_is_named_with_the_remedy(
    tmp_path: Path, damage: object
) -> None:
    assert callable(damage)
    path = tmp_path / "embeddings.json"
    path.write_text(damage(make_embeddings(20).to_json()))
    with pytest.raises(UserError, match=r"embeddings\.json: missing or damaged .*make eval"):
        read_embeddings(path)


def test_read_embeddings_missing_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"embeddings\.json: missing or damaged .*make eval"):
        read_embeddings(tmp_path / "embeddings.json")


def test_embeddings_that_do_not_fit_each_other_are_refused() -> None:
    whole = make_embeddings(20)
    with pytest.raises(ValueError, match="20 labels need"):
        replace(whole, confidences=whole.confidences[1:])
    with pytest.raises(ValueError, match="20 labels need"):
        replace(whole, spaces=make_embeddings(21).spaces)
    with pytest.raises(ValueError, match="labels must lie"):
        replace(whole, class_names=whole.class_names[:1])
