"""The road in one process, where Ray, WebDataset, FAISS and others are not installed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from benchmarks.absent import NOT_ON_A_BORROWED_GPU, environment_without
from tests.support.command_line import Result, command, run_process, succeed
from tests.support.workspace import ROOT, Workspace, environment

pytestmark = pytest.mark.slow
ONE_IMAGE = 100 / 360 + 1e-3
"""Percent of the digits' test images."""
SETTINGS = (
    f"teacher.checkpoint={ROOT / 'teachers' / 'digits'}",
    "real.limit=10_per_class",
    "eval.baselines=false",
    "eval.few_labels=[]",
    "eval.seeds=[0]",
)


def run_without(packages: Sequence[str], *arguments: object) -> Result:
    """The command line on a machine that lacks these packages."""
    hidden = environment_without(*packages, environment=environment())
    return run_process(command(*arguments), **hidden)


def results(workspace: Workspace, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        (workspace.folder / "runs" / name / "results.json").read_text()
    )
    return rows


def test_run_without_ray_webdataset_faiss_and_umap_has_the_same_results(
    workspace: Workspace,
) -> None:
    given = (workspace.config, "name=without", *SETTINGS, "eval.embedding_samples=100")
    code, _, errors = run_without(NOT_ON_A_BORROWED_GPU, "run", *given)
    assert code == 0, errors
    assert errors.count("FAISS is not installed") == 1
    assert errors.count("no embedding plot: UMAP is not installed") == 1

    succeed("run", workspace.config, "name=with", *SETTINGS)
    for row, expected in zip(
        results(workspace, "without"), results(workspace, "with"), strict=True
    ):
        if row["probe"] == "knn":
            assert row["protocol"] == expected["protocol"] + " [searched by torch, without FAISS]"
            row["protocol"] = expected["protocol"]
            # Of a student hardly trained, neighbours may tie to float32's precision: one image.
            assert row["top1_mean"] == pytest.approx(expected["top1_mean"], abs=ONE_IMAGE)
            assert row["top1_std"] == pytest.approx(expected["top1_std"], abs=ONE_IMAGE)
            row |= {name: expected[name] for name in ("top1_mean", "top1_std")}
        assert row == expected

    runs = workspace.folder / "runs"
    table = succeed("results", "--runs", runs, "--compare", "with", "without")
    assert "kNN" in table.out


def test_generate_on_ray_where_it_is_absent_says_how_to_do_without(workspace: Workspace) -> None:
    succeed("real", workspace.config)
    code, _, errors = run_without(("ray",), "generate", workspace.config, "ray.render_workers=2")
    assert code == 2, errors
    assert "ray.render_workers=0" in errors
