"""The views of a step: who draws which, and what comes of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pipeline.config.train import TrainConfig
from pipeline.student.backbone import Normalise
from pipeline.student.view_size import bring_to_size
from pipeline.student.views import ViewParameters, make_views
from pipeline.train.build import method_class
from pipeline.train.step_views import StepViews
from tests.support.tiny_shards import TRAIN_CONFIG
from tests.support.trainings import config_of

CPU = torch.device("cpu")


def open_views(config: TrainConfig, rank: int = 0, num_workers: int = 1) -> StepViews:
    method = method_class(config.method)
    return StepViews(config, method, CPU, view_size=16, rank=rank, num_workers=num_workers)


def random_images(count: int, side: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def domains(config: TrainConfig) -> tuple[Tensor | None, Tensor | None]:
    """Images of a step, as many as the batch has."""
    counts = (config.num_synthetic, config.num_real)
    synthetic, real = (random_images(count) if count else None for count in counts)
    return synthetic, real


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("squeeze and span", (1, 2)),
        ("vicreg both", (2, 2)),
        ("vicreg real", (0, 2)),
        ("squeeze", (1, 0)),
        ("encoding both", (1, 1)),
    ],
)
def test_step_views_are_as_many_as_the_method_wants(name: str, counts: tuple[int, int]) -> None:
    config = config_of(name)
    views = open_views(config)
    made = views.make(*domains(config), views.draw(0))
    assert tuple(map(len, made)) == counts
    sizes = {len(view) for domain in made for view in domain}
    assert sizes == {config.num_synthetic or config.num_real}
    assert all(view.dtype == torch.float32 for domain in made for view in domain)


def test_step_views_of_a_step_are_always_the_same_and_of_others_different() -> None:
    first, again, other = (open_views(TRAIN_CONFIG).draw(step) for step in (3, 3, 4))
    assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))
    assert not torch.equal(ViewParameters(*first).theta, ViewParameters(*other).theta)


def test_step_views_of_two_workers_are_the_halves_of_ones() -> None:
    synthetic, real = domains(TRAIN_CONFIG)
    assert synthetic is not None
    assert real is not None
    whole = open_views(TRAIN_CONFIG)
    expected = whole.make(synthetic, real, whole.draw(1))
    halves = []
    for rank, parts in enumerate(zip(synthetic.chunk(2), real.chunk(2), strict=True)):
        views = open_views(TRAIN_CONFIG, rank, 2)
        halves.append(views.make(*parts, views.draw(1)))
    for domain in (0, 1):
        for index, view in enumerate(expected[domain]):
            found = torch.cat([half[domain][index] for half in halves])
            # a sample may be rounded otherwise in a smaller batch
            torch.testing.assert_close(found, view, rtol=0, atol=1e-5)


def test_step_views_of_the_release_are_one_for_all_synthetic_images() -> None:
    config = config_of("release")
    theta = ViewParameters(*open_views(config).draw(0)).theta
    synthetic, real = theta[: config.num_synthetic], theta[config.num_synthetic :]
    assert torch.equal(synthetic, synthetic[:1].expand_as(synthetic))
    assert len(real.unique(dim=0)) == len(real) == 2 * config.num_real


def test_step_views_without_augmentation_are_the_normalised_images() -> None:
    config = config_of("encoding both")
    synthetic, real = domains(config)
    views = open_views(config)
    assert views.draw(0) == []
    (first,), (second,) = views.make(synthetic, real, [])
    normalise = Normalise(config.pixel_mean, config.pixel_std)
    assert torch.equal(first, normalise(synthetic))
    assert torch.equal(second, normalise(real))


@pytest.mark.parametrize("name", ["squeeze and span", "vicreg both"])
def test_step_views_of_domains_of_two_sizes_are_those_of_each(name: str) -> None:
    config, method = config_of(name), method_class(config_of(name).method)
    views = open_views(config)
    drawn = ViewParameters(*views.draw(0))
    synthetic, real = random_images(config.num_synthetic, 12), random_images(config.num_real, 24)
    found = views.make(synthetic, real, drawn.tensors)
    normalise = Normalise(config.pixel_mean, config.pixel_std)
    start = 0
    for domain, images in zip(found, (synthetic, real), strict=True):
        for view in domain:
            part = drawn.rows(start, start := start + len(images))
            assert view.shape[2:] == (16, 16)
            # a sample may be rounded otherwise in a smaller batch
            expected = normalise(make_views([images], part, 16))
            torch.testing.assert_close(view, expected, rtol=0, atol=1e-4)
    assert (
        start
        == len(drawn.theta)
        == sum((method.synthetic_views * len(synthetic), method.real_views * len(real)))
    )


def test_step_views_without_augmentation_are_the_images_at_the_size_of_the_views() -> None:
    config = config_of("encoding both")
    images = random_images(config.num_synthetic, 12), random_images(config.num_real, 24)
    normalise = Normalise(config.pixel_mean, config.pixel_std)
    for made, part in zip(open_views(config).make(*images, []), images, strict=True):
        assert torch.equal(made[0], normalise(bring_to_size(part, 16)))
