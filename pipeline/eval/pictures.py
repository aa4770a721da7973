"""What the report shows beside the numbers: confusions of classes, nearest neighbours."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from pipeline.config.root import Config
from pipeline.eval.labelled import LabelledSet
from pipeline.eval.probes.probe import Score
from pipeline.eval.subjects import Subject
from pipeline.measures.knn import nearest
from pipeline.records.products import pool_shards, real_shards
from pipeline.student.extraction import Extractor
from pipeline.student.vectors import Vectors
from pipeline.student.view_size import SizedImages

_NUM_QUERIES = 10
_NUM_NEIGHBOURS = 8
_MAX_IMAGES = 20_000


def count_confusions(labelled: LabelledSet, score: Score) -> dict[str, Any]:
    """Confusions of the test images of a set's first fold, by a probe."""
    labels = labelled.test.labels[labelled.folds[0].test]
    count = len(labelled.class_names)
    counts = np.zeros((count, count), dtype=int)
    np.add.at(counts, (labels, score.predictions), 1)
    return {
        "classes": labelled.class_names,
        "counts": counts.tolist(),  # a row for each true class
        "probe": score.top1.probe,
        "labels": score.top1.labels,
        "protocol": score.top1.protocol,
    }


def find_neighbours(
    config: Config, student: Subject, own: LabelledSet | None, extractor: Extractor
) -> dict[str, Any]:
    """For a few of the run's test images, or of its train images where it has no others, the
    nearest other train images and the nearest synthetic ones, by index and with their cosines. Of
    `own` labels only labelled images are looked at.
    """
    images = {
        split: SizedImages(real_shards(config, split).open(), student.side)
        for split in ("train", "test")
    }
    rows = {split: _spread(len(part), _MAX_IMAGES) for split, part in images.items()}
    if own is not None:
        rows = {"train": own.train.rows, "test": own.test.rows}
    split = "test" if len(rows["test"]) else "train"
    queries = rows[split][_spread(len(rows[split]), _NUM_QUERIES)]

    def represent(of: str, chosen: np.ndarray) -> Vectors:
        return extractor.extract(student.network, images[of], chosen, f"student {of}")

    domains = {"real": (represent("train", rows["train"]), rows["train"])}
    if config.train.reads_pool:
        reader = pool_shards(config, _MAX_IMAGES).open().images
        images["synthetic"] = SizedImages(reader, student.side)
        every = np.arange(len(reader))
        domains["synthetic"] = (represent("synthetic", every), every)
    asked = represent(split, rows[split]).take(np.searchsorted(rows[split], queries))
    found: dict[str, Any] = {"split": split, "test": queries.tolist()}
    for domain, (keys, places) in domains.items():
        is_among = domain == "real" and split == "train"  # each is its own nearest neighbour
        similarities, indices = extractor.workers.run_one(
            _search, asked, keys, _NUM_NEIGHBOURS + is_among
        )
        found[domain] = {
            "indices": places[indices[:, int(is_among) :]].tolist(),
            "cosines": similarities[:, int(is_among) :].tolist(),
        }
    return found


def _search(
    queries: Vectors, keys: Vectors, k: int, device: torch.device
) -> tuple[np.ndarray, np.ndarray]:
    """Runs in this process or in a worker."""
    return nearest(queries, keys, k)


def _spread(total: int, count: int) -> np.ndarray:
    """At most `count` rows of `total`, evenly."""
    return np.linspace(0, total - 1, min(total, count)).astype(np.int64)
