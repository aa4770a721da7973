"""Rendering teachers of every kind: classes, grey, DCGANs, chosen layers, half precision."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import GenerateConfig
from pipeline.generate.plan import Plan, make_plan, make_recipe
from pipeline.generate.render import DTYPES, draw_inputs, render_batch, render_shard
from pipeline.seeding import numpy_generator
from pipeline.teacher.architecture import DCGANArchitecture, TransposedLayer
from pipeline.teacher.checkpoint import save_teacher
from pipeline.teacher.dcgan import DCGANGenerator
from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.features import captured
from pipeline.teacher.interface import TeacherGenerator
from pipeline.teacher.module import wrap_module
from pipeline.teacher.stylegan2 import Generator
from shards.errors import UserError
from shards.manifest import Manifest, write_manifest
from shards.reader import ShardReader
from tests import own_generator
from tests.tiny_shards import ARCHITECTURE, teacher_info

CONFIG = GenerateConfig(num_samples=12, samples_per_shard=6, render_batch=4, seed=5)
NUM_CLASSES = 5


def stylegan2(**changes: Any) -> Generator:
    """Whose noise inputs act and whose weights depend on nothing but the architecture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        generator = Generator(replace(ARCHITECTURE, **changes))
        for name, parameter in generator.named_parameters():
            if name.endswith("noise_strength"):
                parameter.data.uniform_(0.2, 0.5)
    return generator.eval().requires_grad_(False)


def dcgan(image_channels: int = 3) -> DCGANGenerator:
    layers = (
        TransposedLayer(8, 4, 1, 0),
        TransposedLayer(6, 4, 2, 1),
        TransposedLayer(image_channels, 4, 2, 1, has_bias=True, has_norm=False),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        generator = DCGANGenerator(DCGANArchitecture(7, layers))
        for name, buffer in generator.named_buffers():
            if name.endswith("running_var"):
                buffer.uniform_(0.01, 0.1)
    return generator.eval().requires_grad_(False)


def own_module() -> TeacherGenerator:
    module = own_generator.build_random()
    return wrap_module(module, z_dim=6, blocks=["first", "second"]).requires_grad_(False)


TEACHERS = {
    "conditional": lambda: stylegan2(num_classes=NUM_CLASSES),
    "one-class": lambda: stylegan2(num_classes=1),
    "grey": lambda: stylegan2(image_channels=1),
    "residual": lambda: stylegan2(skips="resnet"),
    "dcgan": dcgan,
    "grey-dcgan": lambda: dcgan(1),
    "own": own_module,
}


def describe(generator: TeacherGenerator, folder: Path) -> TeacherInfo:
    return save_teacher(folder / "teacher", generator)


def render(
    generator: TeacherGenerator, folder: Path, shards: Sequence[int] = (0, 1), **changes: Any
) -> tuple[Plan, ShardReader]:
    """The pool that the config with `changes` asks for, and what was written."""
    config = CONFIG.model_copy(update=changes)
    plan = make_plan(config, describe(generator, folder), folder / "store")
    written = [render_shard(generator, plan.recipe, plan.schema, plan.folder, k) for k in shards]
    write_manifest(plan.folder, Manifest(plan.schema, tuple(written)))
    return plan, ShardReader(plan.folder, remedy="render")


def read_meta(reader: ShardReader) -> list[dict[str, int]]:
    return [json.loads(text) for text in reader.gather("meta", np.arange(len(reader)))]


@pytest.mark.parametrize("name", TEACHERS)
def test_render_shard_of_any_teacher_holds_what_it_computes(name: str, tmp_path: Path) -> None:
    generator = TEACHERS[name]()
    plan, reader = render(generator, tmp_path)
    rows = np.arange(12)
    inputs = draw_inputs(generator, plan.recipe, rows)
    labels = inputs.one_hot(generator.arch.num_classes)
    with captured(generator.feature_root, generator.blocks) as found:
        output = generator(inputs.z, inputs.noise, labels=labels)
    stored = torch.from_numpy(reader.gather("features", rows)).float()
    # stored as float16: half of 2^-10 relative; float32 kernels may round by batch size before it
    tolerance = {"rtol": 1e-3, "atol": 1e-4}
    for block in plan.schema.features:
        part = stored[:, block.offset : block.offset + block.num_channels]
        torch.testing.assert_close(part, found[block.name].mean((2, 3)), **tolerance)
    latents = torch.from_numpy(reader.gather("w", rows)).float()
    torch.testing.assert_close(latents, output.ws[:, 0], **tolerance)
    levels = (output.image.clamp(-1, 1) + 1) * 127.5
    images = torch.from_numpy(reader.gather("image", rows)).float()
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
    path = "shard-000001.tar"
    assert (plan.folder / path).read_bytes() == (other.folder / path).read_bytes()


@pytest.mark.parametrize("make", [TEACHERS["grey"], TEACHERS["grey-dcgan"]])
def test_render_shard_grey_teacher_gives_three_equal_channels(make: Any, tmp_path: Path) -> None:
    _, reader = render(make(), tmp_path)
    images = reader.gather("image", np.arange(12))
    assert np.ptp(images) > 10
    np.testing.assert_array_equal(images[:, 0], images[:, 1])
    np.testing.assert_array_equal(images[:, 0], images[:, 2])


def test_render_shard_conditional_records_the_label_of_every_sample(tmp_path: Path) -> None:
    generator = TEACHERS["conditional"]()
    plan, reader = render(generator, tmp_path)
    classes = draw_inputs(generator, plan.recipe, np.arange(12)).classes
    assert classes is not None
    assert read_meta(reader) == [
        {"index": index, "seed": 5, "label": label} for index, label in enumerate(classes.tolist())
    ]
    assert len(set(classes.tolist())) > 1


def test_render_shard_without_classes_records_no_label(tmp_path: Path) -> None:
    for name in ("residual", "dcgan", "own"):
        _, reader = render(TEACHERS[name](), tmp_path / name)
        assert read_meta(reader) == [{"index": index, "seed": 5} for index in range(12)]


def test_render_shard_conditional_image_is_that_of_the_recorded_label(tmp_path: Path) -> None:
    generator = TEACHERS["conditional"]()
    plan, reader = render(generator, tmp_path)
    inputs = draw_inputs(generator, plan.recipe, np.arange(12))
    stored = torch.from_numpy(reader.gather("image", np.arange(12))).float()
    labels = [meta["label"] for meta in read_meta(reader)]
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


def test_draw_inputs_classes_are_uniform() -> None:
    generator = TEACHERS["conditional"]()
    recipe = make_recipe(CONFIG, fake_info(generator))
    classes = draw_inputs(generator, recipe, np.arange(1000)).classes
    assert classes is not None
    counts = torch.bincount(classes, minlength=NUM_CLASSES)
    # 200 each with a standard deviation of 12.6: five of them
    assert (counts - 200).abs().max() < 64
    assert classes.max() < NUM_CLASSES


def fake_info(generator: TeacherGenerator) -> TeacherInfo:
    """Enough to make a recipe of."""
    return replace(teacher_info(), generator=generator.arch)


def test_draw_inputs_conditional_sample_does_not_depend_on_its_batch() -> None:
    generator = TEACHERS["conditional"]()
    recipe = make_recipe(CONFIG, fake_info(generator))
    together = draw_inputs(generator, recipe, np.arange(4, 10))
    assert together.classes is not None
    for row in range(6):
        alone = draw_inputs(generator, recipe, np.array([4 + row]))
        assert torch.equal(alone.z, together.z[row : row + 1])
        assert alone.classes is not None
        assert alone.classes.item() == together.classes[row]


@pytest.mark.parametrize("mode", ["const", "none"])
def test_draw_inputs_conditional_sample_does_not_depend_on_the_noise_mode(mode: str) -> None:
    """What a sample shows is (seed, index); noise is a detail of how."""
    generator = TEACHERS["conditional"]()
    recipe = make_recipe(CONFIG, fake_info(generator))
    expected = draw_inputs(generator, recipe, np.arange(50))
    found = draw_inputs(generator, replace(recipe, noise=mode), np.arange(50))
    assert torch.equal(found.z, expected.z)
    assert found.classes is not None
    assert expected.classes is not None
    assert torch.equal(found.classes, expected.classes)


def test_draw_inputs_latents_are_the_same_with_and_without_classes() -> None:
    plain, conditional = stylegan2(), stylegan2(num_classes=NUM_CLASSES)
    recipe = make_recipe(CONFIG, fake_info(plain))
    rows = np.arange(6)
    ours, theirs = draw_inputs(plain, recipe, rows), draw_inputs(conditional, recipe, rows)
    assert ours.classes is None
    assert ours.one_hot(0) is None
    assert torch.equal(ours.z, theirs.z)
    for map_, other in zip(ours.noise, theirs.noise, strict=True):
        assert isinstance(map_, torch.Tensor)
        assert isinstance(other, torch.Tensor)
        assert torch.equal(map_, other)


def test_draw_inputs_without_classes_are_the_first_numbers_of_the_samples_counter() -> None:
    """Pools rendered by earlier releases stay what they are."""
    generator = stylegan2()
    recipe = make_recipe(CONFIG, fake_info(generator))
    inputs = draw_inputs(generator, recipe, np.array([3, 1000]))
    sides = [4, 8, 8, 16, 16]
    for row, index in enumerate([3, 1000]):
        draws = numpy_generator(5, "generate", index)
        wanted = draws.standard_normal(8 + sum(r * r for r in sides), dtype=np.float32)
        found = [inputs.z[row]]
        for map_ in inputs.noise:
            assert isinstance(map_, torch.Tensor)
            found.append(map_[row].flatten())
        np.testing.assert_array_equal(torch.cat(found).numpy(), wanted)


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
    plan, reader = render(generator, tmp_path, features=features)
    assert plan.recipe.features == features
    assert [block.name for block in plan.schema.features] == list(features)
    inputs = draw_inputs(generator, plan.recipe, np.arange(12))
    layers = [name for name in features if name != "w"]
    with captured(generator, layers) as found:
        output = generator(inputs.z, inputs.noise)
    parts = [output.ws[:, 0] if name == "w" else found[name].mean((2, 3)) for name in features]
    wanted = torch.cat(parts, 1)
    stored = torch.from_numpy(reader.gather("features", np.arange(12))).float()
    # stored as float16: half of 2^-10 relative; float32 kernels may round by batch size before it
    torch.testing.assert_close(stored, wanted, rtol=1e-3, atol=1e-4)
    offset = 0
    for block, part in zip(plan.schema.features, parts, strict=True):
        assert (block.offset, block.num_channels) == (offset, part.shape[1])
        offset += part.shape[1]


def test_render_shard_w_among_the_features_is_the_column_w(tmp_path: Path) -> None:
    for name in ("conditional", "dcgan"):
        _, reader = render(TEACHERS[name](), tmp_path / name, features=("w",))
        rows = np.arange(12)
        np.testing.assert_array_equal(reader.gather("features", rows), reader.gather("w", rows))


def test_render_shard_feature_selection_does_not_change_images_and_latents(tmp_path: Path) -> None:
    _, blocks = render(stylegan2(), tmp_path / "blocks")
    _, layers = render(stylegan2(), tmp_path / "layers", features=("synthesis.b8.conv0",))
    for column in ("image", "w", "meta"):
        first, second = (reader.gather(column, np.arange(12)) for reader in (blocks, layers))
        np.testing.assert_array_equal(first, second)


def test_make_plan_feature_named_twice_is_refused(tmp_path: Path) -> None:
    info = teacher_info()
    with pytest.raises((UserError, ValueError), match=r"twice|duplicate|unique|more than once"):
        make_plan(GenerateConfig(features=("synthesis.b8", "w", "synthesis.b8")), info, tmp_path)


def test_make_recipe_truncation_of_a_teacher_without_a_mapping_is_refused(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"truncation_psi": 0.7})
    for name in ("dcgan", "own"):
        info = describe(TEACHERS[name](), tmp_path / name)
        with pytest.raises(UserError, match=r"generate\.truncation_psi") as raised:
            make_recipe(config, info)
        assert info.generator.family in str(raised.value)
    assert make_recipe(config, describe(stylegan2(), tmp_path / "s")).truncation_psi == 0.7


def test_make_recipe_half_precision_of_a_teacher_without_it_is_refused(tmp_path: Path) -> None:
    """At planning, before anything is written or a cluster is asked for workers."""
    for name in ("dcgan", "own", "residual"):
        info = describe(TEACHERS[name](), tmp_path / name)
        for precision in ("float16", "bfloat16"):
            with pytest.raises(UserError, match=r"generate\.precision"):
                make_recipe(CONFIG.model_copy(update={"precision": precision}), info)


def key(info: TeacherInfo, factory: str | None = None, **changes: Any) -> str:
    return make_recipe(CONFIG.model_copy(update=changes), info, factory).key


def test_make_recipe_key_changes_with_features_precision_and_cutoff(tmp_path: Path) -> None:
    info = describe(stylegan2(num_half_blocks=2), tmp_path)
    keys = [
        key(info),
        key(info, features=("synthesis.b8",)),
        key(info, features=("synthesis.b8", "w")),
        key(info, features=("w", "synthesis.b8")),
        key(info, precision="float16"),
        key(info, precision="bfloat16"),
        key(info, truncation_psi=0.7),
        key(info, truncation_psi=0.7, truncation_cutoff=2),
        key(info, truncation_psi=0.7, truncation_cutoff=3),
    ]
    assert len(set(keys)) == len(keys)
    assert key(info, features=info.blocks) == key(info), "the same pool by another name"


def test_make_recipe_key_changes_with_the_source_of_ones_own_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = describe(own_module(), tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code = tmp_path / "code_of_a_teacher.py"
    code.write_text("def build(): ...\n")
    first = key(info, "code_of_a_teacher:build")
    assert key(info, "code_of_a_teacher:build") == first
    code.write_text("def build(): return 3\n")
    assert key(info, "code_of_a_teacher:build") != first
    code.write_text("def build(): ...\n")
    assert key(info, "code_of_a_teacher:build") == first


@pytest.mark.parametrize("factory", ["nowhere:build", "os.nowhere:build", "sys:build"])
def test_make_recipe_code_that_is_not_there_is_named(factory: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"teacher.factory={factory}.*PYTHONPATH"):
        key(describe(own_module(), tmp_path), factory)


def half_generator(**changes: Any) -> Generator:
    return stylegan2(num_half_blocks=2, conv_clamp=256.0, **changes)


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
    recipe = replace(recipe, features=("synthesis.b4", "synthesis.b16"))
    exact = render_batch(generator, recipe, np.arange(6))
    generator.set_precision(DTYPES[precision])
    found = render_batch(generator, recipe, np.arange(6))
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
    again = render_batch(generator, recipe, np.arange(6))
    for column in exact:
        np.testing.assert_array_equal(again[column], exact[column])


def test_render_shard_in_half_precision_is_repeatable_and_another_pool(tmp_path: Path) -> None:
    generator = half_generator()
    generator.set_precision(torch.bfloat16)
    plan, _ = render(generator, tmp_path / "first", precision="bfloat16")
    other, _ = render(generator, tmp_path / "second", shards=[1], precision="bfloat16")
    path = "shard-000001.tar"
    assert (plan.folder / path).read_bytes() == (other.folder / path).read_bytes()
    assert plan.recipe.key != key(describe(generator, tmp_path / "third"))


def test_set_precision_of_a_teacher_made_for_float32_is_refused() -> None:
    for name in ("dcgan", "own", "residual"):
        generator = TEACHERS[name]()
        generator.set_precision(torch.float32)
        for dtype in (torch.float16, torch.bfloat16):
            with pytest.raises(UserError, match=r"generate\.precision"):
                generator.set_precision(dtype)


def test_render_batch_clamp_keeps_float16_finite(tmp_path: Path) -> None:
    """A layer beyond float16's 65504: infinite without the clamp, at the clamp with it."""
    clamped, free = half_generator(), stylegan2(num_half_blocks=2)
    for generator in (clamped, free):
        bias = generator.get_submodule("synthesis.b16.conv1").bias
        assert isinstance(bias, torch.Tensor)
        bias.fill_(1e6)
        generator.set_precision(torch.float16)
    config = CONFIG.model_copy(update={"features": ("synthesis.b16",), "precision": "float16"})
    recipe = make_recipe(config, describe(clamped, tmp_path))
    batch = render_batch(clamped, recipe, np.arange(4))
    np.testing.assert_array_equal(batch["features"], np.full((4, 8), 256, np.float16))
    with pytest.raises(ValueError, match="not finite in float16"):
        render_batch(free, recipe, np.arange(4))
