"""Runs for a borrowed GPU, on tiny images in the layout of the real archive."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.accelerator.images import prepare_images
from benchmarks.accelerator.results import STUDENT_COLUMNS, read_results, students_table
from benchmarks.accelerator.steps import METHODS, STEPS, find_step
from shards.errors import UserError

CLASSES = ("cat", "dog")
TINY = (
    "teacher.num_images=64",
    "teacher.snapshot_images=[]",
    "teacher.quality_images=16",
    "generate.num_samples=64",
    "generate.samples_per_shard=32",
    "generate.render_batch=32",
    "train.global_batch=16",
    "eval.sgd_epochs=1",
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`train/<class>/NNNN.jpg` and `test/…`, 12 and 4 of every class."""
    folder = tmp_path_factory.mktemp("archive")
    generator = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for class_name in CLASSES:
            place = folder / split / class_name
            place.mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{index:04d}.jpg")
    path = folder / "cifar10-jpeg.tar.xz"
    with tarfile.open(path, "w:xz") as file:
        for split in ("train", "test"):
            file.add(folder / split, split)
    return path


def test_images_of_an_archive_are_all_there_or_a_few_of_every_class(
    archive: Path, tmp_path: Path
) -> None:
    whole = prepare_images(archive, tmp_path / "whole")
    assert len(list(whole.glob("train/*/*.jpg"))) == 24
    assert len(list(whole.glob("test/*/*.jpg"))) == 8
    few = prepare_images(archive, tmp_path / "few", per_class=10)
    assert len(list(few.glob("train/*/*.jpg"))) == 20
    assert len(list(few.glob("test/*/*.jpg"))) == 2
    mark = (few / "complete").stat().st_mtime_ns
    prepare_images(archive, tmp_path / "few", per_class=10)
    assert (few / "complete").stat().st_mtime_ns == mark


def test_images_of_a_folder_are_taken_where_they_are(tmp_path: Path) -> None:
    assert prepare_images(tmp_path, tmp_path / "unused") == tmp_path


@pytest.mark.parametrize("content", [None, b"no archive", "empty"])
def test_images_of_something_else_are_refused(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "data.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        tarfile.open(path, "w").close()
    with pytest.raises(UserError, match=r"data\.tar"):
        prepare_images(path, tmp_path / "images")


def test_steps_have_distinct_names_and_methods_that_there_are() -> None:
    names = [step.name for step in STEPS]
    assert len(set(names)) == len(names)
    methods = {step.method for step in STEPS if step.kind == "student"}
    assert methods == set(METHODS)
    assert all((Path("configs/methods") / f"{method}.yaml").exists() for method in methods)
    step = find_step("squeeze-and-span-800")
    assert step is not None
    # 78 k steps of 768 views at 40,000 views/s, and two minutes of pool and probe
    assert step.minutes == pytest.approx(97 * 800 * 768 / 40_000 / 60 + 2, abs=0.1)
    assert find_step("squeeze-and-span-7") is None


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.accelerator", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def test_command_line_mistakes_are_one_line() -> None:
    for arguments, wanted in (
        (("run", "squeeze-and-spam"), "no such step"),
        (("run", "teacher", "--data", "nowhere.tar"), "nowhere.tar"),
    ):
        result = run(*arguments)
        assert result.returncode == 2
        assert wanted in result.stdout
        assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_teacher_stopped_and_carried_ends_in_a_student_with_a_result(
    archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def step(name: str, machine: str, *options: str) -> int:
        places = ("--data", str(archive), "--folder", str(tmp_path / machine), "--out", str(out))
        return run("run", name, "--toy", *places, *options, *TINY).returncode

    assert step("teacher", "first", "--minutes", "0.501") == 3  # packing takes half a minute of it
    assert step("teacher", "second", "--carried", str(out)) == 0
    assert step("vanilla-100", "second") == 0
    result = json.loads((out / "vanilla-100.json").read_text())
    assert result["is_toy"]
    assert "JPEG" in result["data"]
    assert {row["probe"] for row in result["figures"]} == {"linear_sgd", "knn"}
    assert (out / "vanilla-100.train.part0").exists()
    (row,) = students_table(read_results(out))
    assert row[STUDENT_COLUMNS.index("run")] == "vanilla-100"
    assert row[STUDENT_COLUMNS.index("paper (800 epochs, best)")] == "–"
