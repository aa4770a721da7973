"""State dicts of StyleGAN2: names of every layout, what the shapes tell and what the JSON says."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.teacher.architectures.stylegan2 import StyleGAN2DiscriminatorArchitecture
from pipeline.teacher.checkpoint import load_discriminator, load_generator
from pipeline.teacher.description import read_teacher_info
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.networks.stylegan2 import Generator
from tests.support.state_files import (
    BOTH_STATES,
    DISCRIMINATOR_STATE,
    GENERATOR_STATE,
    STYLEGAN2,
    State,
    import_state,
    prefixed,
    random_discriminator,
    save_state,
    without,
)
from tests.support.tiny_shards import ARCHITECTURE, DISCRIMINATOR, random_generator
from tests.support.tiny_teachers import stylegan2


def without_mapping(arch: StyleGAN2DiscriminatorArchitecture) -> StyleGAN2DiscriminatorArchitecture:
    """Its mapping layers count only with classes; these discriminators have none."""
    return replace(arch, num_mapping_layers=0)


def assert_same_teacher(folder: Path, *, has_discriminator: bool) -> None:
    z = torch.randn(4, ARCHITECTURE.z_dim, generator=torch.Generator().manual_seed(1))
    image = random_generator()(z, "const").image
    found = load_generator(folder)(z, "const").image
    torch.testing.assert_close(found, image, rtol=1e-4, atol=1e-5)
    info = read_teacher_info(folder)
    assert info.generator == ARCHITECTURE
    if info.discriminator is None:
        assert not has_discriminator
    else:
        assert without_mapping(info.discriminator) == without_mapping(DISCRIMINATOR)
        wanted = random_discriminator()(image)
        torch.testing.assert_close(load_discriminator(folder)(image), wanted, rtol=1e-4, atol=1e-4)


LAYOUTS: dict[str, State] = {
    "bare": GENERATOR_STATE,
    "G_ema": prefixed("G_ema.", GENERATOR_STATE),
    "generator": prefixed("generator.", GENERATOR_STATE),
    "G_ema-and-D": BOTH_STATES,
    "generator-and-discriminator": prefixed("discriminator.", DISCRIMINATOR_STATE)
    | prefixed("generator.", GENERATOR_STATE),
    "bare-and-D": GENERATOR_STATE | prefixed("D.", DISCRIMINATOR_STATE),
    "with-the-last-G": prefixed(
        "G.", {name: tensor * 0 for name, tensor in GENERATOR_STATE.items()}
    )
    | prefixed("D.", DISCRIMINATOR_STATE)
    | prefixed("G_ema.", GENERATOR_STATE),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_import_stylegan2_names_of_every_layout_give_the_same_teacher(
    layout: str, suffix: str, tmp_path: Path
) -> None:
    content = LAYOUTS[layout]
    file = save_state(content, tmp_path / f"state{suffix}")
    import_state(tmp_path, file, STYLEGAN2)
    has_discriminator = any(name.startswith(("D.", "discriminator.")) for name in content)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=has_discriminator)


@pytest.mark.parametrize(
    "content",
    [
        {"G_ema": GENERATOR_STATE, "D": DISCRIMINATOR_STATE},
        {
            "D": DISCRIMINATOR_STATE,
            "G_ema": GENERATOR_STATE,
            "step": 3,
            "config": {"lr": 0.1},
            "note": "best",
        },
        {
            "generator": nn.ParameterDict(),
            "G_ema": GENERATOR_STATE,
            "discriminator": DISCRIMINATOR_STATE,
        },
    ],
    ids=["two", "with-other-things", "with-an-empty-one"],
)
def test_import_stylegan2_nested_dictionaries_are_joined(content: State, tmp_path: Path) -> None:
    content = {name: dict(part) if isinstance(part, nn.ParameterDict) else part
               for name, part in content.items()}  # fmt: skip
    file = save_state(content, tmp_path / "nested.pt")
    import_state(tmp_path, file, STYLEGAN2)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=True)


NESTED: dict[str, State] = {
    "checkpoint": {"epoch": 3, "checkpoint": {"G_ema": GENERATOR_STATE, "D": DISCRIMINATOR_STATE}},
    "parallel": {
        "G_ema": prefixed("module.", GENERATOR_STATE),
        "D": prefixed("module.", DISCRIMINATOR_STATE),
    },
    "lightning": {
        "state_dict": prefixed("generator_ema.", GENERATOR_STATE)
        | prefixed("generator.", {name: tensor * 0 for name, tensor in GENERATOR_STATE.items()})
        | prefixed("discriminator.", DISCRIMINATOR_STATE)
    },
}


@pytest.mark.parametrize("is_described", [True, False], ids=["json", "no-json"])
@pytest.mark.parametrize("name", [*LAYOUTS, *NESTED])
def test_import_stylegan2_is_found_by_its_names(
    name: str, is_described: bool, tmp_path: Path
) -> None:
    content = LAYOUTS.get(name) or NESTED[name]
    file = save_state(content, tmp_path / "state.pt")
    if is_described:
        info = import_state(tmp_path, file, STYLEGAN2)
    else:
        info = import_teacher(file, tmp_path / "teacher")
        assert "--architecture" in info.origin["notes"][0]
    assert_same_teacher(
        tmp_path / "teacher", has_discriminator=name not in ("bare", "G_ema", "generator")
    )
    keys = {"checkpoint": "checkpoint.G_ema", "parallel": "G_ema",
            "lightning": "state_dict.generator_ema"}  # fmt: skip
    if name in keys:
        assert info.origin["weights"] == keys[name]
        assert info.origin["is_averaged"]


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_import_stylegan2_discriminator_may_be_a_file_of_its_own(
    suffix: str, tmp_path: Path
) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / f"g{suffix}")
    judge = save_state(DISCRIMINATOR_STATE, tmp_path / f"d{suffix}")
    import_state(tmp_path, file, STYLEGAN2, discriminator=judge)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=True)


def test_import_stylegan2_names_left_out_are_the_usual_filter_and_no_noise(tmp_path: Path) -> None:
    generator = random_generator()
    for name, tensor in generator.state_dict().items():
        if name.endswith("noise_strength"):
            tensor.zero_()
    left_out = ("resample_filter", "noise_strength", "noise_const")
    state = without(*left_out)(dict(generator.state_dict()))
    import_state(tmp_path, save_state(state, tmp_path / "g.pt"), STYLEGAN2)
    z = torch.randn(2, ARCHITECTURE.z_dim)
    found = load_generator(tmp_path / "teacher")
    for noise in ("const", "none"):
        torch.testing.assert_close(
            found(z, noise).image, generator(z, "none").image, rtol=1e-4, atol=1e-5
        )


AGREEING = [
    asdict(ARCHITECTURE),
    {**asdict(ARCHITECTURE), "discriminator": asdict(DISCRIMINATOR)},
    STYLEGAN2 | {"resolution": 16},
    STYLEGAN2 | {"channel_base": 140},  # the same widths as 128
    STYLEGAN2 | {"discriminator": {"mbstd_group_size": 4, "skips": "orig"}},
    STYLEGAN2 | {"discriminator": {}},
]


@pytest.mark.parametrize("said", AGREEING, ids=range(len(AGREEING)))
def test_import_stylegan2_json_that_agrees_changes_nothing(
    said: dict[str, Any], tmp_path: Path
) -> None:
    file = save_state(LAYOUTS["G_ema-and-D"], tmp_path / "state.pt")
    import_state(tmp_path, file, said)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=True)


def test_import_stylegan2_what_no_shape_tells_is_taken_from_the_json(tmp_path: Path) -> None:
    told = {"conv_clamp": 0.5, "mapping_lr_mult": 0.02, "num_half_blocks": 2}
    judged = {"conv_clamp": 0.25, "mbstd_group_size": 2}
    file = save_state(LAYOUTS["G_ema-and-D"], tmp_path / "state.pt")
    info = import_state(tmp_path, file, STYLEGAN2 | told | {"discriminator": judged})
    arch = replace(ARCHITECTURE, **told)
    assert info.generator == arch
    assert info.discriminator is not None
    assert without_mapping(info.discriminator) == without_mapping(replace(DISCRIMINATOR, **judged))
    wanted = Generator(arch).eval()
    wanted.load_state_dict(GENERATOR_STATE)
    z = torch.randn(3, arch.z_dim, generator=torch.Generator().manual_seed(1))
    image = wanted(z, "const").image
    torch.testing.assert_close(
        load_generator(tmp_path / "teacher")(z, "const").image, image, rtol=1e-4, atol=1e-5
    )
    plain = random_generator()(z, "const").image
    assert (plain - image).abs().max() > 0.1


def test_import_stylegan2_classes_skips_and_grey_are_told_by_the_shapes(tmp_path: Path) -> None:
    for skips in ("orig", "skip", "resnet"):
        folder = tmp_path / skips
        folder.mkdir()
        generator = stylegan2(num_classes=3, image_channels=1, skips=skips)
        file = save_state(generator.state_dict(), folder / "g.pt")
        info = import_state(folder, file, STYLEGAN2)
        assert info.generator == generator.arch
        z, labels = torch.randn(3, ARCHITECTURE.z_dim), torch.eye(3)
        torch.testing.assert_close(
            load_generator(folder / "teacher")(z, "const", labels=labels).image,
            generator(z, "const", labels=labels).image,
            rtol=1e-4,
            atol=1e-5,
        )


def test_import_stylegan2_discriminator_in_a_file_of_its_own_may_have_a_prefix(
    tmp_path: Path,
) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    judge = save_state(prefixed("D.", DISCRIMINATOR_STATE), tmp_path / "d.pt")
    import_state(tmp_path, file, STYLEGAN2, discriminator=judge)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=True)
