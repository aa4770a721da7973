"""Views by the usual libraries, beside ours of the same images and with the same strengths.

torchvision's transforms of both generations and lightly's take one PIL image at a time, which is
faster than a tensor; kornia's take a batch, on its device, as ours do. lightly solarises nothing
and blurs as rarely as ours, by default never, which makes it faster; kornia draws one order of the
colour operations for the whole batch.

Neighbours: `train_step.py` times a step that has views in it, `train_rivals.py` that of lightly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import interleave
from pipeline.config.train import TrainConfig
from pipeline.engine.upload import prepare_upload
from pipeline.samples.seeding import torch_generator
from pipeline.student.backbone import Normalise
from pipeline.student.masked_views import choose_views
from pipeline.student.views import ViewParameters, draw_views

ViewOfOne = Callable[[Any], Tensor]
"""PIL image -> normalised float32 view [3, R, R]."""
Views = Callable[[], Tensor]
"""Normalised float32 views [B, 3, R, R] of the images that it was made for."""


@dataclass(frozen=True)
class Rival:
    """One library's way to make views."""

    name: str
    package: str
    prepare: Callable[[TrainConfig, Tensor, torch.device], Views]
    """Of uint8 images [B, 3, R, R] on the CPU."""

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return find_spec(self.package) is not None


def as_pictures(images: Tensor) -> list[Image.Image]:
    """Uint8 images [B, 3, R, R] as PIL's."""
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def build_torchvision_view(config: TrainConfig, resolution: int, module: str) -> ViewOfOne:
    """By the transforms in `module`: `torchvision.transforms` or its `v2`."""
    transforms: Any = import_module(module)
    augment = config.augment
    jitter = transforms.ColorJitter(
        augment.brightness, augment.contrast, augment.saturation, augment.hue
    )
    parts = [
        transforms.RandomResizedCrop(
            resolution, augment.crop_scale, augment.crop_ratio, antialias=True
        )
    ]
    if augment.rotation_deg:
        bilinear = transforms.InterpolationMode.BILINEAR
        parts.append(transforms.RandomRotation(augment.rotation_deg, interpolation=bilinear))
    if augment.flip_p:
        parts.append(transforms.RandomHorizontalFlip(augment.flip_p))
    parts.append(transforms.RandomApply([jitter], augment.jitter_p))
    if augment.grayscale_p:
        parts.append(transforms.RandomGrayscale(augment.grayscale_p))
    if module.endswith("v2"):
        parts += [transforms.ToImage(), transforms.ToDtype(torch.float32, scale=True)]
    else:
        parts.append(transforms.ToTensor())
    parts.append(transforms.Normalize(list(config.pixel_mean), list(config.pixel_std)))
    view: ViewOfOne = transforms.Compose(parts)
    return view


def lightly_settings(config: TrainConfig, resolution: int) -> dict[str, Any]:
    """Arguments of lightly's transforms for VICReg; its aspect ratios are torchvision's, as ours
    are by default.
    """
    augment = config.augment
    return {
        "input_size": resolution,
        "cj_prob": augment.jitter_p,
        "cj_strength": 1.0,
        "cj_bright": augment.brightness,
        "cj_contrast": augment.contrast,
        "cj_sat": augment.saturation,
        "cj_hue": augment.hue,
        "min_scale": augment.crop_scale[0],
        "random_gray_scale": augment.grayscale_p,
        "solarize_prob": 0.0,
        "gaussian_blur": augment.blur_p,
        "sigmas": augment.blur_sigma,
        "hf_prob": augment.flip_p,
        "rr_prob": float(augment.rotation_deg > 0),
        "rr_degrees": augment.rotation_deg,
        "normalize": {"mean": list(config.pixel_mean), "std": list(config.pixel_std)},
    }


def _build_lightly_view(config: TrainConfig, resolution: int) -> ViewOfOne:
    transforms: Any = import_module("lightly.transforms.vicreg_transform")
    view: ViewOfOne = transforms.VICRegViewTransform(**lightly_settings(config, resolution))
    return view


def _per_image(view: ViewOfOne, images: Tensor) -> Views:
    pictures = as_pictures(images)
    return lambda: torch.stack([view(picture) for picture in pictures])


def _prepare_ours(config: TrainConfig, images: Tensor, device: torch.device) -> Views:
    normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
    generator = torch_generator(0, "benchmark/augment")
    make_views = choose_views(config.augment, device)
    resident = images.to(device)

    def run() -> Tensor:
        drawn = draw_views(config.augment, len(resident), generator)
        (parameters,) = prepare_upload([drawn.tensors], device)()
        views = make_views(resident.float().div_(255), ViewParameters(*parameters))
        view: Tensor = normalise(views)
        return view

    return run


def _prepare_torchvision(module: str) -> Callable[[TrainConfig, Tensor, torch.device], Views]:
    return lambda config, images, _: _per_image(
        build_torchvision_view(config, images.shape[-1], module), images
    )


def _prepare_lightly(config: TrainConfig, images: Tensor, device: torch.device) -> Views:
    return _per_image(_build_lightly_view(config, images.shape[-1]), images)


def _prepare_kornia(config: TrainConfig, images: Tensor, device: torch.device) -> Views:
    kornia: Any = import_module("kornia.augmentation")
    augment = config.augment
    parts = [
        kornia.RandomResizedCrop(
            tuple(images.shape[-2:]),
            scale=augment.crop_scale,
            ratio=augment.crop_ratio,
            cropping_mode="resample",  # of the two the one without a loop over samples
        )
    ]
    if augment.rotation_deg:
        parts.append(kornia.RandomRotation(augment.rotation_deg, p=1.0))
    if augment.flip_p:
        parts.append(kornia.RandomHorizontalFlip(augment.flip_p))
    strengths = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    parts.append(kornia.ColorJitter(*strengths, p=augment.jitter_p))
    if augment.grayscale_p:
        parts.append(kornia.RandomGrayscale(p=augment.grayscale_p))
    mean, std = torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std)
    parts.append(kornia.Normalize(mean, std))
    views = kornia.AugmentationSequential(*parts, data_keys=["input"]).to(device)
    resident = images.to(device)

    @torch.no_grad()
    def run() -> Tensor:
        view: Tensor = views(resident.float() / 255)
        return view

    return run


RIVALS = (
    Rival("torchvision v2 per image, CPU", "torchvision",
          _prepare_torchvision("torchvision.transforms.v2")),
    Rival("torchvision per image, CPU", "torchvision",
          _prepare_torchvision("torchvision.transforms")),
    Rival("lightly per image, CPU", "lightly", _prepare_lightly),
    Rival("kornia, batched", "kornia", _prepare_kornia),
)  # fmt: skip


def compare_augmentation(
    images: Tensor, config: TrainConfig, device: torch.device, repeats: int
) -> dict[str, float]:
    """Views/s of all ways on the same uint8 `images` [B, 3, R, R]: "ours", and by name the rivals
    that are installed. Ours and kornia's run on `device`, the others in this process on the CPU.
    """
    tasks = {"ours": _prepare_ours(config, images, device)}
    for rival in RIVALS:
        if rival.is_installed:
            tasks[rival.name] = rival.prepare(config, images, device)
    seconds = interleave(tasks, repeats, device)
    return {name: len(images) / value for name, value in seconds.items()}
