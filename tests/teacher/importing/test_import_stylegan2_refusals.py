"""State dicts that are no StyleGAN2, or not the one that their JSON tells, by the file's names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

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
    save_state,
    with_tensor,
    without,
)


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
    file = save_state(BOTH_STATES, tmp_path / "state.pt")
    assert_refused(tmp_path, file, STYLEGAN2 | said, mention)


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
