"""`results` through the command line, on tiny runs from real images to numbers."""

from __future__ import annotations

import csv
import errno
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from pipeline.records.products import Files
from pipeline.records.record import read_record
from pipeline.results import commands
from pipeline.results.ledger import part_path
from pipeline.results.lineage import lineage_of, read_lineage
from pipeline.stages import load_stage
from tests.support.command_line import Result, assert_mistake, run, succeed
from tests.support.measured_runs import TINY, arguments, config_of, make_run
from tests.support.stored_pools import Site

pytestmark = pytest.mark.slow


def results(site: Site, *arguments: object) -> Result:
    return run("results", "--runs", site.runs, *arguments)


def test_results_have_what_the_evaluation_measured(site: Site, tmp_path: Path) -> None:
    out = tmp_path / "numbers.csv"
    succeed("results", "--runs", site.runs, "--out", out, "run=tiny")
    rows = list(csv.DictReader(out.read_text().splitlines()))
    measured = json.loads((site.runs / "tiny" / "results.json").read_text())
    expected = {
        (row["probe"], row["labels"]): (row["top1_mean"], len(row["seeds"]), row["protocol"])
        for row in measured
        if row["representation"] == "student"
    }
    assert {(row["probe"], row["labels"]) for row in rows} == expected.keys()
    for row in rows:
        mean, size, protocol = expected[row["probe"], row["labels"]]
        assert float(row["mean"]) == pytest.approx(mean, abs=2e-3)  # both are rounded to 1e-3
        assert (int(row["n"]), row["protocol"]) == (size, protocol)
    record = json.loads((site.runs / "tiny" / "train" / "record.json").read_text())
    assert {row["student_digest"] for row in rows} == {record["outputs"]["student.safetensors"]}
    assert {row["pool_key"] for row in rows} == {site.pool.name}
    assert {row["pool_size"] for row in rows} == {"24"}


def test_results_of_a_config_are_its_runs_alone(site: Site) -> None:
    out = succeed("results", *arguments(site, *TINY)).out
    assert "tiny" in out
    assert "longer" not in out
    everything = succeed("results", "--runs", site.runs).out
    assert "longer" in everything
    assert " ± " in everything
    assert "k = 3" in everything


def test_results_compared_say_how_and_what_differs(site: Site) -> None:
    out = succeed("results", "--runs", site.runs, "--compare", "tiny", "longer").out
    assert "paired by seed, n = 3" in out
    assert "epochs (1; 3)" in out


def test_trainings_of_other_seeds_are_one_row_over_trainings(site: Site) -> None:
    make_run(site, *TINY, "train.seed=1", "name=tiny-seed1")
    out = succeed("results", "--runs", site.runs, "--over-trainings", "probe=knn").out
    assert "tiny*" in out
    assert "over trainings, n = 2" in out
    rows = [line.split()[0] for line in out.splitlines() if " student " in line]
    assert rows == ["tiny*", "longer"]


@pytest.mark.parametrize(
    "name",
    ["results.json", *(f"eval/{name}.json" for name in ("curves", "neighbours", "domains"))],
)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("[]")])
def test_eval_with_a_file_gone_or_changed_is_not_done(
    site: Site, name: str, damage: Callable[[Path], object]
) -> None:
    config = config_of(site, *TINY)
    assert load_stage("eval").find(config) is not None
    damage(site.runs / "tiny" / name)
    assert load_stage("eval").find(config) is None


def test_lineage_of_a_baseline_is_of_what_it_depends_on(site: Site) -> None:
    configs = [config_of(site, *TINY), config_of(site, *TINY, "train.epochs=3", "name=longer")]
    students = [read_lineage(config, "cpu") for config in configs]
    assert students[0].training_digest != students[1].training_digest
    for name, seed in (("untrained_student", 0), ("raw_pixels", None)):
        found = [lineage_of(name, c, s) for c, s in zip(configs, students, strict=True)]
        at = datetime.min
        assert replace(found[0], run="", created_at=at) == replace(found[1], run="", created_at=at)
        assert found[0].train_seed == seed
        assert found[0].student_digest is None
    assert lineage_of("student", configs[0], students[0]) == students[0]


@pytest.mark.parametrize(
    ("form", "words"), [("markdown", "| --- |"), ("latex", "\\toprule"), ("csv", "protocol,mean")]
)
def test_results_in_other_formats(site: Site, form: str, words: str) -> None:
    assert words in succeed("results", "--runs", site.runs, "--format", form).out


def test_results_of_other_protocols_are_refused_but_listed(site: Site) -> None:
    other = (*TINY, "train.epochs=3", "name=other", "eval.knn_k=2")
    make_run(site, *other)
    assert_mistake(results(site, "probe=knn"), "protocol", "k = 3", "k = 2")
    code, out, _ = results(site)
    assert code == 0
    assert "left out: " in out
    assert "k = 2" in out
    code, out, _ = results(site, "--compare", "tiny", "other", "probe=knn")
    assert code == 2
    assert not out
    assert results(site, "protocol=k = 3")[0] == 0
    code, out, _ = results(site, "--format", "csv")
    assert code == 0
    assert "k = 2" in out


@pytest.mark.parametrize("place", [".", "x.pdf"])
def test_results_are_written_to_files_of_known_kinds_only(
    site: Site, tmp_path: Path, place: str
) -> None:
    assert_mistake(results(site, "--out", tmp_path / place), "--out=")
    assert not any(tmp_path.glob("*.pdf"))


def test_results_on_a_full_disk_names_the_option_that_chooses_the_place(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(commands, "write_atomic", fail)
    result = run("results", *arguments(site, *TINY), "--out", tmp_path / "table.md")
    assert_mistake(result, "No space left on device; free some space", "--out …")
    assert "paths." not in result.errors


@pytest.mark.parametrize(
    ("given", "mentions"),
    [
        (("prob=knn",), ("did you mean probe?",)),
        (("probe=kn",), ("did you mean knn?",)),
        (("run=tini",), ("did you mean tiny?", "make eval")),
        (("tiny",), ("did you mean run=tiny?",)),
        (("paths.runs=x",), ("only after a config",)),
        (("--compare", "tiny", "longr"), ("did you mean longer?",)),
        (("nothing.yaml",), ("no such file",)),
    ],
)
def test_results_with_a_mistake_say_what_was_meant(
    site: Site, given: tuple[str, ...], mentions: tuple[str, ...]
) -> None:
    assert_mistake(results(site, *given), *mentions)


def test_results_without_numbers_say_what_to_run(site: Site, tmp_path: Path) -> None:
    assert_mistake(run("results", "--runs", tmp_path / "no"), "--runs=")
    assert_mistake(run("results", "--runs", site.source), "make eval")
    assert_mistake(run("results", *arguments(site, "name=new")), "no numbers of run new")


def test_results_with_a_damaged_part_name_it(site: Site) -> None:
    record = read_record(site.runs / "tiny" / "eval", Files)
    assert record is not None
    path = part_path(site.runs, "tiny", record.fingerprint)
    path.write_bytes(path.read_bytes()[:-20])
    assert_mistake(results(site), path, site.runs / "tiny", "make eval")
