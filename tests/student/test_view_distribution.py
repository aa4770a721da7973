"""Many views of one image by ours and by torchvision's transforms: the same distribution of pixels,
of an image as large as the view and of one twice as large.

`test_views.py` compares every operation, and the draws of every parameter, on its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from pipeline.config.augment import AugmentConfig
from pipeline.student.views import draw_views
from tests.support.views import views_of

pytestmark = pytest.mark.slow

SIDE = 48
NUM_VIEWS = 2000
# strong jitter clips colours, so that the order of the operations shows
CONFIG = AugmentConfig(brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, blur_p=0.5)
# a correct implementation fails one such comparison in ten thousand; the seeds are fixed, so a
# test that has passed keeps passing
P_VALUE = 1e-4
Views = tuple[Tensor, Tensor]


def smooth_image(size: int) -> Tensor:
    """[3, R, R] in [0.05, 0.95], rather dark and without symmetries. Smooth, because torchvision
    cuts whole pixels and repeats the outermost, where ours cuts between them and sees past.
    """
    coarse = torch.rand(1, 3, 5, 5, generator=torch.Generator().manual_seed(3))
    image = F.interpolate(coarse, (size, size), mode="bilinear", align_corners=True)[0]
    slope = torch.linspace(-0.5, 0.5, size)
    image[0] += slope  # redder on the right
    image[2] += slope[:, None]  # bluer below
    image = (image - image.min()) / (image.max() - image.min())
    return 0.05 + 0.9 * image.square()


@pytest.fixture(scope="module", params=[SIDE, 2 * SIDE])
def views(request: pytest.FixtureRequest) -> Views:
    """Ours and torchvision's, float32 [NUM_VIEWS, 3, R, R] each."""
    image = smooth_image(request.param)
    parameters = draw_views(CONFIG, NUM_VIEWS, torch.Generator().manual_seed(0))
    ours = views_of(image.expand(NUM_VIEWS, -1, -1, -1), parameters, SIDE)
    jitter = v2.ColorJitter(CONFIG.brightness, CONFIG.contrast, CONFIG.saturation, CONFIG.hue)
    transform = v2.Compose(
        [
            v2.RandomResizedCrop(SIDE, CONFIG.crop_scale, CONFIG.crop_ratio, antialias=True),
            v2.RandomHorizontalFlip(CONFIG.flip_p),
            v2.RandomApply([jitter], CONFIG.jitter_p),
            v2.RandomGrayscale(CONFIG.grayscale_p),
            v2.RandomApply([v2.GaussianBlur(5, CONFIG.blur_sigma)], CONFIG.blur_p),
        ]
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ours, torch.stack([transform(image) for _ in range(NUM_VIEWS)])


def saturation(images: Tensor) -> Tensor:
    return (images.amax(1) - images.amin(1)).mean((1, 2))


def roughness(images: Tensor) -> Tensor:
    """Mean square of second differences, which blur and enlargement take away."""
    return images.diff(n=2, dim=3).square().mean((1, 2, 3)).clamp_min(1e-12).log()


def slant(images: Tensor) -> Tensor:
    """Top left minus bottom right."""
    half = SIDE // 2
    return images[:, :, :half, :half].mean((1, 2, 3)) - images[:, :, half:, half:].mean((1, 2, 3))


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "red": lambda images: images[:, 0].mean((1, 2)),
    "green": lambda images: images[:, 1].mean((1, 2)),
    "blue": lambda images: images[:, 2].mean((1, 2)),
    "red minus green": lambda images: (images[:, 0] - images[:, 1]).mean((1, 2)),
    "blue minus green": lambda images: (images[:, 2] - images[:, 1]).mean((1, 2)),
    "deviation": lambda images: images.std((1, 2, 3)),
    "brightest": lambda images: images.amax((1, 2, 3)),
    "darkest": lambda images: images.amin((1, 2, 3)),
    "saturation": saturation,
    "left minus right": lambda images: (images - images.flip(3))[..., : SIDE // 2].mean((1, 2, 3)),
    "top minus bottom": lambda images: (images - images.flip(2))[..., : SIDE // 2, :].mean(
        (1, 2, 3)
    ),
    "slant": slant,
    "roughness": roughness,
    "corner": lambda images: images[:, :, 1, 1].mean(1),
    "centre": lambda images: images[:, 0, SIDE // 2, SIDE // 2],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", STATISTICS)
def test_views_statistic_is_distributed_as_torchvisions(name: str, views: Views) -> None:
    ours, theirs = (STATISTICS[name](images) for images in views)
    assert stats.ks_2samp(ours.numpy(), theirs.numpy()).pvalue > P_VALUE


def test_views_random_projections_are_distributed_as_torchvisions(views: Views) -> None:
    # what no statistic above was thought of for: 16 directions among the 6 x 6 x 3 coarse pixels
    weights = torch.randn(108, 16, generator=torch.Generator().manual_seed(0))
    ours, theirs = (F.avg_pool2d(images, 8).flatten(1) @ weights for images in views)
    for mine, other in zip(ours.T, theirs.T, strict=True):
        assert stats.ks_2samp(mine.numpy(), other.numpy()).pvalue > P_VALUE


@pytest.mark.parametrize("moment", ["mean", "std"])
def test_views_every_pixel_has_torchvisions_moments(moment: str, views: Views) -> None:
    ours, theirs = (images.double() for images in views)
    difference = getattr(ours, moment)(0) - getattr(theirs, moment)(0)
    variance = ours.var(0) / NUM_VIEWS + theirs.var(0) / NUM_VIEWS
    # a standard error of a mean; that of a deviation is at most as large for tails as light as
    # these. Five of them: one in a million pixels, of which there are 6,912
    assert (difference.abs() / variance.sqrt()).max() < 5


def test_views_are_grey_as_often_as_torchvisions(views: Views) -> None:
    ours, theirs = (int((saturation(images) < 1e-5).sum()) for images in views)
    table = [[ours, NUM_VIEWS - ours], [theirs, NUM_VIEWS - theirs]]
    assert stats.fisher_exact(table).pvalue > P_VALUE
    assert ours == pytest.approx(CONFIG.grayscale_p * NUM_VIEWS, rel=0.25)
