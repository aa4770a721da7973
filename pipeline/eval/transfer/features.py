"""Representations of a data set's images by a frozen backbone, as Ericsson et al. 2021 make them.

Neighbours: `datasets.py` opens the images, `evaluate.py` fits probes to what is computed here. A
backbone trained at another size, as the CIFAR-stem ResNet-18 at 32 px, gets the same 224 px images
as any other: convolutions and pooling take them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline.eval.transfer.images import TransferImages
from pipeline.samples.seeding import torch_generator
from pipeline.student.backbone import Normalise
from pipeline.student.representations import block_path, read_block, weights_digest, write_block
from shards.errors import UserError

SIDE = 224
PIXEL_MEAN = (0.485, 0.456, 0.406)
PIXEL_STD = (0.229, 0.224, 0.225)
PREPROCESSING = (
    f"shorter side to {SIDE} px, bicubic, centre crop {SIDE} px, whatever size the backbone was "
    "trained at; ImageNet mean and standard deviation; backbone in evaluation mode, float32; "
    "representations as they are, not standardised"
)
CACHE_VERSION = 1
_BLOCK_ROWS = 1024
"""Images of a block that is kept: what an interrupted extraction loses at most."""
Progress = Callable[[int], None]
"""Called with the number of images that were added to those done."""


@dataclass(frozen=True)
class Loading:
    """How images get to the backbone; shapes no result."""

    device: torch.device
    batch_size: int = 64
    num_workers: int = 0


@dataclass(frozen=True)
class LabelledRepresentations:
    """`representations` [N, D] float32 with `labels`, int64 [N] or bool [N, K]."""

    representations: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True)
class TransferFeatures:
    """A data set as a probe sees it; `split_digest` is that of its `TransferImages`."""

    name: str
    split_digest: str
    train: LabelledRepresentations
    val: LabelledRepresentations
    test: LabelledRepresentations


def extract_features(
    backbone: nn.Module,
    images: TransferImages,
    loading: Loading,
    progress: Progress | None = None,
    cache: Path | None = None,
) -> TransferFeatures:
    """What `backbone`, images [B, 3, 224, 224] -> [B, D], makes of all splits; kept in the folder
    `cache`, if it is given, by weights, splits and preprocessing.

    The backbone is left on the device, in evaluation mode.

    Raises:
        UserError: for an unreadable image, for one that is listed but absent, and if the backbone
            gives something else than finite numbers [B, D].
        OSError: if `cache` cannot be written.
    """
    digest = images.digest
    made_by = f"{weights_digest(backbone)} {PREPROCESSING} {CACHE_VERSION}"
    blocks: dict[int, np.ndarray] = {}
    todo = range(0, images.num_images, _BLOCK_ROWS)
    if cache is not None:
        paths = {start: block_path(cache, (made_by, digest, start)) for start in todo}
        kept = {start: read_block(path) for start, path in paths.items()}
        blocks = {start: block for start, block in kept.items() if block is not None}
    missing = [start for start in todo if start not in blocks]
    for start, block in _compute(backbone, images, loading, progress, missing):
        blocks[start] = block
        if cache is not None:
            write_block(paths[start], block)
    vectors = np.concatenate([blocks[start] for start in todo])
    ends = np.cumsum([len(split) for split in images.splits])
    labelled = (
        LabelledRepresentations(part, split.labels)
        for part, split in zip(np.split(vectors, ends[:-1]), images.splits, strict=True)
    )
    return TransferFeatures(images.name, digest, *labelled)


@torch.inference_mode()
def _compute(
    backbone: nn.Module,
    images: TransferImages,
    loading: Loading,
    progress: Progress | None,
    starts: Sequence[int],
) -> Iterator[tuple[int, np.ndarray]]:
    """Blocks [n, D] float32 that begin at `starts`, of train, val and test, in that order."""
    backbone = backbone.eval().to(loading.device)
    normalise = Normalise(PIXEL_MEAN, PIXEL_STD).to(loading.device)
    ends = {start: min(start + _BLOCK_ROWS, images.num_images) for start in starts}
    parts: list[np.ndarray] = []
    waiting = list(starts)
    for batch in _batches(images, loading, ends):
        found = backbone(normalise(batch.to(loading.device, non_blocking=True)))
        if found.ndim != 2 or len(found) != len(batch):
            raise UserError(
                f"{images.name}: the backbone gives {list(found.shape)} for {len(batch)} images, "
                f"not one representation each; take one that pools"
            )
        part = found.float().cpu().numpy()
        if not np.isfinite(part).all():
            raise UserError(
                f"{images.name}: representations are not finite; train the backbone again"
            )
        parts.append(part)
        if progress is not None:
            progress(len(part))
        if sum(map(len, parts)) == ends[waiting[0]] - waiting[0]:
            yield waiting.pop(0), np.concatenate(parts)
            parts.clear()


def _batches(images: TransferImages, loading: Loading, ends: Mapping[int, int]) -> Iterator[Tensor]:
    """uint8 [B, 3, 224, 224] of the images between each start and its end, none across two.

    Raises:
        UserError: for an unreadable image.
    """
    if not ends:
        return
    size = loading.batch_size
    loader = DataLoader(
        _CroppedImages(images),
        batch_sampler=[
            list(range(first, min(first + size, end)))
            for start, end in ends.items()
            for first in range(start, end, size)
        ],
        num_workers=loading.num_workers,
        # not forked: this process may have threads, such as Ray's
        multiprocessing_context="forkserver" if loading.num_workers else None,
        collate_fn=_collate,
        pin_memory=loading.device.type == "cuda",
        # the loader draws a number for its workers' seeds; nothing in them is random
        generator=torch_generator(0, "eval/transfer/loader"),
    )
    for batch in loader:
        if isinstance(batch, str):
            raise UserError(batch)
        yield batch


class _CroppedImages(Dataset[Tensor | str]):
    """Row -> uint8 [3, 224, 224], or the message on an image that cannot be read: an exception of a
    worker would arrive with its traceback as the message.
    """

    def __init__(self, images: TransferImages) -> None:
        self.rows = [(split, row) for split in images.splits for row in range(len(split))]
        self.crop = transforms.Compose(
            [
                transforms.Resize(SIDE, interpolation=transforms.InterpolationMode.BICUBIC),
                transforms.CenterCrop(SIDE),
                transforms.PILToTensor(),
            ]
        )

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Tensor | str:
        split, row = self.rows[index]
        try:
            image = split.open(row)
        except UserError as error:
            return str(error)
        cropped: Tensor = self.crop(image)
        return cropped


def _collate(samples: list[Tensor | str]) -> Tensor | str:
    tensors = []
    for sample in samples:
        if isinstance(sample, str):
            return sample
        tensors.append(sample)
    return torch.stack(tensors)
