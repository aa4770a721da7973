"""Rendering in half precision: close to float32, repeatable, another pool, finite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.generate.batch import render_batch
from pipeline.generate.plan import PoolRecipe, make_recipe
from pipeline.teacher.draws import draw_inputs
from pipeline.teacher.features import captured, pool
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.networks.stylegan2 import Generator
from pipeline.teacher.rendered import run_generator
from shards.errors import UserError
from shards.pool import IMAGES
from shards.schema import feature_schema, synthetic_schema
from tests.support.tiny_teachers import (
    CONFIG,
    TEACHERS,
    describe,
    fake_info,
    fastgan,
    pool_key,
    projected_gan,
    render,
    rosinality,
    stylegan2,
)


def half_generator(**changes: Any) -> Generator:
    return stylegan2(num_half_blocks=2, conv_clamp=256.0, **changes)


def render_columns(generator: Generator, recipe: PoolRecipe) -> dict[str, np.ndarray]:
    """Image, latent, and features of the lowest block and the highest, of the first samples."""
    schemas = {
        "images": synthetic_schema(16, generator.arch.w_dim),
        "features": feature_schema([("synthesis.b4", 12), ("synthesis.b16", 8)]),
    }
    batch = render_batch(generator, recipe, schemas, np.arange(6))
    return batch["images"] | batch["features"]


@pytest.mark.parametrize(("precision", "unit"), [("float16", 2.0**-11), ("bfloat16", 2.0**-8)])
@pytest.mark.parametrize("skips", ["skip", "resnet"])
def test_render_batch_in_half_precision_is_close_to_float32(
    precision: str, unit: float, skips: str
) -> None:
    """`unit` is the rounding of one operation. About twenty of them follow each other in the two
    half blocks (scale, filter, convolve, demodulate, noise, bias), errors add like random numbers:
    √20 on average, and 6 of those at the far end of all values.
    """
    generator = half_generator(skips=skips)
    recipe = make_recipe(CONFIG, fake_info(generator))
    exact = render_columns(generator, recipe)
    generator.set_precision(getattr(torch, precision))
    found = render_columns(generator, recipe)
    low, high = slice(0, 12), slice(12, 20)
    np.testing.assert_array_equal(found["w"], exact["w"])
    np.testing.assert_array_equal(found["features"][:, low], exact["features"][:, low])
    tolerance = 6 * 20**0.5 * unit
    wanted = exact["features"][:, high].astype(np.float32)
    difference = np.abs(found["features"][:, high].astype(np.float32) - wanted).max()
    assert 0 < difference <= tolerance * np.abs(wanted).max()
    grey_levels = np.abs(found["image"].astype(int) - exact["image"].astype(int)).max()
    assert grey_levels <= 1 + tolerance * 127.5 * 4  # pixels reach 4 in absolute value

    generator.set_precision(torch.float32)
    again = render_columns(generator, recipe)
    for column in exact:
        np.testing.assert_array_equal(again[column], exact[column])


def test_render_shard_in_half_precision_is_repeatable_and_another_pool(tmp_path: Path) -> None:
    generator = half_generator()
    generator.set_precision(torch.bfloat16)
    plan, _ = render(generator, tmp_path / "first", precision="bfloat16")
    other, _ = render(generator, tmp_path / "second", shards=[1], precision="bfloat16")
    for name in (IMAGES, *plan.feature_sets):
        path = f"{name}/shard-000001.tar"
        assert (plan.folder.path / path).read_bytes() == (other.folder.path / path).read_bytes()
    assert plan.recipe.key != pool_key(describe(generator, tmp_path / "third"))


EVERY_FAMILY = {**TEACHERS, "fastgan": fastgan, "projected-gan": projected_gan}


def assert_half_is_close_to_float32(generator: TeacherGenerator, dtype: torch.dtype) -> None:
    """Images within 16 roundings of the largest value, pooled features within 6: some thirty of
    them follow each other at most, and pooling averages them.
    """
    sampling = make_recipe(CONFIG, fake_info(generator)).sampling
    inputs = draw_inputs(generator, sampling, np.arange(4))

    def compute() -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        with torch.inference_mode(), captured(generator.feature_root, generator.blocks) as maps:
            output = run_generator(generator, sampling, inputs)
        return output.image, output.ws, maps

    image, ws, maps = compute()
    generator.set_precision(dtype)
    half_image, half_ws, half_maps = compute()
    unit = torch.finfo(dtype).eps
    assert half_image.dtype == torch.float32
    assert 0 < (half_image - image).abs().max() <= 16 * unit * image.abs().max()
    assert torch.equal(half_ws, ws)
    assert half_maps[generator.blocks[-2]].dtype == dtype
    for name, feature in maps.items():
        wanted, found = pool(feature), pool(half_maps[name])
        assert found.dtype == torch.float32
        assert (found - wanted).abs().max() <= 6 * unit * wanted.abs().max()
    generator.set_precision(torch.float32)
    assert torch.equal(compute()[0], image)


@pytest.mark.parametrize("name", EVERY_FAMILY)
def test_half_precision_of_every_family_is_close_to_float32(name: str) -> None:
    for dtype in (torch.bfloat16,) if name == "r3gan" else (torch.bfloat16, torch.float16):
        assert_half_is_close_to_float32(EVERY_FAMILY[name](), dtype)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", EVERY_FAMILY)
def test_half_precision_of_every_family_on_a_gpu_is_close_to_float32(name: str) -> None:
    for dtype in (torch.bfloat16,) if name == "r3gan" else (torch.bfloat16, torch.float16):
        assert_half_is_close_to_float32(EVERY_FAMILY[name]().cuda(), dtype)


def test_render_batch_image_beyond_float16_names_the_precision() -> None:
    generator = rosinality()
    generator.to_rgbs[-1].weight.fill_(1e6)
    config = CONFIG.model_copy(update={"precision": "float16"})
    recipe = make_recipe(config, fake_info(generator))
    schemas = {"images": synthetic_schema(16, generator.arch.w_dim)}
    render_batch(generator, recipe, schemas, np.arange(2))
    generator.set_precision(torch.float16)
    with pytest.raises(UserError, match=r"samples 0-1: images .*generate\.precision=float32"):
        render_batch(generator, recipe, schemas, np.arange(2))


def test_render_batch_clamp_keeps_float16_finite(tmp_path: Path) -> None:
    """A layer beyond float16's 65504: infinite without the clamp, at the clamp with it."""
    clamped, free = half_generator(), stylegan2(num_half_blocks=2)
    for generator in (clamped, free):
        bias = generator.get_submodule("synthesis.b16.conv1").bias
        assert isinstance(bias, torch.Tensor)
        bias.fill_(1e6)
        generator.set_precision(torch.float16)
    config = CONFIG.model_copy(update={"precision": "float16"})
    recipe = make_recipe(config, describe(clamped, tmp_path))
    schemas = {"features": feature_schema([("synthesis.b16", 8)])}
    features = render_batch(clamped, recipe, schemas, np.arange(4))["features"]["features"]
    np.testing.assert_array_equal(features, np.full((4, 8), 256, np.float16))
    with pytest.raises(UserError, match=r"not finite; set generate\.precision=float32"):
        render_batch(free, recipe, schemas, np.arange(4))
