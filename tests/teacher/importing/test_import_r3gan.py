"""Checkpoints of R3GAN: the reference's numbers, and other files of the same kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.teacher.architectures.r3gan import R3GANArchitecture
from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.features import captured, pool
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from shards.errors import UserError
from tests.support.golden_networks import GOLDEN, assert_golden, read_golden
from tests.support.r3gan_files import R3GANSpec, discriminate, generate, write_r3gan

FILE = GOLDEN / "r3gan-tiny.pkl"


def test_import_r3gan_golden_file_gives_the_stored_arrays(tmp_path: Path) -> None:
    info = import_teacher(FILE, tmp_path)
    assert (info.origin["weights"], info.origin["is_averaged"]) == ("G_ema.Model", True)
    wanted = read_golden("r3gan-tiny")
    found = inspect_latents(tmp_path, wanted["z"])
    wanted["logits"] = wanted["logits"][:, None]
    wanted = {key: array for key, array in wanted.items() if ".Layers." not in key}
    extra = {"ws", "discriminator.Model.MainLayers.3.Layers.2.Basis"}
    assert found.keys() - wanted.keys() == extra
    for key, array in wanted.items():
        assert_golden(found[key], array, key)


def test_import_r3gan_layers_within_stages_are_features(tmp_path: Path) -> None:
    info = import_teacher(FILE, tmp_path)
    arrays = read_golden("r3gan-tiny")
    generator = load_generator(tmp_path)
    names = [feature.name for feature in info.features]
    with captured(generator, names) as found:
        generator(torch.from_numpy(arrays["z"]))
    layers = [key.removeprefix("pooled.") for key in arrays if ".Layers." in key]
    assert len(layers) == 12
    for name in layers:
        assert_golden(found[name].mean((2, 3)).numpy(), arrays[f"pooled.{name}"], name)
    assert info.select(layers[-1:]) == [("Model.MainLayers.3.Layers.2", 9)]


def test_import_r3gan_stages_of_bfloat16_may_run_in_it(tmp_path: Path) -> None:
    arch = import_teacher(FILE, tmp_path).generator
    assert isinstance(arch, R3GANArchitecture)
    assert [stage.is_half for stage in arch.stages] == [False, True, True, True]
    assert arch.half_stages == (False, True, True, True)


VARIANTS = {
    "64 px": R3GANSpec(
        widths=(12, 12, 10, 8, 6), num_blocks=(2, 1, 3, 1, 2), cardinalities=(6, 4, 5, 2, 3)
    ),
    "conditional": R3GANSpec(
        widths=(8, 6, 6), num_blocks=(1, 1, 1), cardinalities=(4, 3, 1), num_classes=7
    ),
    "kernels of 5, three times wider within, no half": R3GANSpec(
        widths=(8, 8),
        num_blocks=(2, 2),
        cardinalities=(2, 24),
        expansion=3,
        kernel=5,
        num_half_stages=0,
        z_dim=3,
    ),
    "generator alone": R3GANSpec(
        widths=(6, 4, 4), num_blocks=(1, 1, 1), cardinalities=(2, 2, 2), has_discriminator=False
    ),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_import_r3gan_of_any_shape_computes_the_papers_equations(name: str, tmp_path: Path) -> None:
    spec = VARIANTS[name]
    averaged, judge = (
        {key: tensor.double() for key, tensor in state.items()}
        for state in write_r3gan(tmp_path / "network.pkl", spec)
    )
    info = import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    assert info.origin["notes"] == []
    arch = info.generator
    assert isinstance(arch, R3GANArchitecture)
    assert sum(stage.is_half for stage in arch.stages) == spec.num_half_stages
    z = torch.randn(3, spec.z_dim, generator=torch.Generator().manual_seed(1))
    classes = torch.tensor([6, 0, 3]) if spec.num_classes else None
    labels = None if classes is None else classes.numpy()
    found = inspect_latents(tmp_path / "teacher", z.numpy(), labels=labels)
    *stages, image = generate(spec, averaged, z.double(), classes)
    assert_golden(found["image"], image.numpy(), "image")
    for index, stage in enumerate(stages):
        key = f"pooled.Model.MainLayers.{index}"
        assert_golden(found[key], stage.mean((2, 3)).numpy(), key)
    if not spec.has_discriminator:
        assert info.discriminator is None
        return
    *stages, logits = discriminate(spec, judge, image, classes)
    assert_golden(found["logits"], logits.numpy(), "logits")
    for index, stage in enumerate(stages):
        key = f"discriminator.Model.MainLayers.{index}"
        assert_golden(found[key], pool(stage).numpy(), key)


@pytest.mark.parametrize("place", ["", "G_ema", "state.ema"])
@pytest.mark.parametrize("prefix", ["", "Model.", "module.Model."])
def test_import_r3gan_state_dict_under_any_prefix_gives_the_same_images(
    prefix: str, place: str, tmp_path: Path
) -> None:
    spec = VARIANTS["conditional"]
    state, _ = write_r3gan(tmp_path / "network.pkl", spec)
    import_teacher(tmp_path / "network.pkl", tmp_path / "whole")
    renamed: Any = {f"{prefix}{n.removeprefix('Model.')}": tensor for n, tensor in state.items()}
    for key in reversed(place.split(".") if place else []):
        renamed = {key: renamed, "epoch": 3}
    torch.save(renamed, tmp_path / "states.pt")
    info = import_teacher(tmp_path / "states.pt", tmp_path / "alone")
    assert info.origin["is_averaged"] is (True if place else None)
    z = np.random.default_rng(0).standard_normal((2, spec.z_dim)).astype(np.float32)
    whole, alone = (
        inspect_latents(tmp_path / name, z, labels=np.array([1, 5])) for name in ("whole", "alone")
    )
    np.testing.assert_array_equal(alone["image"], whole["image"])


def test_import_r3gan_without_averaged_weights_says_so(tmp_path: Path) -> None:
    state, _ = write_r3gan(tmp_path / "network.pkl", VARIANTS["generator alone"])
    torch.save({"G": dict(state)}, tmp_path / "states.pt")
    info = import_teacher(tmp_path / "states.pt", tmp_path / "teacher")
    assert info.origin["is_averaged"] is False
    assert "not averaged" in info.origin["notes"][0]


@pytest.mark.parametrize(
    ("name", "mention"),
    [
        ("Model.MainLayers.1.Layers.0.Resampler.Kernel", "missing G_ema.Model.MainLayers.1.Layers"),
        ("Model.AggregationLayer.Layer.weight", "G_ema.Model.AggregationLayer.Layer.weight is mis"),
        ("Model.MainLayers.0.Layers.1.LinearLayer2.Layer.weight", "LinearLayer2.Layer.weight is m"),
    ],
)
def test_import_r3gan_misfit_has_the_names_of_the_file(
    name: str, mention: str, tmp_path: Path
) -> None:
    state = dict(write_r3gan(tmp_path / "network.pkl", VARIANTS["generator alone"])[0])
    del state[name]
    torch.save({"G_ema": state}, tmp_path / "states.pt")
    with pytest.raises(UserError) as raised:
        import_teacher(tmp_path / "states.pt", tmp_path / "teacher")
    assert mention in str(raised.value)
    assert not (tmp_path / "teacher").exists()
