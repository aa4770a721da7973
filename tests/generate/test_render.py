"""A rendered shard is a function of recipe and index, and holds what the generator says."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.generate.batch import render_batch
from pipeline.generate.plan import PoolRecipe
from pipeline.generate.render import RenderedShard, render_shard
from pipeline.teacher.draws import draw_inputs
from pipeline.teacher.features import captured, pool_features
from shards.errors import UserError
from shards.manifest import ShardInfo
from shards.pool import IMAGES
from shards.storage import Folder
from tests.support.tiny_shards import (
    FEATURES,
    SCHEMAS,
    list_rendered,
    open_pool,
    pool_recipe,
    random_generator,
    undated,
)

RECIPE = pool_recipe()


def render(folder: Path, indices: list[int], recipe: PoolRecipe = RECIPE) -> list[RenderedShard]:
    generator, place = random_generator(), Folder.at(folder)
    return [render_shard(generator, recipe, place, SCHEMAS, index) for index in indices]


def rows_of(rendered: RenderedShard) -> dict[str, ShardInfo]:
    """Rows of the manifests, but for the time."""
    return {name: undated(shard) for name, shard in rendered.shards.items()}


def tars(folder: Path, name: str) -> dict[str, bytes]:
    return {set_name: (folder / set_name / name).read_bytes() for set_name in SCHEMAS}


@pytest.mark.parametrize("noise", ["random", "const", "none"])
def test_render_shard_alone_equals_the_same_shard_of_a_full_run(tmp_path: Path, noise: str) -> None:
    recipe = pool_recipe(noise=noise)
    whole = render(tmp_path / "whole", [0, 1, 2], recipe)
    (alone,) = render(tmp_path / "alone", [1], recipe)
    assert rows_of(alone) == rows_of(whole[1])
    name = alone.shards[IMAGES].name
    assert tars(tmp_path / "alone", name) == tars(tmp_path / "whole", name)


@pytest.mark.parametrize("name", SCHEMAS)
def test_render_shard_one_set_alone_equals_the_same_beside_others(
    tmp_path: Path, name: str
) -> None:
    (together,) = render(tmp_path / "together", [1])
    schemas = {name: SCHEMAS[name]}
    place = Folder.at(tmp_path / "alone")
    alone = render_shard(random_generator(), RECIPE, place, schemas, 1)
    assert rows_of(alone) == {name: rows_of(together)[name]}
    assert [path.name for path in place.path.iterdir()] == [name]


def test_render_shard_order_of_rendering_does_not_matter(tmp_path: Path) -> None:
    forwards = render(tmp_path / "forwards", [0, 1, 2])
    backwards = render(tmp_path / "backwards", [2, 0, 1])
    expected = {rendered.index: rows_of(rendered) for rendered in forwards}
    assert {rendered.index: rows_of(rendered) for rendered in backwards} == expected


def test_render_shard_global_random_state_and_threads_do_not_matter(tmp_path: Path) -> None:
    torch.manual_seed(1)
    (first,) = render(tmp_path / "first", [1])
    torch.manual_seed(2)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (second,) = render(tmp_path / "second", [1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert rows_of(first) == rows_of(second)


def test_render_shard_rows_describe_the_files(tmp_path: Path) -> None:
    (rendered,) = render(tmp_path, [2])
    assert rendered.index == 2
    contents = tars(tmp_path, "shard-000002.tar")
    assert rows_of(rendered) == {
        name: ShardInfo(
            "shard-000002.tar", 16, 8, len(content), hashlib.sha256(content).hexdigest()
        )
        for name, content in contents.items()
    }


def test_render_shard_every_sample_is_different_and_numbered(tmp_path: Path) -> None:
    list_rendered(Folder.at(tmp_path), SCHEMAS, render(tmp_path, [0, 1]))
    images = open_pool(tmp_path).images
    rows = np.arange(16)
    assert len(np.unique(images.gather("w", rows), axis=0)) == 16
    meta = [json.loads(text) for text in images.gather("meta", rows)]
    assert meta == [{"index": index, "seed": RECIPE.seed} for index in range(16)]


def test_render_shard_stored_columns_equal_a_direct_forward_pass(tmp_path: Path) -> None:
    list_rendered(Folder.at(tmp_path), SCHEMAS, render(tmp_path, [0, 1]))
    pool, generator = open_pool(tmp_path), random_generator()
    rows = np.array([3, 8, 15])
    inputs = draw_inputs(generator, RECIPE.sampling, rows)
    with captured(generator, generator.blocks) as features:
        output = generator(inputs.z, inputs.noise)
    # stored as float16: half of 2^-10 relative; float32 kernels may round by batch size before it
    torch.testing.assert_close(
        torch.from_numpy(pool.gather_features(FEATURES, rows)).float(),
        pool_features(features),
        rtol=1e-3,
        atol=1e-4,
    )
    latents = torch.from_numpy(pool.images.gather("w", rows)).float()
    torch.testing.assert_close(latents, output.ws[:, 0], rtol=1e-3, atol=1e-4)
    # one grey level for values at the edge of two
    levels = (output.image.clamp(-1, 1) + 1) * 127.5
    stored = torch.from_numpy(pool.images.gather("image", rows)).float()
    assert (stored - levels).abs().max() <= 0.5 + 1e-2


def test_draw_inputs_of_a_sample_do_not_depend_on_its_batch() -> None:
    generator = random_generator()
    inputs = draw_inputs(generator, RECIPE.sampling, np.arange(4, 10))
    alone = draw_inputs(generator, RECIPE.sampling, np.array([7]))
    assert torch.equal(inputs.z[3:4], alone.z)
    sides = generator.noise_resolutions
    for maps, map_, side in zip(inputs.noise, alone.noise, sides, strict=True):
        assert isinstance(maps, torch.Tensor)
        assert isinstance(map_, torch.Tensor)
        assert maps.shape == (6, 1, side, side)
        assert torch.equal(maps[3:4], map_)


def test_draw_inputs_latents_do_not_depend_on_the_noise_mode() -> None:
    generator, rows = random_generator(), np.arange(5)
    expected = draw_inputs(generator, RECIPE.sampling, rows)
    for mode in ("const", "none"):
        found = draw_inputs(generator, pool_recipe(noise=mode).sampling, rows)
        assert found.noise == mode
        assert torch.equal(found.z, expected.z)


def test_render_batch_depends_on_seed_truncation_and_noise() -> None:
    generator, rows = random_generator(), np.arange(3)
    recipes = [
        RECIPE,
        pool_recipe(seed=6),
        pool_recipe(noise="const"),
        pool_recipe(noise="none"),
        replace(RECIPE, truncation_psi=0.5),
        replace(RECIPE, truncation_psi=0.5, truncation_cutoff=2),
    ]
    images = [render_batch(generator, recipe, SCHEMAS, rows)[IMAGES]["image"] for recipe in recipes]
    assert len({image.tobytes() for image in images}) == len(recipes)


def test_render_batch_truncation_to_zero_gives_the_mean_latent() -> None:
    generator = random_generator()
    recipe = replace(RECIPE, truncation_psi=0.0)
    columns = render_batch(generator, recipe, SCHEMAS, np.arange(3))[IMAGES]
    expected = generator.mapping.w_avg.half().numpy()
    np.testing.assert_array_equal(columns["w"], np.stack([expected] * 3))


def test_render_shard_features_beyond_float16_raise_and_leave_nothing(tmp_path: Path) -> None:
    generator = random_generator()
    bias = generator.get_submodule("synthesis.b8.conv1").bias
    assert isinstance(bias, torch.Tensor)
    bias.fill_(1e6)
    with pytest.raises(UserError, match=r"samples 8-10: features in float16 are not finite"):
        render_shard(generator, RECIPE, Folder.at(tmp_path), SCHEMAS, 1)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
