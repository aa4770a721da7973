"""Runs made through the command line, whose numbers are in the ledger."""

from __future__ import annotations

from pathlib import Path

from pipeline.config.file import load_config
from pipeline.config.root import Config
from tests.support.stored_pools import TINY_TRAINING, Site

TINY = (
    *TINY_TRAINING,
    "train.epochs=1",
    "eval.probes=[linear, knn]",
    "eval.baselines=false",
    "eval.domain_samples=0",
)


def make_run(site: Site, *overrides: str) -> None:
    for stage in ("real", "generate", "train", "eval"):
        site.stage(stage, *overrides)


def arguments(site: Site, *overrides: str) -> list[str]:
    paths = [f"paths.store={site.store}", f"paths.runs={site.runs}"]
    return [str(site.config), *paths, *overrides]


def config_of(site: Site, *overrides: str) -> Config:
    path, *changes = arguments(site, *overrides)
    return load_config(Path(path), changes)
