"""A look at a student while it trains: kNN accuracy on labelled images, alignment and uniformity
where there are none. It changes nothing (`embed.py`), and costs little (`schedule.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.config.augment import AugmentConfig
from pipeline.config.train import TrainConfig
from pipeline.engine.collectives import worker_rank
from pipeline.measures.uniformity import alignment, uniformity
from pipeline.samples.seeding import torch_generator
from pipeline.student.masked_views import choose_views
from pipeline.student.view_size import bring_to_size
from pipeline.student.views import ViewParameters, draw_views
from pipeline.train.monitor.embed import Embedder, Pixels
from pipeline.train.monitor.images import (
    AnyImages,
    LabelledImages,
    LabelledPair,
    read_any,
    read_labelled,
)
from pipeline.train.monitor.names import ALIGNMENT, KNN_TOP1, UNIFORMITY
from pipeline.train.monitor.schedule import Schedule
from pipeline.train.monitor.shards import MonitoredReaders

K, TEMPERATURE = 200, 0.1
"""Of the votes, as the release has them."""
_SEED = 0


class Monitor:
    """Looks at one training. All workers look at once, each at its part of the images."""

    def __init__(self, schedule: Schedule, measure: KnnAccuracy | Spread) -> None:
        self._schedule = schedule
        self._measure = measure

    def is_due(self, step: int, interval: int) -> bool:
        """As `Schedule.is_due`."""
        return self._schedule.is_due(step, interval)

    def look(self, backbone: nn.Module) -> dict[str, float]:
        """Measures by name, on rank 0, elsewhere none; none either of a representation that is not
        finite, which the training itself will notice.
        """
        vectors = self._measure.embed(backbone)
        is_finite = all(bool(part.isfinite().all()) for part in vectors)
        return self._measure.measure(vectors) if worker_rank() == 0 and is_finite else {}


def start_monitor(
    config: TrainConfig,
    schedule: Schedule | None,
    readers: MonitoredReaders | None,
    view_size: int,
    device: torch.device,
) -> Monitor | None:
    """One whose images are drawn and read; None without a schedule or images."""
    if schedule is None or readers is None:
        return None
    embedder = Embedder(config, device)
    pair = read_labelled(readers, schedule.samples, view_size)
    if pair is not None:
        return Monitor(schedule, KnnAccuracy(embedder, pair))
    images = read_any(readers.train, schedule.samples)
    return Monitor(schedule, Spread(embedder, images, config.augment, view_size))


class KnnAccuracy:
    """How many queries their neighbours among the keys name."""

    def __init__(self, embedder: Embedder, pair: LabelledPair) -> None:
        self._embedder = embedder
        self._pair = pair

    def embed(self, backbone: nn.Module) -> tuple[Tensor, ...]:
        """Representations of keys and of queries, [N, D] each."""
        return tuple(self._embed(backbone, side) for side in (self._pair.keys, self._pair.queries))

    def _embed(self, backbone: nn.Module, side: LabelledImages) -> Tensor:
        device = self._embedder.device
        return self._embedder.embed(
            backbone, lambda rows: side.pixels[rows].to(device), side.shared
        )

    def measure(self, vectors: tuple[Tensor, ...]) -> dict[str, float]:
        """Accuracy in percent; of fewer keys than 200 all vote."""
        from pipeline.measures.knn import knn_classify

        keys, queries = (part.cpu().numpy() for part in vectors)
        labels, expected = self._pair.keys.labels, self._pair.queries.labels
        found = knn_classify(keys, labels, queries, k=K, temperature=TEMPERATURE, on_gpus=False)
        return {KNN_TOP1: 100 * float((found == expected).mean())}


class Spread:
    """How near two views of an image are, and how far images from one another. Views are the same
    at every look; images as they are, where a training makes no views, have no alignment.
    """

    def __init__(
        self, embedder: Embedder, images: AnyImages, augment: AugmentConfig, side: int
    ) -> None:
        self._embedder = embedder
        self._images = images
        self._side = side
        self._make = choose_views(augment, embedder.device, side)
        generator = torch_generator(_SEED, "train/monitor/views")
        part = images.shared.part
        drawn = [draw_views(augment, images.shared.filled, generator) for _ in range(2)]
        self._views = [views.rows(part.start, part.stop) for views in drawn if augment.enabled]

    def embed(self, backbone: nn.Module) -> tuple[Tensor, ...]:
        """Representations of each view of every image, [N, D] each, or of the images."""
        passes = [self._view(parameters) for parameters in self._views] or [self._plain]
        return tuple(
            self._embedder.embed(backbone, pixels, self._images.shared) for pixels in passes
        )

    def _view(self, parameters: ViewParameters) -> Pixels:
        device = self._embedder.device

        def pixels(rows: slice) -> Tensor:
            chosen = [tensor[rows].to(device) for tensor in parameters.tensors]
            images = self._images.pixels[rows].to(device)
            return self._make([images], ViewParameters(*chosen))

        return pixels

    def _plain(self, rows: slice) -> Tensor:
        return bring_to_size(self._images.pixels[rows].to(self._embedder.device), self._side)

    def measure(self, vectors: tuple[Tensor, ...]) -> dict[str, float]:
        """Uniformity, mean over the views, and alignment of two; nothing of a single image."""
        if self._images.shared.num_rows < 2:
            return {}
        spread = sum(uniformity(view) for view in vectors) / len(vectors)
        if len(vectors) == 1:
            return {UNIFORMITY: spread}
        return {ALIGNMENT: alignment(*vectors), UNIFORMITY: spread}
