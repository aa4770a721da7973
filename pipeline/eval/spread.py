"""What can be said of a student without any label: how evenly it spreads the images.

Neighbours: `measures/uniformity.py` has the measure, `stage.py` asks where nothing has labels.
"""

from __future__ import annotations

import numpy as np
import torch

from pipeline.config.root import Config
from pipeline.eval.subjects import Subject
from pipeline.measures.uniformity import uniformity
from pipeline.records.products import real_shards
from pipeline.results.ledger import Measurement
from pipeline.student.extraction import Extractor
from pipeline.student.vectors import Vectors
from pipeline.student.view_size import SizedImages

_MAX_IMAGES = 10_000
_PROTOCOL = (
    "log of the mean of exp(-2 |x - y|²) over all pairs of {count} train images, evenly chosen, of "
    "unit-normalised representations (Wang and Isola 2020): 0 where all are the same, about -4 "
    "where they are spread evenly"
)


def measure_spread(config: Config, subject: Subject, extractor: Extractor) -> Measurement | None:
    """Uniformity of the real train images; None of a single one."""
    images = SizedImages(real_shards(config, "train").open(), subject.side)
    count = min(len(images), _MAX_IMAGES)
    if count < 2:
        return None
    rows = np.linspace(0, len(images) - 1, count).astype(np.int64)
    found = extractor.extract(subject.network, images, rows, f"{subject.name} train")
    return Measurement(
        metric="uniformity",
        value=extractor.workers.run_one(_uniformity, found),
        seed=0,
        representation=subject.name,
        protocol=_PROTOCOL.format(count=count),
    )


def _uniformity(vectors: Vectors, device: torch.device) -> float:
    """Runs in this process or in a worker."""
    return uniformity(torch.from_numpy(vectors.array()))
