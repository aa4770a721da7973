"""Images of which some or none have labels: all are learned from, those are measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.command_line import Cli, run
from tests.support.workspace import Workspace, make_workspace

LABELLED = ("train/a", "train/b", "test/a", "test/b")
UNLABELLED = ("train", "test", "train/unlabelled")
PER_FOLDER = 8


def write_images(root: Path) -> None:
    generator = np.random.default_rng(0)
    for folder in (*LABELLED, *UNLABELLED):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(PER_FOLDER):
            pixels = generator.integers(0, 256, (16, 16, 3)).astype(np.uint8)
            if folder.endswith("a"):
                pixels //= 4
            Image.fromarray(pixels).save(root / folder / f"{number}.png")


@pytest.mark.slow
def test_numbers_are_of_the_labelled_images_of_both_splits(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    write_images(tmp_path / "images")
    arguments = (
        "real.source=folder",
        f"real.path={tmp_path / 'images'}",
        "train.epochs=1",
        "eval.few_labels=[]",
    )
    for stage in ("real", "generate", "train", "eval", "report"):
        result = run(stage, str(workspace.config), *arguments, "eval.probes=[knn]")
        assert result.code == 0, result.errors
    folder = tmp_path / "runs" / "tiny"
    record = json.loads((folder / "real" / "record.json").read_text())
    assert record["outputs"]["num_samples"] == {"train": 4 * PER_FOLDER, "test": 3 * PER_FOLDER}
    (confusions,) = (folder / "eval").glob("confusion*.json")
    counts = np.array(json.loads(confusions.read_text())["counts"])
    assert counts.sum() == 2 * PER_FOLDER
    assert counts.shape == (2, 2)
    neighbours = json.loads((folder / "eval" / "neighbours.json").read_text())
    assert set(neighbours["test"]) <= set(range(PER_FOLDER, 3 * PER_FOLDER)), (
        "behind the unlabelled"
    )


@pytest.mark.slow
def test_images_without_labels_are_evaluated_and_the_page_says_what_labels_would_add(
    cli: Cli, workspace: Workspace
) -> None:
    folder = workspace.folder / "images" / "train"
    folder.mkdir(parents=True)
    for index in range(8):
        Image.new("RGB", (16, 16), (index, 0, 0)).save(folder / f"{index}.png")
    flat = ("real.source=folder", f"real.path={workspace.folder / 'images'}", "train.epochs=1")
    code, _, errors = cli("run", *flat)
    assert code == 0, "training without labels is a whole run"
    assert "eval.sets.NAME" in errors
    page = (workspace.folder / "runs" / "tiny" / "report.html").read_text()
    assert "eval.sets.NAME" in page
    assert "uniformity" in page
