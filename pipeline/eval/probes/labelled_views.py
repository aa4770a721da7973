"""Labelled images -> the batches of a probe that is trained on random views of them.

A step is a function of (seed, step): the order comes from `samples/order.py`, the views from
`student/views.py`. What it needs is loaded and drawn ahead (`samples/stream.py`) and uploaded at
once (`engine/upload.py`), so that nothing waits for a GPU. Neighbour: `linear_sgd.py` trains on
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.config.augment import AugmentConfig
from pipeline.engine.upload import Groups, prepare_upload
from pipeline.samples.order import Order
from pipeline.samples.seeding import torch_generator
from pipeline.samples.stream import LOADED_AHEAD, LoadedAhead
from pipeline.student.masked_views import choose_views
from pipeline.student.view_size import SizedImages, bring_to_size
from pipeline.student.views import ViewParameters, draw_views
from shards.reader import ShardReader

_TEST_BATCH = 500


@dataclass(frozen=True)
class ProbeImages:
    """What a probe that is trained on images may see; travels to a worker, which opens it again."""

    train: ShardReader
    train_rows: np.ndarray
    """[N] int64: the labelled images of `train`."""
    train_labels: np.ndarray
    """[N] int64, theirs."""
    test: ShardReader
    test_rows: np.ndarray
    """[M] int64: the labelled images of `test`."""
    test_labels: np.ndarray
    """[M] int64, theirs."""
    view_size: int
    """Side of the views, in pixels."""

    def __post_init__(self) -> None:
        if not len(self.train_rows) == len(self.train_labels) > 0:
            raise ValueError("there must be train images, and a label for each")
        if not len(self.test_rows) == len(self.test_labels) > 0:
            raise ValueError("there must be test images, and a label for each")

    def test_batches(self, device: torch.device) -> Iterator[Tensor]:
        """The test images at the size of the views, uint8 [B, 3, V, V] at a time."""
        test = SizedImages(self.test, self.view_size)
        for start in range(0, len(self.test_rows), _TEST_BATCH):
            yield test.gather(self.test_rows[start : start + _TEST_BATCH]).to(device)


class LabelledViews:
    """Views of the train images of `images` by step. Every epoch of `num_steps` has each of them
    once, in a fresh order; its last batch may be smaller.
    """

    def __init__(
        self,
        images: ProbeImages,
        batch_size: int,
        augment: AugmentConfig,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self._images = images
        self._batch_size = batch_size
        self._augment = augment
        self._seed = seed
        self._device = device
        self.num_images = len(images.train_rows)
        self.num_steps = math.ceil(self.num_images / batch_size)
        self._make_views = choose_views(augment, device, images.view_size)
        self._order = Order([self.num_images], seed, "probe")
        # On a CPU the backbone itself has all cores: a thread beside it only disturbs.
        self._loaded = LoadedAhead(self._load, 0 if device.type == "cpu" else LOADED_AHEAD)

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Views [B, 3, V, V] in [0, 1] and labels [B] int64 on the device, of step `step` >= 0
        counted over all epochs; quickest when steps come in order.
        """
        (images, labels), drawn = self._loaded.get(step)()
        if drawn:
            return self._make_views([images], ViewParameters(*drawn)), labels
        return bring_to_size(images, self._images.view_size).float().div_(255), labels

    def close(self) -> None:
        """Load no more."""
        self._loaded.close()

    def _load(self, step: int) -> Callable[[], Groups]:
        """Runs in a thread."""
        epoch, within = divmod(step, self.num_steps)
        start = within * self._batch_size
        size = min(self._batch_size, self.num_images - start)
        places = self._order.indices(epoch * self.num_images + start, size)
        images = self._images.train.gather("image", self._images.train_rows[places])
        labels = self._images.train_labels[places]
        drawn: list[Tensor] = []
        if self._augment.enabled:
            generator = torch_generator(self._seed, "probe/views", step)
            drawn = draw_views(self._augment, size, generator).tensors
        rows = [torch.from_numpy(images), torch.from_numpy(labels)]
        return prepare_upload([rows, drawn], self._device)
