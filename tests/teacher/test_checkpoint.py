"""Teachers on disk: a round trip, and every way in which a folder may be unusable."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.records.digests import file_digest
from pipeline.teacher.checkpoint import (
    build_generator,
    load_discriminator,
    load_generator,
    save_teacher,
)
from pipeline.teacher.description import read_teacher_info
from pipeline.teacher.networks.discriminator import Discriminator
from pipeline.teacher.networks.stylegan2 import Generator
from shards.errors import UserError
from tests.support.tiny_shards import ARCHITECTURE, random_generator
from tests.support.tiny_shards import DISCRIMINATOR as DISCRIMINATOR_ARCHITECTURE

TRAINING = {"images_seen": 12, "config": {"seed": 0}}


@pytest.fixture
def teacher_folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_teacher(
        tmp_path / "teacher",
        random_generator(),
        Discriminator(DISCRIMINATOR_ARCHITECTURE),
        TRAINING,
    )
    return tmp_path / "teacher"


def assert_same_weights(first: nn.Module, second: nn.Module) -> None:
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


def test_save_teacher_loaded_again_is_the_same_frozen_networks(tmp_path: Path) -> None:
    generator, discriminator = random_generator(), Discriminator(DISCRIMINATOR_ARCHITECTURE)
    save_teacher(tmp_path, generator, discriminator, TRAINING)
    loaded, judge = load_generator(tmp_path), load_discriminator(tmp_path)
    assert_same_weights(loaded, generator)
    assert_same_weights(judge, discriminator)
    assert loaded.arch == ARCHITECTURE
    for network in (loaded, judge):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
    z = torch.randn(2, ARCHITECTURE.z_dim)
    # Loaded networks are channels-last, where float32 sums run in another order: 1e-5, not bits.
    torch.testing.assert_close(
        loaded(z, "const").image, generator(z, "const").image, rtol=1e-4, atol=1e-5
    )


def test_save_teacher_description_names_architecture_digests_blocks_and_training(
    teacher_folder: Path,
) -> None:
    info = read_teacher_info(teacher_folder)
    assert info.generator == ARCHITECTURE
    assert info.discriminator == DISCRIMINATOR_ARCHITECTURE
    assert info.origin == TRAINING
    assert info.digests == {
        name: file_digest(teacher_folder / name)
        for name in ("generator.safetensors", "discriminator.safetensors")
    }
    sizes = [("synthesis.b4", 12), ("synthesis.b8", 12), ("synthesis.b16", 8)]
    assert info.select("blocks") == sizes
    content = json.loads((teacher_folder / "teacher.json").read_text())
    assert content["features"][2] == {
        "name": "synthesis.b16",
        "num_channels": 8,
        "resolution": 16,
        "is_block": True,
    }


def test_build_generator_from_weights_equals_the_saved_one(teacher_folder: Path) -> None:
    weights = load_file(teacher_folder / "generator.safetensors")
    assert_same_weights(build_generator(ARCHITECTURE, weights), load_generator(teacher_folder))


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def truncate(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return damage


def alter_one_byte(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[-1] ^= 1
        (folder / name).write_bytes(content)

    return damage


def rewrite_description(**changes: Any) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        path = folder / "teacher.json"
        content = json.loads(path.read_text())
        content["generator"].update(changes)
        path.write_text(json.dumps(content))

    return damage


def drop_digests(folder: Path) -> None:
    path = folder / "teacher.json"
    content = json.loads(path.read_text())
    del content["digests"]
    path.write_text(json.dumps(content))


def describe_another_file(name: str) -> Callable[[Path], None]:
    """A weight file with a right digest that holds something else."""

    def damage(folder: Path) -> None:
        save_file({"x": torch.zeros(2)}, folder / name)
        path = folder / "teacher.json"
        content = json.loads(path.read_text())
        content["digests"][name] = file_digest(folder / name)
        path.write_text(json.dumps(content))

    return damage


GENERATOR, DISCRIMINATOR = "generator.safetensors", "discriminator.safetensors"


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (remove("teacher.json"), "teacher.json"),
        (truncate("teacher.json"), "teacher.json"),
        (drop_digests, "teacher.json"),
        (rewrite_description(resolution=24), "teacher.json"),
        (rewrite_description(depth=3), "teacher.json"),
        (remove(GENERATOR), GENERATOR),
        (truncate(GENERATOR), GENERATOR),
        (alter_one_byte(GENERATOR), GENERATOR),
        (rewrite_description(channel_max=10), GENERATOR),
        (rewrite_description(resolution=32), GENERATOR),
        (describe_another_file(GENERATOR), GENERATOR),
    ],
)
def test_load_generator_unusable_folder_is_named(
    teacher_folder: Path, damage: Callable[[Path], None], named: str
) -> None:
    damage(teacher_folder)
    with pytest.raises(UserError) as raised:
        load_generator(teacher_folder)
    assert str(teacher_folder / named) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "damage",
    [
        remove(DISCRIMINATOR),
        truncate(DISCRIMINATOR),
        alter_one_byte(DISCRIMINATOR),
        describe_another_file(DISCRIMINATOR),
    ],
)
def test_load_discriminator_unusable_file_is_named_and_the_generator_still_loads(
    teacher_folder: Path, damage: Callable[[Path], None]
) -> None:
    damage(teacher_folder)
    with pytest.raises(UserError, match=DISCRIMINATOR):
        load_discriminator(teacher_folder)
    assert load_generator(teacher_folder).arch == ARCHITECTURE


def test_load_generator_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        load_generator(tmp_path / "nowhere")


def test_teacher_info_json_round_trip_keeps_an_unset_and_a_set_clamp(tmp_path: Path) -> None:
    for clamp in (None, 256.0):
        generator = Generator(replace(ARCHITECTURE, conv_clamp=clamp))
        info = save_teacher(tmp_path, generator)
        assert read_teacher_info(tmp_path) == info
        assert info.generator == generator.arch
