"""The killed extraction at toy size, and its table."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.measure import shown
from benchmarks.scale.extraction import (
    ExtractionSize,
    ExtractionTurn,
    tabulate_extractions,
    take_extractions,
)
from benchmarks.scale.process_tree import SeenProcess

SIZE = ExtractionSize(num_images=4200, side=16, num_workers=0, num_kills=1)


def turn(digests: dict[str, str], *workers: SeenProcess) -> ExtractionTurn:
    return ExtractionTurn(
        digests=digests,
        num_bytes=420_000,
        num_leftovers=0,
        killed_at=(1, 2),
        images_per_s=100.0,
        total_s=42.0,
        driver=SeenProcess(1, "1", set(), 700.0, 300.0),
        workers=workers,
    )


def cells(here: ExtractionTurn, killed: ExtractionTurn) -> dict[str, list[str]]:
    table = tabulate_extractions(SIZE, here, killed)
    return {str(name): [shown(cell) for cell in row] for name, *row in table.rows}


def test_table_counts_blocks_of_the_same_name_and_content() -> None:
    table = cells(turn({"a": "1", "b": "2", "c": "3"}), turn({"a": "1", "b": "9", "d": "3"}))
    assert table["blocks"] == ["3", "3"]
    assert table["of them the same"] == ["", "1"]
    assert table["bytes/image"] == ["100", "100"]


def test_table_has_the_most_of_all_worker_processes() -> None:
    workers = SeenProcess(2, "1", set(), 900.0, 100.0), SeenProcess(3, "1", set(), 800.0, 500.0)
    table = cells(turn({}), turn({}, *workers))
    assert table["worker processes"] == ["0", "2"]
    assert table["largest worker, peak MB"] == ["", "900"]
    assert table["workers, private MB at most"] == ["", "500"]


@pytest.mark.slow
def test_extraction_that_was_killed_leaves_the_same_blocks(tmp_path: Path) -> None:
    here, killed = take_extractions(SIZE, tmp_path)
    assert len(here.digests) == 3
    assert killed.digests == here.digests
    assert here.killed_at == ()
    assert here.driver.peak_mb > here.driver.anonymous_mb > 10
    assert here.workers == ()
    assert here.num_bytes > 4200 * 4 * 32
