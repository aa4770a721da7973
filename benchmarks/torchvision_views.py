"""Views by torchvision's transforms, beside ours of the same images.

Neighbour: `train_step.py`, which times the step that views are a part of.
"""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import interleave
from pipeline.backbone import Normalise
from pipeline.seeding import torch_generator
from pipeline.train.augment import draw_views, make_views
from pipeline.train_config import AugmentConfig, TrainConfig


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
