"""What the report shows beside the numbers: confusions of classes, nearest neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from pipeline.config.root import Config
from pipeline.eval.extract import Representation, extract
from pipeline.eval.probes.probe import Score
from pipeline.eval.subjects import cache_folder, load_student
from pipeline.measures.knn import nearest
from pipeline.records.products import pool_shards, require_real
from pipeline.student.view_size import SizedImages
from shards.verify import verified

_NUM_QUERIES = 10
_NUM_NEIGHBOURS = 8
_MAX_SYNTHETIC = 20_000


def count_confusions(config: Config, scores: Sequence[Score], labels: np.ndarray) -> dict[str, Any]:
    """Confusions of test images by the student's first probe; `labels` [M] are the true ones."""
    score = next(score for score in scores if score.top1.representation == "student")
    names = require_real(config).outputs.class_names
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (labels, score.predictions), 1)
    return {
        "classes": names,
        "counts": counts.tolist(),  # a row for each true class
        "probe": score.top1.probe,
        "labels": score.top1.labels,
        "protocol": score.top1.protocol,
    }


def find_neighbours(
    config: Config, student: Representation, test_rows: np.ndarray, device: torch.device
) -> dict[str, Any]:
    """For a few of the test images, those at `test_rows` [M], the nearest labelled train images and
    the nearest synthetic ones, by index and with their cosines.
    """
    domains = {"real": student.train}
    if config.train.reads_pool:
        reader = verified(pool_shards(config, _MAX_SYNTHETIC).open().images)
        cache, backbone = cache_folder(config), load_student(config)
        images = SizedImages(reader, config.view_size)
        domains["synthetic"] = extract(backbone, images, config.train, device, cache=cache)
    queries = np.linspace(0, len(student.test) - 1, _NUM_QUERIES).astype(int)
    found: dict[str, Any] = {"test": test_rows[queries].tolist()}
    for domain, keys in domains.items():
        similarities, indices = nearest(student.test[queries], keys, _NUM_NEIGHBOURS)
        if domain == "real":
            indices = student.train_rows[indices]
        found[domain] = {"indices": indices.tolist(), "cosines": similarities.tolist()}
    return found
