"""Checkpoints of R3GAN: the reference's numbers, and other files of the same kind."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.teacher.architectures.r3gan import R3GANArchitecture
from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.features import captured
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from tests.support.golden_networks import GOLDEN, assert_golden, read_golden

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
    assert arch.half_precisions == ("bfloat16",)
