"""The two domains of a run, compared: how far synthetic images are from real ones for the student,
what of the real ones they cover, whether the teacher copies, and how good it is.

Neighbours: `mmd.py`, `neighbours.py`, `memorisation.py` and `measures/distances.py` have the
measures, `eval/stage.py` gives them images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.eval.domains.memorisation import (
    MIN_CELL_SAMPLES,
    TESTS,
    TooFewImagesError,
    measure_memorisation,
)
from pipeline.eval.domains.mmd import KERNELS, measure_domain_gap
from pipeline.eval.domains.neighbours import MEASURES, measure_neighbourhoods
from pipeline.eval.subjects import pixel_side
from pipeline.measures.distances import Moments, frechet_distance, kernel_distance
from pipeline.results.ledger import Measurement
from pipeline.samples.seeding import numpy_generator
from pipeline.student.view_size import SizedImages
from pipeline.teacher.quality import FeatureSpace
from pipeline.terminal.progress import console

_LEAST = 3 * MIN_CELL_SAMPLES
"""Images of each domain, fewer of which are not compared."""
_BATCH = 500
METRICS = (
    *(f"squared_mmd_{kernel}" for kernel in KERNELS),
    *MEASURES,
    *TESTS,
    "frechet_distance",
    "kernel_distance",
)
"""What `compare_domains` measures, in order; without the tests where there are too few images."""


@dataclass(frozen=True)
class Domains:
    """Real train and test images and synthetic ones, at most so many of each, drawn by `seed`."""

    images: Mapping[str, SizedImages]
    """`train` and `synthetic` ones, and `test` where there are any."""
    max_samples: int
    seed: int

    @property
    def are_comparable(self) -> bool:
        """Whether there are enough images."""
        return min(len(self.rows(name)) for name in self.images) >= _LEAST

    def rows(self, name: str) -> np.ndarray:
        """Sorted places of the images to compare; of synthetic ones, drawn already, the first."""
        size = len(self.images[name])
        if name == "synthetic":
            return np.arange(min(size, self.max_samples))
        generator = numpy_generator(self.seed, f"eval/domains/{name}")
        return np.sort(generator.permutation(size)[: self.max_samples])


def compare_domains(
    domains: Domains,
    train: np.ndarray,
    synthetic: np.ndarray,
    space: FeatureSpace,
    device: torch.device,
) -> Iterator[Measurement]:
    """Every measure, the cheap ones first: of the student's representations [N, D] of `train` and
    `synthetic` images, and in `space` the distances of the teacher.
    """
    seed, limit = domains.seed, domains.max_samples
    for kernel in KERNELS:
        yield measure_domain_gap(
            train, synthetic, kernel=kernel, seed=seed, max_samples=limit, device=device
        )
    yield from measure_neighbourhoods(train, synthetic, seed=seed, max_samples=limit, device=device)
    yield from _memorisation(domains)
    yield from _teacher_distances(domains, space, device)


def _memorisation(domains: Domains) -> Iterator[Measurement]:
    """Both tests with their controls; none where there are too few images for one of them."""
    if "test" not in domains.images:
        return
    sets = ("train", "test", "synthetic")
    pixels = [_pixels(domains.images[name], domains.rows(name)) for name in sets]
    try:
        yield from measure_memorisation(*pixels, seed=domains.seed)
    except TooFewImagesError as problem:
        console.print(f"eval      no test of memorisation: {problem}", soft_wrap=True)


def _pixels(images: SizedImages, rows: np.ndarray) -> np.ndarray:
    """The images at `rows` [N] themselves, [N, 3 S S] float32 in [0, 1]."""
    small = SizedImages(images.reader, pixel_side(images.side))
    found = np.empty((len(rows), 3 * small.side**2), np.float32)
    for start in range(0, len(rows), _BATCH):
        part = small.gather(rows[start : start + _BATCH])
        found[start : start + _BATCH] = part.flatten(1).numpy()
    found /= 255
    return found


def _teacher_distances(
    domains: Domains, space: FeatureSpace, device: torch.device
) -> Iterator[Measurement]:
    """Fréchet and kernel distance of both domains; in the feature space "inception" FID and KID."""
    count = min(len(domains.rows("train")), len(domains.rows("synthetic")))
    real, made = (
        _features(space, domains.images[name], domains.rows(name)[:count], device)
        for name in ("train", "synthetic")
    )
    protocol = (
        f"{{}} between {count} real train and {count} synthetic images in the feature space "
        f"{space.name}" + ("" if space.name == "inception" else ", a stand-in: not FID or KID")
    )
    distances = {
        "frechet_distance": (
            frechet_distance(Moments.from_features(real), Moments.from_features(made)),
            protocol.format("Fréchet distance"),
        ),
        "kernel_distance": (
            kernel_distance(real, made),
            protocol.format("unbiased squared MMD, kernel (x·y / D + 1)³,"),
        ),
    }
    for metric, (value, text) in distances.items():
        yield Measurement(
            metric=metric, value=value, seed=domains.seed, representation=space.name, protocol=text
        )


def _features(
    space: FeatureSpace, images: SizedImages, rows: np.ndarray, device: torch.device
) -> torch.Tensor:
    parts = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
    return torch.cat([space(images.gather(part).to(device)) for part in parts])
