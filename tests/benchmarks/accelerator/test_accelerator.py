"""The two commands for a borrowed GPU, on tiny images in the layout of the real archive."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.accelerator import parts, table
from benchmarks.accelerator.choices import (
    choose_compilation,
    choose_width,
    equal_views,
    find_teacher,
)
from benchmarks.accelerator.findings import Figure, Findings, find_value, read_figures
from benchmarks.accelerator.images import prepare_images
from benchmarks.accelerator.measure import measure_parts
from benchmarks.accelerator.parts import Clock, Part, PartError, run_command
from benchmarks.accelerator.place import METHODS, Place, Setting, method_file
from benchmarks.accelerator.train import Limits, Road
from shards.errors import UserError

CLASSES = ("cat", "dog")
TINY = (
    "train.global_batch=16",
    "teacher.num_images=320",
    "teacher.quality_images=16",
    "teacher.snapshot_images=[16]",
    "generate.num_samples=250",
)
DEAF = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"


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


@pytest.fixture
def findings(tmp_path: Path) -> Findings:
    return Findings(tmp_path / "results" / "command.json", {"is_toy": True})


def run_python(code: str, tmp_path: Path, clock: Clock) -> str:
    ended = run_command([sys.executable, "-c", code], clock, tmp_path / "results" / "part.log")
    return "ended" if ended else "stopped"


def unpacked(pack: Path, folder: Path) -> Path:
    with tarfile.open(pack) as archive:
        archive.extractall(folder, filter="data")
    return folder


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


@pytest.mark.parametrize("content", [None, b"no archive", "empty"])
def test_images_of_something_else_are_refused(tmp_path: Path, content: bytes | str | None) -> None:
    path = tmp_path / "data.tar"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        tarfile.open(path, "w").close()
    with pytest.raises(UserError, match=r"data\.tar"):
        prepare_images(path, tmp_path / "images")


@pytest.mark.slow
def test_parts_that_fail_or_take_too_long_stop_no_other_and_are_packed(
    tmp_path: Path, findings: Findings
) -> None:
    def skip(_: Clock) -> str:
        raise PartError("skipped", "no teacher")

    def step(name: str, limit_s: float, code: str) -> Part:
        return Part(name, limit_s, partial(run_python, code, tmp_path))

    outcomes = parts.run_parts(
        [
            step("broken", 3, "print('why'); raise SystemExit(3)"),
            step("deaf", 0, DEAF),
            Part("idle", 0, skip),
            step("sound", 30, "print('fine')"),
        ],
        tmp_path / "results",
        tmp_path / "out" / "command.tar.gz",
        findings,
    )
    expected = ["failed", "out of time", "skipped", "passed"]
    assert [outcome.state for outcome in outcomes] == expected
    back = unpacked(tmp_path / "out" / "command.tar.gz", tmp_path / "back") / "results"
    packed = json.loads((back / "command.json").read_text())["outcomes"]
    assert [outcome["state"] for outcome in packed] == expected
    assert "exit code 3" in packed[0]["note"]
    log = (back / "part.log").read_text()
    assert "why" in log
    assert "fine" in log


def test_part_that_ends_early_gives_its_time_to_the_next(
    tmp_path: Path, findings: Findings
) -> None:
    left: list[float] = []

    def look(clock: Clock) -> str:
        left.append(clock.left_s())
        return ""

    pack = tmp_path / "command.tar.gz"
    parts.run_parts([Part("a", 10, look), Part("b", 5, look)], tmp_path, pack, findings)
    assert left == pytest.approx([10, 15], abs=1)


def test_pack_is_there_before_the_first_part_and_after_one_that_ends_the_process(
    tmp_path: Path, findings: Findings
) -> None:
    pack = tmp_path / "command.tar.gz"

    def die(_: Clock) -> str:
        assert pack.exists()
        findings.add("half", 0.5, "s")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parts.run_parts([Part("last", 10, die)], findings.path.parent, pack, findings)
    back = unpacked(pack, tmp_path / "back") / "results"
    assert find_value(read_figures(back), "half") == 0.5


@pytest.mark.slow
def test_command_is_stopped_by_a_signal_that_it_may_follow(tmp_path: Path) -> None:
    code = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: print('saved')"
    command, log = [sys.executable, "-c", code], tmp_path / "log"
    clock = Clock(time.monotonic() + 6)
    assert not run_command(command, clock, log, saving_s=4)
    assert "saved" in log.read_text()


def test_pack_keeps_the_end_of_logs_and_leaves_out_what_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "long.log").write_text("x" * 2**19 + "end")
    (folder / "figures.json").write_text("{}")
    (folder / "huge.png").write_bytes(bytes(2**20))
    monkeypatch.setattr(parts, "PACK_BYTES", 2**19)
    parts.write_pack(folder, tmp_path / "pack.tar.gz")
    back = unpacked(tmp_path / "pack.tar.gz", tmp_path / "back") / "results"
    assert sorted(path.name for path in back.iterdir()) == ["figures.json", "long.log"]
    log = (back / "long.log").read_text()
    assert log.endswith("end")
    assert len(log) <= 2**18


def test_limits_of_the_parts_keep_both_commands_in_their_bounds(tmp_path: Path) -> None:
    place = Place("measure", tmp_path, Setting(False, (), torch.device("cpu")))
    assert sum(part.limit_s for part in measure_parts(place)) <= 330
    road = Road(place, Findings(tmp_path / "x.json", {}), Limits(), tmp_path)
    assert sum(part.limit_s for part in road.parts()) <= 450
    assert all(Path(method_file(method)).exists() for method in METHODS)


def test_findings_are_on_disk_after_each_and_say_what_failed(findings: Findings) -> None:
    findings.attempt("speed", "images/s", lambda: 5.0, "off")
    findings.attempt("launches", "per step", lambda: None)
    assert not findings.has_failed
    findings.attempt("broken", "ms", lambda: 1 / 0)
    assert findings.has_failed
    figures = read_figures(findings.path.parent)
    assert [figure.value for figure in figures] == [5.0, None, None]
    assert figures[1].problem == "needs a GPU"
    assert "ZeroDivisionError" in figures[2].problem


def test_epochs_are_those_of_equal_views_that_the_slower_method_has_time_for() -> None:
    views, step_s = {"span": 768, "vicreg": 1024}, {"span": 0.01, "vicreg": 0.015}
    epochs = equal_views(views, step_s, epoch_steps=97, seconds=70)
    assert epochs["span"] * 768 == epochs["vicreg"] * 1024
    assert epochs == {"span": 64, "vicreg": 48}  # 16 times 4 and 3: 48 x 97 x 15 ms = 69.84 s
    assert equal_views(views, step_s, epoch_steps=97, seconds=0) == {"span": 4, "vicreg": 3}
    assert equal_views({"a": 8, "b": 8}, {"a": 1, "b": 1}, 1, 5) == {"a": 5, "b": 5}


def test_width_is_the_widest_that_sees_enough_images_else_the_fastest() -> None:
    def figures(**step_ms: float) -> list[Figure]:
        return [
            Figure(f"teacher step, {c[1:]} channels", ms, "ms", "off") for c, ms in step_ms.items()
        ]

    widths = (256, 512, 128)
    found = figures(w256=9.0, w512=25.0, w128=8.0)
    assert choose_width(found, widths, 64, seconds=160) == 256  # 1.1 M images; 410,000 of 512
    assert choose_width(found, widths, 64, seconds=400) == 512
    assert choose_width(found, widths, 64, seconds=10) == 128
    assert choose_width([], widths, 64, seconds=160) is None


def test_students_are_compiled_if_every_methods_compiled_step_was_timed() -> None:
    plain = [Figure(f"{name}: step", ms, "ms", "off") for name, ms in (("a", 30.0), ("b", 40.0))]
    with pytest.raises(PartError, match="no step"):
        choose_compilation(plain[:1], ("a", "b"))
    stopped = [*plain, Figure("a: step", 9.0, "ms", "default")]
    assert choose_compilation(stopped, ("a", "b")) == ("off", {"a": 30.0, "b": 40.0})
    both = [*stopped, Figure("b: step", 12.0, "ms", "default")]
    assert choose_compilation(both, ("a", "b")) == ("default", {"a": 9.0, "b": 12.0})


def test_teacher_is_the_one_that_was_left_else_the_last_snapshot(tmp_path: Path) -> None:
    with pytest.raises(PartError):
        find_teacher(tmp_path)
    for name in ("snapshots/000000064", "snapshots/000000128", "snapshots/broken"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("snapshots/000000064", "snapshots/000000128"):
        (tmp_path / name / "teacher.json").write_text("{}")
    assert find_teacher(tmp_path) == tmp_path / "snapshots/000000128"
    (tmp_path / "teacher.json").write_text("{}")
    assert find_teacher(tmp_path) == tmp_path


def test_table_sets_what_was_measured_beside_what_was_predicted(findings: Findings) -> None:
    rows = {row[0]: row[1:] for row in table.tabulate([findings.path.parent])}
    assert rows["student: step"] == ("9–10 ms", "not measured", "", "")
    findings.add("student: step", 21.0, "ms", "off")
    findings.add("student: step", 11.04, "ms", "default")
    findings.attempt("something else", "ms", lambda: 1 / 0)
    rows = {row[0]: row[1:] for row in table.tabulate([findings.path.parent])}
    assert rows["student: step"] == ("9–10 ms", "21 ms", "11 ms", "")
    assert rows["something else"][1].startswith("ZeroDivisionError")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.accelerator", *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
def test_command_line_mistake_is_one_line() -> None:
    result = run("train", "--data", "nowhere.tar")
    assert result.returncode == 2
    assert "nowhere.tar" in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--out", "--folder"])
def test_folder_that_cannot_be_made_is_named_before_anything_is_measured(
    option: str, tmp_path: Path
) -> None:
    (tmp_path / "taken").write_text("a file")
    folders = {"--folder": tmp_path / "folder", "--out": tmp_path / "out"}
    folders[option] = tmp_path / "taken"
    words = [str(word) for pair in folders.items() for word in pair]
    result = run("measure", "--toy", *words)
    assert result.returncode == 2
    assert f"error: {option}={tmp_path / 'taken'}: " in result.stdout
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_train_at_toy_size_ends_in_two_students_of_equal_views(
    archive: Path, tmp_path: Path
) -> None:
    options = ("--data", str(archive), "--folder", str(tmp_path), "--out", str(tmp_path / "out"))
    result = run("train", "--toy", *options, *TINY)
    assert result.returncode == 0, result.stdout + result.stderr
    back = unpacked(tmp_path / "out" / "train.tar.gz", tmp_path / "back") / "train"
    figures = read_figures(back)
    views = {find_value(figures, f"{method}: views in all") for method in METHODS}
    assert len(views) == 1
    for method in METHODS:
        for probe in ("knn", "linear_sgd"):
            assert 0 <= (find_value(figures, f"{method}: {probe} top-1") or -1) <= 100
    assert "JPEG" in json.loads((back / "train.json").read_text())["data"]
