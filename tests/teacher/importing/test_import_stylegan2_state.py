"""State dicts of StyleGAN2: names of every layout, what the shapes tell and what the JSON says."""

from __future__ import annotations

from collections.abc import Callable
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
from shards.errors import UserError
from tests.support.ordinary_dcgan import small_dcgan
from tests.support.state_files import (
    BOTH_STATES,
    DISCRIMINATOR_STATE,
    GENERATOR_STATE,
    STYLEGAN2,
    State,
    assert_refused,
    import_state,
    prefixed,
    random_discriminator,
    save_state,
    with_tensor,
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


@pytest.mark.parametrize(
    ("said", "mention"),
    [
        ({"resolution": 32}, "resolution"),
        ({"resolution": 10**30}, "resolution"),
        ({"resolution": 1 << 40}, "resolution"),
        ({"resolution": -16}, "resolution"),
        ({"resolution": "big"}, "resolution"),
        ({"z_dim": 9}, "z_dim"),
        ({"w_dim": 10**12}, "w_dim"),
        ({"num_mapping_layers": 3}, "num_mapping_layers"),
        ({"num_mapping_layers": 10**9}, "num_mapping_layers"),
        ({"channel_base": 127}, "channel_base"),
        ({"channel_base": 256}, "channel_base"),
        ({"channel_max": 11}, "channel_max"),
        ({"channel_max": 10**9}, "channel_max"),
        ({"image_channels": 1}, "image_channels"),
        ({"num_classes": 2}, "num_classes"),
        ({"skips": "resnet"}, "skips"),
        ({"skips": "none"}, "skips"),
        ({"depth": 3}, "depth"),
        ({"conv_clamp": "much"}, "conv_clamp"),
        ({"conv_clamp": [256]}, "conv_clamp"),
        ({"conv_clamp": 0}, "conv_clamp"),
        ({"conv_clamp": -256}, "conv_clamp"),
        ({"conv_clamp": float("nan")}, "conv_clamp"),
        ({"mapping_lr_mult": "small"}, "mapping_lr_mult"),
        ({"mapping_lr_mult": float("nan")}, "mapping_lr_mult"),
        ({"mapping_lr_mult": float("inf")}, "mapping_lr_mult"),
        ({"num_half_blocks": -1}, "num_half_blocks"),
        ({"num_half_blocks": 1.5}, "num_half_blocks"),
        ({"num_half_blocks": 10**12}, "num_half_blocks"),
        ({"discriminator": {"resolution": 32}}, "resolution"),
        ({"discriminator": {"channel_base": 64}}, "channel_base"),
        ({"discriminator": {"depth": 3}}, "depth"),
        ({"discriminator": {"mbstd_group_size": 0}}, "mbstd_group_size"),
        ({"discriminator": {"conv_clamp": "much"}}, "conv_clamp"),
        ({"discriminator": 5}, "discriminator"),
        ({"discriminator": None}, "discriminator"),
        ({"discriminator": "D"}, "discriminator"),
    ],
    ids=str,
)
def test_import_stylegan2_json_that_contradicts_names_the_field(
    said: dict[str, Any], mention: str, tmp_path: Path
) -> None:
    file = save_state(LAYOUTS["G_ema-and-D"], tmp_path / "state.pt")
    assert_refused(tmp_path, file, STYLEGAN2 | said, mention)


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


NOT_STYLEGAN2: dict[str, tuple[Callable[[State], State], str]] = {
    "linear-layers": (lambda _: nn.Sequential(nn.Linear(4, 3)).state_dict(), "StyleGAN2"),
    "dcgan": (lambda _: dict(small_dcgan().state_dict()), "StyleGAN2"),
    "no-mapping": (
        lambda state: {name: value for name, value in state.items() if "mapping" not in name},
        "mapping.w_avg",
    ),
    "no-image-layer": (without("b16.torgb.weight"), "b16.torgb.weight"),
    "no-bias": (without("b8.conv0.bias"), "b8.conv0.bias"),
    "a-block-left-out": (
        lambda state: {name: value for name, value in state.items() if ".b8." not in name},
        "b8",
    ),
    "unknown-tensor": (with_tensor("synthesis.b8.extra.weight", torch.zeros(2)), "b8.extra"),
    "wrong-shape": (with_tensor("synthesis.b8.conv0.bias", torch.zeros(5)), "b8.conv0.bias"),
    "wrong-dimensions": (with_tensor("synthesis.b8.conv1.weight", torch.zeros(5)), "b8.conv1"),
    "scalar-average": (with_tensor("mapping.w_avg", torch.tensor(1.0)), "w_avg"),
    "nan": (with_tensor("synthesis.b8.conv0.bias", torch.full((12,), torch.nan)), "b8.conv0.bias"),
    "inf": (with_tensor("mapping.w_avg", torch.full((12,), torch.inf)), "w_avg"),
    "inf-in-float32": (
        with_tensor("mapping.w_avg", torch.full((12,), 1e300, dtype=torch.float64)),
        "w_avg",
    ),
    "absurd-resolution": (
        with_tensor("synthesis.b1099511627776.conv1.weight", torch.zeros(1, 1, 3, 3)),
        "",
    ),
    "odd-resolution": (with_tensor("synthesis.b17.conv1.weight", torch.zeros(1, 1, 3, 3)), ""),
    "empty-weight": (with_tensor("synthesis.b16.conv1.weight", torch.zeros(0, 0, 3, 3)), ""),
}


@pytest.mark.parametrize("name", NOT_STYLEGAN2)
def test_import_stylegan2_state_of_something_else_is_refused(name: str, tmp_path: Path) -> None:
    change, mention = NOT_STYLEGAN2[name]
    file = save_state(change(dict(GENERATOR_STATE)), tmp_path / "state.pt")
    assert_refused(tmp_path, file, STYLEGAN2, mention)


def test_import_stylegan2_discriminator_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    judge = save_state(nn.Linear(3, 2).state_dict(), tmp_path / "d.pt")
    assert_refused(tmp_path, file, STYLEGAN2, discriminator=judge)
    bad = DISCRIMINATOR_STATE | {"b8.conv0.bias": torch.full((12,), torch.nan)}
    judge = save_state(bad, tmp_path / "d.pt")
    assert_refused(tmp_path, file, STYLEGAN2, "b8.conv0.bias", discriminator=judge)


def test_import_stylegan2_discriminator_that_is_missing_is_named(tmp_path: Path) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    with pytest.raises(UserError, match=r"nowhere\.pt"):
        import_state(tmp_path, file, STYLEGAN2, discriminator=tmp_path / "nowhere.pt")
    assert not (tmp_path / "teacher").exists()


@pytest.mark.parametrize(
    "name", ["no-mapping", "no-image-layer", "no-bias", "unknown-tensor", "wrong-shape",
             "wrong-dimensions", "scalar-average", "nan"],
)  # fmt: skip
def test_import_stylegan2_misfit_has_the_names_of_the_file(name: str, tmp_path: Path) -> None:
    change, mention = NOT_STYLEGAN2[name]
    state = prefixed("generator.", change(dict(GENERATOR_STATE)))
    file = save_state(state, tmp_path / "state.pt")
    section = "mapping" if "w_avg" in mention else "synthesis"
    assert_refused(tmp_path, file, STYLEGAN2, f"generator.{section}.", mention)


def test_import_stylegan2_misfit_of_the_discriminator_has_the_names_of_its_file(
    tmp_path: Path,
) -> None:
    bad = DISCRIMINATOR_STATE | {"b8.conv0.bias": torch.zeros(5)}
    problem = "b8.conv0.bias is [5], expected [12]"
    both = prefixed("G_ema.", GENERATOR_STATE) | prefixed("discriminator.", bad)
    file = save_state(both, tmp_path / "both.pt")
    assert_refused(tmp_path, file, STYLEGAN2, f": discriminator.{problem}")
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    for prefix in ("", "D."):
        judge = save_state(prefixed(prefix, bad), tmp_path / "d.pt")
        place = f"in {judge}: {prefix}{problem}"
        assert_refused(tmp_path, file, STYLEGAN2, place, discriminator=judge)


def test_import_stylegan2_discriminator_in_a_file_of_its_own_may_have_a_prefix(
    tmp_path: Path,
) -> None:
    file = save_state(GENERATOR_STATE, tmp_path / "g.pt")
    judge = save_state(prefixed("D.", DISCRIMINATOR_STATE), tmp_path / "d.pt")
    import_state(tmp_path, file, STYLEGAN2, discriminator=judge)
    assert_same_teacher(tmp_path / "teacher", has_discriminator=True)
