"""The usual tools for views and shards, beside ours on the same data: torchvision and `webdataset`.

Neighbour: `train_step.py`, which times the step that these are parts of.
"""

from __future__ import annotations

import os
import warnings

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import interleave
from pipeline.backbone import Normalise
from pipeline.config import AugmentConfig, TrainConfig
from pipeline.seeding import torch_generator
from pipeline.train.augment import draw_views, make_views
from shards.reader import ShardReader

TRAINING_COLUMNS = ("features", "image")
READ_BATCH = 256  # the synthetic half of the paper's batch


def build_torchvision_views(config: TrainConfig, resolution: int) -> torch.nn.Module:
    """The same augmentation as torchvision's transforms, for one image at a time.

    A PIL image, which these transforms take faster than a tensor, becomes a normalised float32 view
    [3, R, R].
    """
    from torchvision.transforms import v2

    augment: AugmentConfig = config.augment
    jitter = v2.ColorJitter(augment.brightness, augment.contrast, augment.saturation, augment.hue)
    parts: list[torch.nn.Module] = [
        v2.RandomResizedCrop(resolution, augment.crop_scale, augment.crop_ratio, antialias=True)
    ]
    if augment.rotation_deg:
        bilinear = v2.InterpolationMode.BILINEAR
        parts.append(v2.RandomRotation(augment.rotation_deg, interpolation=bilinear))
    if augment.flip_p:
        parts.append(v2.RandomHorizontalFlip(augment.flip_p))
    parts.append(v2.RandomApply([jitter], augment.jitter_p))
    if augment.grayscale_p:
        parts.append(v2.RandomGrayscale(augment.grayscale_p))
    parts += [
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(config.pixel_mean), list(config.pixel_std)),
    ]
    composed: torch.nn.Module = v2.Compose(parts)
    return composed


def compare_augmentation(
    images: Tensor, config: TrainConfig, device: torch.device, repeats: int
) -> dict[str, float]:
    """Views/s of both ways on the same uint8 `images` [B, 3, R, R].

    Ours runs on `device`, torchvision's in this process on the CPU.
    """
    per_image = build_torchvision_views(config, images.shape[-1])
    normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
    generator = torch_generator(0, "benchmark/augment")
    resident = images.to(device)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]

    def ours() -> Tensor:
        views = draw_views(config.augment, len(resident), generator)
        view: Tensor = normalise(make_views(resident.float() / 255, views))
        return view

    seconds = interleave(
        {
            "ours": ours,
            "torchvision": lambda: torch.stack([per_image(picture) for picture in pictures]),
        },
        repeats,
        device,
    )
    return {name: len(images) / value for name, value in seconds.items()}


def compare_reading(reader: ShardReader, repeats: int) -> dict[str, float]:
    """Samples/s of one pass over `reader`: gathering in random order, and `webdataset` in order.

    Ours gathers the columns that training reads, `READ_BATCH` samples at a time; `webdataset`
    decodes every member of a sample, as it does by default. Both read from the page cache.
    """
    os.environ.setdefault("WDS_SECURE", "1")
    import webdataset

    urls = [str(reader.directory / shard.name) for shard in reader.shards]
    order = np.random.default_rng(0).permutation(len(reader))

    def ours() -> None:
        for start in range(0, len(order), READ_BATCH):
            for column in TRAINING_COLUMNS:
                reader.gather(column, order[start : start + READ_BATCH])

    def theirs() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # it leaves its files to the collector
            count = sum(1 for _ in webdataset.WebDataset(urls, shardshuffle=False).decode())
        if count != len(reader):
            raise ValueError(f"webdataset read {count} of {len(reader)} samples")

    seconds = interleave({"ours": ours, "webdataset": theirs}, repeats, torch.device("cpu"))
    return {name: len(order) / value for name, value in seconds.items()}
