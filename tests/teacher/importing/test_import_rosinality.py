"""Checkpoints of rosinality/stylegan2-pytorch: the reference's numbers, and other such files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from shards.errors import UserError

GOLDEN = Path(__file__).parents[2] / "golden"
NAMES = ["rosinality-train-tiny", "rosinality-convert-tiny"]
TOLERANCE = 1e-4
"""Of the largest magnitude: float32 against the reference's, with sums in another order."""


def assert_close(found: np.ndarray, wanted: np.ndarray, name: str) -> None:
    assert found.shape == wanted.shape, name
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max(), name


def import_content(content: Any, folder: Path) -> TeacherInfo:
    torch.save(content, folder / "model.pt")
    return import_teacher(folder / "model.pt", folder / "teacher")


def golden_content(name: str = NAMES[1]) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(GOLDEN / f"{name}.pt", weights_only=True)
    return content


@pytest.mark.parametrize("name", NAMES)
def test_import_rosinality_golden_file_gives_the_stored_arrays(name: str, tmp_path: Path) -> None:
    info = import_teacher(GOLDEN / f"{name}.pt", tmp_path)
    assert (info.origin["weights"], info.origin["is_averaged"]) == ("g_ema", True)
    wanted = dict(np.load(GOLDEN / f"{name}.npz"))
    found = inspect_latents(tmp_path, wanted["z"])
    found["image_const_noise"] = found["image"]
    found["image_no_noise"] = inspect_latents(tmp_path, wanted["z"], noise="none")["image"]
    truncated = inspect_latents(tmp_path, wanted["z"], truncation_psi=0.7)
    found |= {f"{key}_truncated_psi_0_7": truncated[key] for key in ("ws", "image")}
    blocks = {name for name in found if name.startswith("pooled.")}
    assert blocks == {"pooled.conv1", *(f"pooled.{block}" for block in info.blocks)}
    for key in wanted.keys() & found.keys():
        assert_close(found[key], wanted[key], key)
    in_between = {f"pooled.convs.{index}" for index in range(0, len(wanted), 2)}
    assert wanted.keys() <= found.keys() | in_between


def test_import_rosinality_layers_between_the_blocks_are_features(tmp_path: Path) -> None:
    info = import_teacher(GOLDEN / f"{NAMES[1]}.pt", tmp_path)
    assert info.select(["convs.0", "convs.2", "w"]) == [("convs.0", 12), ("convs.2", 8), ("w", 20)]


def test_import_rosinality_without_latent_avg_truncates_to_a_drawn_mean_and_says_so(
    tmp_path: Path,
) -> None:
    content = golden_content()
    stored = content.pop("latent_avg")
    info = import_content(content, tmp_path)
    assert "latent_avg" in info.origin["notes"][0]
    found = inspect_latents(tmp_path / "teacher", np.zeros((1, 20), "f4"), truncation_psi=0)["ws"]
    generator = load_generator(tmp_path / "teacher")
    z = torch.randn(20_000, 20, generator=torch.Generator().manual_seed(3))
    assert isinstance(generator.mapping, nn.Module)
    ws = generator.mapping(z)[:, 0]
    error = ws.std(0) / 100  # of a mean of 10,000
    assert (torch.from_numpy(found[0, 0]) - ws.mean(0)).abs().le(6 * error).all()
    assert not np.allclose(found[0, 0], stored, atol=1e-3)  # the golden's is random, not a mean


@pytest.mark.parametrize("variant", ["parallel", "nested", "alone", "no noise maps"])
def test_import_rosinality_other_files_of_the_same_weights_give_the_same_generator(
    variant: str, tmp_path: Path
) -> None:
    content = golden_content()
    wanted = dict(np.load(GOLDEN / f"{NAMES[1]}.npz"))
    averaged = content["g_ema"]
    if variant == "parallel":
        content["g_ema"] = {f"module.{name}": value for name, value in averaged.items()}
    elif variant == "nested":
        content = {"epoch": 3, "checkpoint": content}
    elif variant == "alone":
        content = averaged
    elif variant == "no noise maps":
        content["g_ema"] = {n: v for n, v in averaged.items() if not n.startswith("noises.")}
    import_content(content, tmp_path)
    found = inspect_latents(tmp_path / "teacher", wanted["z"], noise="none")
    assert_close(found["image"], wanted["image_no_noise"], variant)


def test_import_rosinality_without_averaged_weights_says_so(tmp_path: Path) -> None:
    content = golden_content()
    del content["g_ema"]
    info = import_content(content, tmp_path)
    assert info.origin["is_averaged"] is False
    assert "not averaged" in info.origin["notes"][0]


@pytest.mark.parametrize(
    ("name", "change", "mention"),
    [
        ("convs.1.conv.weight", lambda x: x[:, :5], "g_ema.convs.0.conv.weight is ["),
        ("convs.1.conv.weight", lambda x: x[0], "g_ema.convs.1.conv.weight"),
        ("style.2.bias", lambda x: x[:3], "g_ema.style.2.bias is [3], expected [20]"),
        ("to_rgbs.0.bias", lambda x: x[:, :1], "g_ema.to_rgbs.0.bias is [1, 1, 1, 1], expected"),
        ("noises.noise_2", lambda x: x[0, 0], "g_ema.noises.noise_2"),
        ("convs.0.noise.weight", lambda _: None, "missing g_ema.convs.0.noise.weight"),
        ("convs.3.activate.bias", lambda _: None, "missing g_ema.convs.3.activate.bias"),
        ("conv1.conv.modulation.weight", lambda _: None, "conv1.conv.modulation.weight"),
    ],
)
def test_import_rosinality_misfit_has_the_names_and_shapes_of_the_file(
    name: str, change: Any, mention: str, tmp_path: Path
) -> None:
    content = golden_content()
    changed = change(content["g_ema"].pop(name))
    if changed is not None:
        content["g_ema"][name] = changed
    with pytest.raises(UserError) as raised:
        import_content(content, tmp_path)
    assert mention in str(raised.value)
    assert not (tmp_path / "teacher").exists()


def test_import_rosinality_tensor_that_it_does_not_have_is_named(tmp_path: Path) -> None:
    content = golden_content()
    content["g_ema"]["extra"] = torch.zeros(3)
    with pytest.raises(UserError, match=r"unknown g_ema\.extra"):
        import_content(content, tmp_path)
