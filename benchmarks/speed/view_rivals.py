"""Views by the usual libraries, beside ours of the same images and with the same strengths.

torchvision's transforms of both generations and lightly's take one PIL image at a time, which is
faster than a tensor; kornia's take a batch, on its device, as ours do. lightly solarises nothing
and blurs as rarely as ours, by default never, which makes it faster; kornia draws one order of the
colour operations for the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from benchmarks.measure import OURS, interleave
from pipeline.config.train import TrainConfig
from pipeline.engine.upload import prepare_upload
from pipeline.samples.seeding import torch_generator
from pipeline.student.backbone import Normalise
from pipeline.student.masked_views import choose_views
from pipeline.student.views import ViewParameters, draw_views

Views = Callable[[], Tensor]
"""Normalised float32 views [B, 3, R, R] of the images that it was made for."""
Prepare = Callable[[TrainConfig, Tensor, torch.device], Views]
"""Of uint8 images [B, 3, R, R] on the CPU."""


def as_pictures(images: Tensor) -> list[Image.Image]:
    """Uint8 images [B, 3, R, R] as PIL's."""
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def _per_image(view: Callable[[Any], Tensor], images: Tensor) -> Views:
    pictures = as_pictures(images)
    return lambda: torch.stack([view(picture) for picture in pictures])


def prepare_ours(config: TrainConfig, images: Tensor, device: torch.device) -> Views:
    """As a training makes them."""
    normalise = Normalise(config.pixel_mean, config.pixel_std).to(device)
    generator = torch_generator(0, "benchmark/augment")
    make_views = choose_views(config.augment, device, images.shape[-1])
    resident = images.to(device)

    def run() -> Tensor:
        drawn = draw_views(config.augment, len(resident), generator)
        (parameters,) = prepare_upload([drawn.tensors], device)()
        view: Tensor = normalise(make_views([resident], ViewParameters(*parameters)))
        return view

    return run


def _prepare_torchvision(
    module: str, config: TrainConfig, images: Tensor, device: torch.device
) -> Views:
    transforms: Any = import_module(module)

    def parts() -> Iterator[Any]:
        augment, size = config.augment, images.shape[-1]
        yield transforms.RandomResizedCrop(
            size, augment.crop_scale, augment.crop_ratio, antialias=True
        )
        if augment.rotation_deg:
            bilinear = transforms.InterpolationMode.BILINEAR
            yield transforms.RandomRotation(augment.rotation_deg, interpolation=bilinear)
        if augment.flip_p:
            yield transforms.RandomHorizontalFlip(augment.flip_p)
        jitter = transforms.ColorJitter(*_jitter(config))
        yield transforms.RandomApply([jitter], augment.jitter_p)
        if augment.grayscale_p:
            yield transforms.RandomGrayscale(augment.grayscale_p)
        if module.endswith("v2"):
            yield transforms.ToImage()
            yield transforms.ToDtype(torch.float32, scale=True)
        else:
            yield transforms.ToTensor()
        yield transforms.Normalize(list(config.pixel_mean), list(config.pixel_std))

    return _per_image(transforms.Compose(list(parts())), images)


def _jitter(config: TrainConfig) -> tuple[float, float, float, float]:
    augment = config.augment
    return augment.brightness, augment.contrast, augment.saturation, augment.hue


def lightly_settings(config: TrainConfig, resolution: int) -> dict[str, Any]:
    """Arguments of lightly's transforms for VICReg; its aspect ratios are torchvision's, as ours
    are by default.
    """
    augment = config.augment
    return {
        "input_size": resolution,
        "cj_prob": augment.jitter_p,
        "cj_strength": 1.0,
        **dict(zip(("cj_bright", "cj_contrast", "cj_sat", "cj_hue"), _jitter(config), strict=True)),
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


def _prepare_lightly(config: TrainConfig, images: Tensor, device: torch.device) -> Views:
    transforms: Any = import_module("lightly.transforms.vicreg_transform")
    settings = lightly_settings(config, images.shape[-1])
    return _per_image(transforms.VICRegViewTransform(**settings), images)


def _prepare_kornia(config: TrainConfig, images: Tensor, device: torch.device) -> Views:
    kornia: Any = import_module("kornia.augmentation")

    def parts() -> Iterator[Any]:
        augment = config.augment
        yield kornia.RandomResizedCrop(
            tuple(images.shape[-2:]),
            scale=augment.crop_scale,
            ratio=augment.crop_ratio,
            cropping_mode="resample",  # of the two the one without a loop over samples
        )
        if augment.rotation_deg:
            yield kornia.RandomRotation(augment.rotation_deg, p=1.0)
        if augment.flip_p:
            yield kornia.RandomHorizontalFlip(augment.flip_p)
        yield kornia.ColorJitter(*_jitter(config), p=augment.jitter_p)
        if augment.grayscale_p:
            yield kornia.RandomGrayscale(p=augment.grayscale_p)
        yield kornia.Normalize(torch.tensor(config.pixel_mean), torch.tensor(config.pixel_std))

    views = kornia.AugmentationSequential(*parts(), data_keys=["input"]).to(device)
    resident = images.to(device)

    @torch.no_grad()
    def run() -> Tensor:
        view: Tensor = views(resident.float() / 255)
        return view

    return run


RIVALS: dict[str, tuple[str, Prepare]] = {
    "torchvision v2 per image, CPU": (
        "torchvision", partial(_prepare_torchvision, "torchvision.transforms.v2")
    ),
    "torchvision per image, CPU": (
        "torchvision", partial(_prepare_torchvision, "torchvision.transforms")
    ),
    "lightly per image, CPU": ("lightly", _prepare_lightly),
    "kornia, batched": ("kornia", _prepare_kornia),
}  # fmt: skip
"""Package and way of each; those of missing packages are left out."""


def compare_augmentation(
    images: Tensor, config: TrainConfig, device: torch.device, repeats: int
) -> dict[str, float]:
    """Views/s of all ways on the same uint8 `images` [B, 3, R, R]. Ours and kornia's run on
    `device`, the others in this process on the CPU.
    """
    found = {name: way for name, (package, way) in RIVALS.items() if find_spec(package)}
    ways = {OURS: prepare_ours, **found}
    tasks = {name: way(config, images, device) for name, way in ways.items()}
    return {
        name: len(images) / seconds for name, seconds in interleave(tasks, repeats, device).items()
    }
