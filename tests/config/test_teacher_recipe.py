"""`teacher.recipe`: defaults that follow the resolution, and what the file and the command line
say first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.config.teacher import TeacherConfig, auto_recipe
from shards.errors import UserError

RESOLUTIONS = (8, 16, 32, 64, 128, 256, 512, 1024)


def load(
    folder: Path, teacher: dict[str, Any], *overrides: str, real: dict[str, Any] | None = None
) -> TeacherConfig:
    path = folder / "run.yaml"
    content = {"name": "x", "teacher": teacher} | ({} if real is None else {"real": real})
    path.write_text(yaml.safe_dump(content))
    return load_config(path, overrides).teacher


def fields(teacher: TeacherConfig) -> dict[str, Any]:
    return teacher.model_dump(exclude={"recipe"})


@pytest.mark.parametrize(
    ("resolution", "batch", "base", "rate", "gamma", "ema"),
    [
        # the reference's `auto` on one GPU: batch max(min(4096 // res, 32), 1), its γ
        # 0.0002 res² / batch, and an average over batch · 10 / 32 thousand images
        (32, 32, 16384, 0.0025, 0.0064, 10_000),
        (64, 32, 16384, 0.0025, 0.0256, 10_000),
        (128, 32, 16384, 0.0025, 0.1024, 10_000),
        (256, 16, 16384, 0.0025, 0.8192, 5_000),
        (512, 8, 32768, 0.0025, 6.5536, 2_500),
        (1024, 4, 32768, 0.002, 52.4288, 1_250),
    ],
)
def test_auto_recipe_follows_the_references_table(
    resolution: int, batch: int, base: int, rate: float, gamma: float, ema: int, tmp_path: Path
) -> None:
    teacher = load(tmp_path, {"recipe": "auto"}, real={"resolution": resolution})
    assert teacher.global_batch == batch
    assert teacher.mbstd_group_size == 4
    assert teacher.channel_base == base
    assert teacher.learning_rate == rate
    assert teacher.r1_gamma == pytest.approx(gamma)
    assert teacher.ema_images == ema
    assert teacher.discriminator_skips == "resnet"
    assert (teacher.path_length_weight, teacher.style_mixing_p) == (2.0, 0.9)


@pytest.mark.parametrize("resolution", RESOLUTIONS)
def test_auto_recipe_fills_its_fields_and_leaves_the_rest(resolution: int, tmp_path: Path) -> None:
    teacher = load(tmp_path, {"recipe": "auto"}, real={"resolution": resolution})
    assert fields(teacher) == fields(TeacherConfig()) | auto_recipe(resolution)
    assert teacher.recipe == "auto"


def test_auto_recipe_without_a_real_section_takes_its_default_resolution(tmp_path: Path) -> None:
    default = Config(name="x").real.resolution
    assert fields(load(tmp_path, {"recipe": "auto"})) == fields(TeacherConfig()) | auto_recipe(
        default
    )


VALUES: dict[str, Any] = {
    "global_batch": 8,
    "mbstd_group_size": 2,
    "channel_base": 64,
    "learning_rate": 0.001,
    "r1_gamma": 0.5,
    "ema_images": 77,
    "discriminator_skips": "skip",
    "path_length_weight": 0.0,
    "style_mixing_p": 0.0,
}


def test_auto_recipe_values_below_are_one_for_each_of_its_fields() -> None:
    assert VALUES.keys() == auto_recipe(32).keys()


@pytest.mark.parametrize("name", VALUES)
def test_auto_recipe_never_overrides_the_file(name: str, tmp_path: Path) -> None:
    teacher = load(tmp_path, {"recipe": "auto", name: VALUES[name]}, real={"resolution": 64})
    assert fields(teacher) == fields(TeacherConfig()) | auto_recipe(64) | {name: VALUES[name]}


@pytest.mark.parametrize("name", VALUES)
def test_auto_recipe_never_overrides_the_command_line(name: str, tmp_path: Path) -> None:
    override = f"teacher.{name}={VALUES[name]}"
    teacher = load(tmp_path, {"recipe": "auto"}, override, real={"resolution": 64})
    assert fields(teacher) == fields(TeacherConfig()) | auto_recipe(64) | {name: VALUES[name]}


def test_auto_recipe_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    teacher = load(tmp_path, {"recipe": "auto", "r1_gamma": 3.0}, "teacher.r1_gamma=4")
    assert teacher.r1_gamma == 4


def test_auto_recipe_on_the_command_line_is_the_recipe_of_the_file(tmp_path: Path) -> None:
    by_file = load(tmp_path, {"recipe": "auto"}, real={"resolution": 256})
    by_hand = load(tmp_path, {}, "teacher.recipe=auto", "real.resolution=256")
    assert by_hand == by_file
    back = load(tmp_path, {"recipe": "auto"}, "teacher.recipe=cifar", "real.resolution=256")
    assert back == TeacherConfig()


def test_auto_recipe_resolution_on_the_command_line_counts(tmp_path: Path) -> None:
    teacher = load(tmp_path, {"recipe": "auto"}, "real.resolution=512", real={"resolution": 32})
    assert fields(teacher) == fields(TeacherConfig()) | auto_recipe(512)


@pytest.mark.parametrize("resolution", ["64", 64.0], ids=["text", "float"])
def test_auto_recipe_resolution_in_another_notation_counts(resolution: Any, tmp_path: Path) -> None:
    """The config takes both for 64, and then the recipe must, too."""
    teacher = load(tmp_path, {"recipe": "auto"}, real={"resolution": resolution})
    assert fields(teacher) == fields(TeacherConfig()) | auto_recipe(64)


def test_cifar_recipe_leaves_the_defaults(tmp_path: Path) -> None:
    for teacher in ({}, {"recipe": "cifar"}):
        for resolution in (32, 256):
            assert load(tmp_path, teacher, real={"resolution": resolution}) == TeacherConfig()


def test_auto_recipe_resolved_config_is_a_config_of_the_same_content(tmp_path: Path) -> None:
    """What a stage saves beside its results can be loaded again."""
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "teacher": {"recipe": "auto"}}))
    config = load_config(path, ["real.resolution=128", "teacher.r1_gamma=9"])
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(path) == config


def test_auto_recipe_smaller_batch_than_the_recipes_is_possible(tmp_path: Path) -> None:
    for batch in (1, 2, 4, 12, 64):
        teacher = load(tmp_path, {"recipe": "auto", "global_batch": batch})
        assert teacher.global_batch == batch


@pytest.mark.parametrize("recipe", ["paper256", "", None, ["auto"], 3], ids=str)
def test_recipe_that_is_none_is_named(recipe: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"teacher\.recipe"):
        load(tmp_path, {"recipe": recipe})


@pytest.mark.parametrize("resolution", [0, -32, "big", None, True, 10**9], ids=str)
def test_auto_recipe_impossible_resolution_names_the_resolution(
    resolution: Any, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="resolution"):
        load(tmp_path, {"recipe": "auto"}, real={"resolution": resolution})
