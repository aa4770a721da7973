"""Parameters of views, drawn or of no change, and the views of images of one size."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.augment import AugmentConfig
from pipeline.student.masked_views import make_masked_views
from pipeline.student.views import ViewParameters, draw_views, make_views

STILL = AugmentConfig(
    crop_scale=(1, 1), crop_ratio=(1, 1), flip_p=0, jitter_p=0, grayscale_p=0, blur_p=0
)
NUM_DRAWS = 4000


def identity(batch: int = 4) -> ViewParameters:
    return ViewParameters(
        theta=torch.eye(2, 3).repeat(batch, 1, 1),
        factors=torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(batch, 1),
        order=torch.arange(4).repeat(batch, 1),
        is_grey=torch.zeros(batch, dtype=torch.bool),
        sigma=torch.zeros(batch),
    )


def draw(config: AugmentConfig, batch: int = NUM_DRAWS, seed: int = 0) -> ViewParameters:
    return draw_views(config, batch, torch.Generator().manual_seed(seed))


def views_of(images: Tensor, views: ViewParameters, side: int | None = None) -> Tensor:
    """What a CPU makes of `images`, of `side` pixels or as large as they are."""
    return make_views([images], views, side or images.shape[-1])


def masked_views_of(
    images: Tensor, views: ViewParameters, config: AugmentConfig, side: int | None = None
) -> Tensor:
    """What a GPU makes of them."""
    return make_masked_views([images], views, config, side or images.shape[-1])
