"""Both domains of a run, compared by every measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pipeline.config.student import StudentConfig
from pipeline.config.train import TrainConfig
from pipeline.eval.domains.compare import METRICS, Domains, compare_domains
from pipeline.eval.domains.memorisation import TESTS
from pipeline.student.backbone import build_backbone
from pipeline.student.extraction import Frozen, represent
from pipeline.student.view_size import SizedImages
from pipeline.teacher.quality import build_feature_space
from tests.support.labelled_images import make_images
from tests.support.shard_sets import smooth_images

SEEN = ("train", "synthetic")
CPU = torch.device("cpu")


def test_compare_domains_measures_what_it_announces(tmp_path: Path) -> None:
    parts = [(smooth_images(64, seed), np.zeros(64, np.int64)) for seed in range(4)]
    real = make_images(tmp_path / "real", parts[0], parts[1])
    made = make_images(tmp_path / "made", parts[2])
    config = TrainConfig(student=StudentConfig(width=2, embedding_dim=4))
    readers = {"train": real.train, "test": real.test, "synthetic": made.train}
    images = {name: SizedImages(reader, 12) for name, reader in readers.items()}
    domains = Domains(images, max_samples=64, seed=0)
    student = build_backbone(config.student, seed=0)
    space = build_feature_space(None, CPU)
    network = Frozen(student, config.pixel_mean, config.pixel_std)
    train, synthetic = (
        next(represent(network, images[name], [np.arange(64)], CPU)) for name in SEEN
    )
    found = list(compare_domains(domains, train, synthetic, space, CPU))
    assert tuple(number.metric for number in found) == METRICS
    assert all(np.isfinite(number.value) for number in found)


def test_compare_domains_without_test_images_has_no_test_of_memorisation(tmp_path: Path) -> None:
    real = make_images(tmp_path / "real", (smooth_images(64, 0), np.zeros(64, np.int64)))
    images = {name: SizedImages(real.train, 12) for name in SEEN}
    vectors = np.random.default_rng(0).standard_normal((64, 8)).astype(np.float32)
    space = build_feature_space(None, CPU)
    found = list(compare_domains(Domains(images, 64, 0), vectors, vectors, space, CPU))
    assert [number.metric for number in found] == [name for name in METRICS if name not in TESTS]
