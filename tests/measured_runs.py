"""Runs made through the command line whose every probe and seed is in the ledger."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from pipeline.config import Config
from pipeline.config_file import load_config
from pipeline.eval.extract import Representation, extract
from pipeline.eval.probes import run_probes
from pipeline.eval.stage import load_student
from pipeline.record import read_record, require_record
from pipeline.results.ledger import Number, append
from pipeline.results.lineage import read_lineage, split_digest
from pipeline.stores import real_shards
from tests.stored_pools import TINY_TRAINING, Site

TINY = (*TINY_TRAINING, "train.epochs=1", "eval.baselines=false")


def make_run(site: Site, *overrides: str) -> None:
    for stage in ("real", "generate", "train", "eval"):
        site.stage(stage, *overrides)
    measure(config_of(site, *overrides))


def arguments(site: Site, *overrides: str) -> list[str]:
    paths = [f"paths.store={site.store}", f"paths.runs={site.runs}"]
    return [str(site.config), *paths, *overrides]


def config_of(site: Site, *overrides: str) -> Config:
    path, *changes = arguments(site, *overrides)
    return load_config(Path(path), changes)


def measure(config: Config) -> Path:
    """Every probe of the run's student with every seed by itself, appended to the ledger."""
    real = require_record(config.run_dir / "real", "real", config.real)
    lineage = asdict(read_lineage(config, "cpu"))
    readers = [real_shards(config, split).open() for split in ("train", "test")]
    device = torch.device("cpu")
    train, test = (extract(load_student(config), r, config.train, device) for r in readers)
    of_train, of_test = (reader.gather("label", np.arange(len(reader))) for reader in readers)
    student = Representation(
        "student", train, of_train, np.arange(len(train)), test, of_test
    )  # fmt: skip
    numbers = [
        Number(
            task="classification",
            dataset=config.real.source,
            split_digest=split_digest(real, "train", "test"),
            metric="top1",
            value=result.top1_mean,
            probe=result.probe,
            labels=result.labels,
            seed=seed,
            representation=result.representation,
            protocol=result.protocol,
            created_at=datetime.now(UTC),
            **lineage,
        )
        for seed in config.eval.seeds
        for result in run_probes(student, config.eval.model_copy(update={"seeds": (seed,)}))
        if result.labels != "all" or seed == config.eval.seeds[0]
    ]
    record = read_record(config.run_dir / "eval")
    assert record is not None
    return append(config.paths.runs, record.fingerprint, numbers)
