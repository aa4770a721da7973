"""A run's two domains brought to `compare.py`, and its samples to the embedding plot, on workers.

Neighbour: `eval/stage.py` writes what is found.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from pipeline.config.root import Config
from pipeline.eval.domains.compare import METRICS, Domains, compare_domains
from pipeline.eval.domains.embedding import MIN_SAMPLES
from pipeline.eval.domains.embedding_plot import SPACES, embed_all
from pipeline.eval.representation import Representation
from pipeline.eval.subjects import Subject
from pipeline.records.embeddings import Embeddings
from pipeline.records.products import pool_shards, real_shards
from pipeline.results.ledger import Measurement
from pipeline.student.extraction import Extractor
from pipeline.student.vectors import Vectors
from pipeline.student.view_size import SizedImages
from pipeline.terminal.progress import progress_bar

Heard = Callable[[Measurement], None]


def embed_samples(
    config: Config, student: Subject, labelled: Representation | None, extractor: Extractor
) -> Embeddings | None:
    """The embedding plot, with progress; None where no pool has enough samples."""
    num_samples = config.eval.embedding_samples
    if not config.train.reads_pool or not num_samples:
        return None
    images = SizedImages(pool_shards(config, num_samples).open().images, config.view_size)
    if len(images) < MIN_SAMPLES:
        return None
    synthetic = extractor.extract(student.network, images, None, "student synthetic")
    with progress_bar("spaces") as bar:
        task = bar.add_task("embedding", total=len(SPACES), note="")

        def report(name: str, total: int) -> None:
            bar.update(task, advance=1, total=total, note=name)

        heard = report if extractor.workers.are_here else None
        return extractor.workers.run_one(embed_all, config.anchored(), labelled, synthetic, heard)


def measure_domains(config: Config, student: Subject, extractor: Extractor) -> list[Measurement]:
    """Real and synthetic images, where the student saw a pool of the latter; with progress."""
    if not config.train.reads_pool or not config.eval.domain_samples:
        return []
    readers = {split: real_shards(config, split).open() for split in ("train", "test")}
    readers["synthetic"] = pool_shards(config, config.eval.domain_samples).open().images
    images = {
        name: SizedImages(reader, config.view_size) for name, reader in readers.items() if reader
    }
    domains = Domains(images, config.eval.domain_samples, config.eval.seeds[0])
    if not domains.are_comparable:
        return []
    train, synthetic = (
        extractor.extract(student.network, images[name], domains.rows(name), f"student {name}")
        for name in ("train", "synthetic")
    )
    with progress_bar("measures") as bar:
        task = bar.add_task("domains", total=len(METRICS), note="")

        def hear(number: Measurement) -> None:
            bar.update(task, advance=1, note=f"{number.metric} {number.value:.3g}")

        heard = hear if extractor.workers.are_here else None
        weights = config.teacher.inception_weights
        return extractor.workers.run_one(_measure, domains, train, synthetic, weights, heard)


def _measure(
    domains: Domains,
    train: Vectors,
    synthetic: Vectors,
    inception_weights: Path | None,
    heard: Heard | None,
    device: torch.device,
) -> list[Measurement]:
    """Runs in this process or in a worker."""
    from pipeline.teacher.quality import build_feature_space

    space = build_feature_space(inception_weights, device)
    found = []
    for number in compare_domains(domains, train.array(), synthetic.array(), space, device):
        found.append(number)
        if heard is not None:
            heard(number)
    return found
