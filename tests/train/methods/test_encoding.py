"""The encoder through the frozen generator (Eq. 3)."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pipeline.teacher.architectures.lucidrains import LucidrainsArchitecture
from pipeline.teacher.networks.lucidrains import LucidrainsGenerator
from pipeline.train.build import build_method
from pipeline.train.data import TrainingShards
from pipeline.train.method import MethodContext
from pipeline.train.methods.encoding import Encoding
from tests.support.tiny_shards import ARCHITECTURE, random_generator
from tests.support.trainings import (
    config_of,
    make_method,
    open_stream,
    shards_of,
)


def test_encoding_loss_is_that_of_eq_3(training_shards: TrainingShards) -> None:
    config = config_of("encoding both")
    shards = shards_of(config, training_shards)
    assert shards.block_channels == [ARCHITECTURE.w_dim]
    batch = open_stream(shards, config).batch(0)
    method = make_method(config, shards.block_channels)
    assert isinstance(method, Encoding)
    output = method(batch)
    views = [*batch.synthetic, *batch.real]
    mean, std = (torch.tensor(v)[:, None, None] for v in (config.pixel_mean, config.pixel_std))
    images = 2 * (torch.cat(views) * std + mean) - 1
    encoded = torch.cat([method.head(method.backbone(view)) for view in views])
    generator = random_generator()
    ws = encoded[:, None].repeat(1, generator.mapping.num_ws, 1)
    pixels = (generator.synthesis(ws, "const") - images).abs().mean()
    assert batch.pooled is not None
    latents = (encoded[: len(batch.pooled)] - batch.pooled).square().mean()
    torch.testing.assert_close(output.loss, pixels + latents)


@pytest.mark.parametrize("view_size", [12, 24])
def test_encoding_compares_images_at_the_size_of_the_views(
    training_shards: TrainingShards, view_size: int
) -> None:
    config = config_of("encoding both")
    shards = replace(shards_of(config, training_shards), view_size=view_size)
    batch = open_stream(shards, config).batch(0)
    method = make_method(config, shards.block_channels)
    assert isinstance(method, Encoding)
    output = method(batch)
    mean, std = (torch.tensor(v)[:, None, None] for v in (config.pixel_mean, config.pixel_std))
    views = [*batch.synthetic, *batch.real]
    images = 2 * (torch.cat(views) * std + mean) - 1
    assert images.shape[2:] == (view_size, view_size)
    encoded = torch.cat([method.head(method.backbone(view)) for view in views])
    generator = random_generator()
    rendered = generator.synthesis(encoded[:, None].repeat(1, generator.mapping.num_ws, 1), "const")
    sized = F.interpolate(rendered, (view_size, view_size), mode="bicubic", antialias=True)
    torch.testing.assert_close(output.terms["pixels"], (sized - images).abs().mean())
    output.loss.backward()
    assert method.head.weight.grad is not None
    assert method.head.weight.grad.abs().sum() > 0


def test_encoding_trains_and_saves_nothing_of_the_generator() -> None:
    generator = random_generator()
    context = MethodContext([ARCHITECTURE.w_dim], lambda: generator)
    method = build_method(config_of("encoding both"), context)
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    inside = {id(parameter) for parameter in method.parameters()}
    assert not inside & {id(parameter) for parameter in generator.parameters()}
    assert not any("synthesis" in name for name in method.state_dict())


def test_encoding_takes_any_teacher_with_a_mapped_latent(training_shards: TrainingShards) -> None:
    config = config_of("encoding both")
    shards = shards_of(config, training_shards)
    arch = LucidrainsArchitecture(ARCHITECTURE.w_dim, 1, (4, 4, 4))
    generator = LucidrainsGenerator(arch).requires_grad_(False)
    method = build_method(config, MethodContext(shards.block_channels, lambda: generator))
    output = method(open_stream(shards, config).batch(0))
    output.loss.backward()
    assert method.head.weight.grad.abs().sum() > 0
