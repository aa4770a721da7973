"""Rendering teachers of every kind: classes, grey, DCGANs, chosen layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.teacher.draws import draw_inputs
from pipeline.teacher.features import captured
from shards.pool import IMAGES, PoolReader
from tests.support.tiny_teachers import NUM_CLASSES, TEACHERS, dcgan, render, stylegan2


def read_meta(pool: PoolReader) -> list[dict[str, int]]:
    return [json.loads(text) for text in pool.images.gather("meta", np.arange(len(pool)))]


def read_features(pool: PoolReader) -> torch.Tensor:
    """The one set of features that was asked for, as it is stored."""
    (features,) = pool.feature_sets
    return torch.from_numpy(features.gather("features", np.arange(len(pool)))).float()


@pytest.mark.parametrize("name", TEACHERS)
def test_render_shard_of_any_teacher_holds_what_it_computes(name: str, tmp_path: Path) -> None:
    generator = TEACHERS[name]()
    plan, pool = render(generator, tmp_path)
    rows = np.arange(12)
    inputs = draw_inputs(generator, plan.recipe.sampling, rows)
    labels = inputs.one_hot(generator.arch.num_classes)
    with captured(generator.feature_root, generator.blocks) as found:
        output = generator(inputs.z, inputs.noise, labels=labels)
    # stored as float16: half of 2^-10 relative; float32 kernels may round by batch size before it
    tolerance = {"rtol": 1e-3, "atol": 1e-4}
    assert list(plan.features) == list(generator.blocks)
    for name in plan.features:
        part = torch.from_numpy(pool.gather_features([name], rows)).float()
        torch.testing.assert_close(part, found[name].mean((2, 3)), **tolerance)
    latents = torch.from_numpy(pool.images.gather("w", rows)).float()
    torch.testing.assert_close(latents, output.ws[:, 0], **tolerance)
    levels = (output.image.clamp(-1, 1) + 1) * 127.5
    images = torch.from_numpy(pool.images.gather("image", rows)).float()
    assert images.shape == (12, 3, 16, 16)
    # one grey level for values at the edge of two
    assert (images - levels.expand(-1, 3, -1, -1)).abs().max() <= 0.5 + 1e-2
    assert len(np.unique(images.numpy(), axis=0)) == 12


@pytest.mark.parametrize("name", TEACHERS)
def test_render_shard_of_any_teacher_alone_equals_the_same_from_a_full_run(
    name: str, tmp_path: Path
) -> None:
    generator = TEACHERS[name]()
    plan, _ = render(generator, tmp_path / "whole")
    other, _ = render(generator, tmp_path / "alone", shards=[1])
    for name in (IMAGES, *plan.feature_sets):
        path = f"{name}/shard-000001.tar"
        assert (plan.folder.path / path).read_bytes() == (other.folder.path / path).read_bytes()


@pytest.mark.parametrize("make", [TEACHERS["grey"], TEACHERS["grey-dcgan"]])
def test_render_shard_grey_teacher_gives_three_equal_channels(make: Any, tmp_path: Path) -> None:
    _, pool = render(make(), tmp_path)
    images = pool.images.gather("image", np.arange(12))
    assert np.ptp(images) > 10
    np.testing.assert_array_equal(images[:, 0], images[:, 1])
    np.testing.assert_array_equal(images[:, 0], images[:, 2])


def test_render_shard_transparent_teacher_gives_its_colours(tmp_path: Path) -> None:
    generator = dcgan(image_channels=4)
    plan, pool = render(generator, tmp_path)
    inputs = draw_inputs(generator, plan.recipe.sampling, np.arange(12))
    levels = (generator(inputs.z).image[:, :3].clamp(-1, 1) + 1) * 127.5
    images = torch.from_numpy(pool.images.gather("image", np.arange(12))).float()
    assert (images - levels).abs().max() <= 0.5 + 1e-2


def test_render_shard_conditional_records_the_label_of_every_sample(tmp_path: Path) -> None:
    generator = TEACHERS["conditional"]()
    plan, pool = render(generator, tmp_path)
    classes = draw_inputs(generator, plan.recipe.sampling, np.arange(12)).classes
    assert classes is not None
    assert read_meta(pool) == [
        {"index": index, "seed": 5, "label": label} for index, label in enumerate(classes.tolist())
    ]
    assert len(set(classes.tolist())) > 1


def test_render_shard_without_classes_records_no_label(tmp_path: Path) -> None:
    for name in ("residual", "dcgan", "own"):
        _, pool = render(TEACHERS[name](), tmp_path / name)
        assert read_meta(pool) == [{"index": index, "seed": 5} for index in range(12)]


def test_render_shard_of_chosen_classes_has_no_others(tmp_path: Path) -> None:
    _, pool = render(TEACHERS["conditional"](), tmp_path, classes=(1, 4))
    assert {meta["label"] for meta in read_meta(pool)} == {1, 4}


def test_render_shard_conditional_image_is_that_of_the_recorded_label(tmp_path: Path) -> None:
    generator = TEACHERS["conditional"]()
    plan, pool = render(generator, tmp_path)
    inputs = draw_inputs(generator, plan.recipe.sampling, np.arange(12))
    stored = torch.from_numpy(pool.images.gather("image", np.arange(12))).float()
    labels = [meta["label"] for meta in read_meta(pool)]
    differences = []
    for label in range(NUM_CLASSES):
        one_hot = torch.eye(NUM_CLASSES)[[label] * 12]
        image = generator(inputs.z, inputs.noise, labels=one_hot).image.clamp(-1, 1)
        differences.append((stored - (image + 1) * 127.5).abs().flatten(1).amax(1))
    distances = torch.stack(differences, 1)  # [sample, class]
    for row, label in enumerate(labels):
        # half a grey level of rounding, and the edge of two
        assert distances[row, label] <= 0.5 + 1e-2
        others = [distances[row, other] for other in range(NUM_CLASSES) if other != label]
        assert min(others) > 1, "another label is another image"


@pytest.mark.parametrize(
    "features",
    [
        ("w",),
        ("synthesis.b8", "w"),
        ("w", "synthesis.b16.conv0", "synthesis.b8", "synthesis.b4.torgb"),
        ("synthesis.b16.conv1", "synthesis.b16"),
    ],
)
def test_render_shard_chosen_features_equal_direct_computation(
    features: tuple[str, ...], tmp_path: Path
) -> None:
    generator = stylegan2()
    plan, pool = render(generator, tmp_path, features=features)
    assert plan.features == features
    blocks = pool.feature_sets[0].schema.features
    assert [block.name for block in blocks] == list(features)
    inputs = draw_inputs(generator, plan.recipe.sampling, np.arange(12))
    layers = [name for name in features if name != "w"]
    with captured(generator, layers) as found:
        output = generator(inputs.z, inputs.noise)
    parts = [output.ws[:, 0] if name == "w" else found[name].mean((2, 3)) for name in features]
    wanted = torch.cat(parts, 1)
    stored = read_features(pool)
    # stored as float16: half of 2^-10 relative; float32 kernels may round by batch size before it
    torch.testing.assert_close(stored, wanted, rtol=1e-3, atol=1e-4)
    offset = 0
    for block, part in zip(blocks, parts, strict=True):
        assert (block.offset, block.num_channels) == (offset, part.shape[1])
        offset += part.shape[1]


def test_render_shard_w_among_the_features_is_the_column_w(tmp_path: Path) -> None:
    _, pool = render(TEACHERS["conditional"](), tmp_path, features=("w",))
    latents = pool.images.gather("w", np.arange(12))
    np.testing.assert_array_equal(read_features(pool), latents)


def test_render_shard_feature_selection_does_not_change_images_and_latents(tmp_path: Path) -> None:
    _, blocks = render(stylegan2(), tmp_path / "blocks")
    _, layers = render(stylegan2(), tmp_path / "layers", features=("synthesis.b8.conv0",))
    for column in ("image", "w", "meta"):
        first, second = (pool.images.gather(column, np.arange(12)) for pool in (blocks, layers))
        np.testing.assert_array_equal(first, second)
