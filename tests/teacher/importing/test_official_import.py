"""Official checkpoints of many shapes: what an imported teacher computes against a plain reference.

The reference shares no code with the networks; both golden files, whose numbers come from the
official implementation, hold the reference itself to account.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from tests.support.nvlabs_pickle import read_network
from tests.support.official_files.cases import (
    BITING_CLAMPS,
    PYTORCH_CASES,
    TENSORFLOW_CASES,
    TENSORFLOW_CONDITIONAL,
    Case,
)
from tests.support.official_files.pickling import REFERRED, Module, write_pickle
from tests.support.official_files.pytorch import build_generator, write_pytorch_pickle
from tests.support.official_files.specification import OfficialSpec, State
from tests.support.official_files.tensorflow import read_tensorflow_state
from tests.support.reference_networks import Skips, reference_outputs

Arrays = dict[str, np.ndarray]

GOLDEN = Path(__file__).parents[2] / "golden"
GOLDEN_SPECS = {
    "stylegan2ada-cifar-tiny": OfficialSpec(
        resolution=32,
        z_dim=24,
        w_dim=24,
        channel_base=512,
        channel_max=20,
        generator_clamp=256,
        discriminator_clamp=256,
    ),
    "stylegan2ada-tf-tiny": OfficialSpec(
        resolution=32, z_dim=24, w_dim=24, channel_base=512, channel_max=20
    ),
}
TOLERANCE = 1e-4
"""Of the largest magnitude: float32 against float64, with sums in another order."""


def relative_difference(found: np.ndarray, wanted: np.ndarray) -> float:
    assert found.shape == wanted.shape
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def assert_same_arrays(found: Arrays, wanted: Arrays, tolerance: float = TOLERANCE) -> None:
    assert found.keys() == wanted.keys()
    differences = {name: relative_difference(found[name], wanted[name]) for name in wanted}
    wrong = {name: value for name, value in differences.items() if not value <= tolerance}
    assert not wrong, f"relative differences {wrong}"


def draw_inputs(spec: OfficialSpec, num_samples: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Latents and, where there are classes, one-hot labels."""
    rng = np.random.default_rng(9)
    z = rng.standard_normal((num_samples, spec.z_dim)).astype(np.float32)
    if not spec.num_classes:
        return z, None
    labels = np.eye(spec.num_classes, dtype=np.float32)
    return z, labels[rng.integers(spec.num_classes, size=num_samples)]


def check_teacher(
    folder: Path,
    spec: OfficialSpec,
    states: tuple[State, State | None],
    num_samples: int = 4,
    **options: Any,
) -> None:
    z, labels = draw_inputs(spec, num_samples)
    wanted = reference_outputs(spec, *states, z, labels=labels, **options)
    assert_same_arrays(inspect_latents(folder, z, labels=labels, **options), wanted)


@pytest.mark.parametrize("name", GOLDEN_SPECS)
def test_reference_golden_files_give_the_stored_arrays(name: str) -> None:
    spec, path = GOLDEN_SPECS[name], GOLDEN / f"{name}.pkl"
    if "tf" in name:
        states = read_tensorflow_state(path, 2, spec), read_tensorflow_state(path, 1, spec)
    else:
        states = read_network(path, "G_ema")[1], read_network(path, "D")[1]
    wanted = dict(np.load(path.with_suffix(".npz")))
    found = reference_outputs(spec, *states, wanted["z"])
    others = {
        "image_const_noise": found.pop("image"),
        "image_no_noise": reference_outputs(spec, *states, wanted["z"], noise="none")["image"],
        "ws_truncated_psi_0_7": reference_outputs(spec, *states, wanted["z"], truncation_psi=0.7)[
            "ws"
        ],
    }
    assert_same_arrays(found | others, wanted, tolerance=1e-5)


@pytest.mark.parametrize("name", GOLDEN_SPECS)
def test_import_golden_files_give_the_stored_arrays(name: str, tmp_path: Path) -> None:
    import_teacher(GOLDEN / f"{name}.pkl", tmp_path / "teacher")
    wanted = dict(np.load(GOLDEN / f"{name}.npz"))
    found = inspect_latents(tmp_path / "teacher", wanted["z"])
    others = {
        "image_const_noise": found.pop("image"),
        "image_no_noise": inspect_latents(tmp_path / "teacher", wanted["z"], noise="none")["image"],
        "ws_truncated_psi_0_7": inspect_latents(
            tmp_path / "teacher", wanted["z"], truncation_psi=0.7
        )["ws"],
    }
    assert_same_arrays(found | others, wanted)


@pytest.mark.parametrize("case", PYTORCH_CASES, ids=lambda case: case.name)
def test_import_pytorch_file_computes_what_the_reference_does(case: Case, tmp_path: Path) -> None:
    states = case.write(tmp_path / "network.pkl", is_tensorflow=False)
    import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    check_teacher(tmp_path / "teacher", case.spec, states, case.num_samples)
    assert not REFERRED.keys() & sys.modules.keys()


@pytest.mark.parametrize("case", TENSORFLOW_CASES, ids=lambda case: case.name)
def test_import_tensorflow_file_computes_what_the_reference_does(
    case: Case, tmp_path: Path
) -> None:
    states = case.write(tmp_path / "network.pkl", is_tensorflow=True)
    import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    check_teacher(tmp_path / "teacher", case.spec, states, case.num_samples)
    assert not REFERRED.keys() & sys.modules.keys()


@pytest.mark.parametrize("is_numpy_2", [False, True], ids=["numpy-1", "numpy-2"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("is_tensorflow", [False, True], ids=["pytorch", "tensorflow"])
def test_import_any_pickle_protocol_gives_the_same_teacher(
    is_tensorflow: bool, protocol: int, is_numpy_2: bool, tmp_path: Path
) -> None:
    spec = OfficialSpec(resolution=8, num_classes=2, discriminator_skips="resnet")
    options = {"protocol": protocol, "is_numpy_2": is_numpy_2}
    case = Case("protocol", spec, options=options)
    states = case.write(tmp_path / "network.pkl", is_tensorflow=is_tensorflow)
    import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    check_teacher(tmp_path / "teacher", spec, states)


INSPECTIONS: list[dict[str, Any]] = [
    {"noise": "none"},
    {"truncation_psi": 0.7},
    {"truncation_psi": 0.7, "truncation_cutoff": 3},
    {"truncation_psi": 0.7, "truncation_cutoff": 100},
    {"truncation_psi": 0.0},
    {"truncation_psi": 1.3, "truncation_cutoff": 0},
    {"truncation_psi": 0.5, "noise": "none"},
]


@pytest.fixture(scope="module", params=["pytorch", "tensorflow"])
def imported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, OfficialSpec, tuple[State, State | None]]:
    """A conditional teacher of each layout; read only."""
    folder = tmp_path_factory.mktemp("official")
    case = Case("inspected", TENSORFLOW_CONDITIONAL)
    states = case.write(folder / "network.pkl", is_tensorflow=request.param == "tensorflow")
    import_teacher(folder / "network.pkl", folder / "teacher")
    return folder / "teacher", case.spec, states


@pytest.mark.parametrize("options", INSPECTIONS, ids=lambda options: "-".join(map(str, options)))
def test_inspect_truncation_and_noise_follow_the_reference(
    options: dict[str, Any], imported: tuple[Path, OfficialSpec, tuple[State, State | None]]
) -> None:
    folder, spec, states = imported
    check_teacher(folder, spec, states, **options)


@pytest.mark.parametrize("skips", ["orig", "skip", "resnet"])
def test_inspect_each_truncation_cutoff_reaches_the_same_layers(
    skips: Skips, tmp_path: Path
) -> None:
    """Only here do the copies of `w` differ, so that it matters which layer takes which."""
    case = Case("cutoffs", OfficialSpec(generator_skips=skips, has_discriminator=False))
    states = case.write(tmp_path / "network.pkl", is_tensorflow=False)
    import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    for cutoff in range(1, case.spec.num_ws):
        check_teacher(
            tmp_path / "teacher", case.spec, states, truncation_psi=-0.5, truncation_cutoff=cutoff
        )


def test_inspect_labels_that_are_not_one_hot_follow_the_reference(
    imported: tuple[Path, OfficialSpec, tuple[State, State | None]],
) -> None:
    folder, spec, states = imported
    z, _ = draw_inputs(spec, 4)
    labels = np.random.default_rng(2).random((4, spec.num_classes)).astype(np.float32)
    wanted = reference_outputs(spec, *states, z, labels=labels)
    assert_same_arrays(inspect_latents(folder, z, labels=labels), wanted)


@pytest.mark.parametrize("name", BITING_CLAMPS)
def test_reference_clamps_of_these_cases_change_every_network(name: str, tmp_path: Path) -> None:
    """Otherwise the cases with a small clamp would prove nothing."""
    spec = BITING_CLAMPS[name]
    states = write_pytorch_pickle(tmp_path / "network.pkl", spec=spec, seed=1)
    z, _ = draw_inputs(spec, 4)
    clamped = reference_outputs(spec, *states, z)
    free_generator = reference_outputs(replace(spec, generator_clamp=None), *states, z)
    free_discriminator = reference_outputs(replace(spec, discriminator_clamp=None), *states, z)
    assert relative_difference(free_generator["image"], clamped["image"]) > 100 * TOLERANCE
    assert relative_difference(free_discriminator["logits"], clamped["logits"]) > 100 * TOLERANCE


def test_import_stylegan2_by_the_stylegan3_code_gives_the_stored_arrays(tmp_path: Path) -> None:
    import_teacher(GOLDEN / "stylegan2-by-stylegan3-tiny.pkl", tmp_path / "teacher")
    wanted = dict(np.load(GOLDEN / "stylegan2-by-stylegan3-tiny.npz"))
    found = inspect_latents(tmp_path / "teacher", wanted["z"])
    plain = inspect_latents(tmp_path / "teacher", wanted["z"], noise="none")
    truncated = inspect_latents(tmp_path / "teacher", wanted["z"], truncation_psi=0.7)
    others = {
        "image_const_noise": found["image"],
        "image_no_noise": plain["image"],
        "ws_truncated_psi_0_7": truncated["ws"],
        "image_truncated_psi_0_7": truncated["image"],
    }
    assert_same_arrays({name: (found | others)[name] for name in wanted}, wanted)


def test_import_stylegan2_by_the_projected_gan_code_is_its_generator(tmp_path: Path) -> None:
    spec = OfficialSpec(resolution=16, channel_base=64)
    content = {
        "D": Module("ProjectedDiscriminator", modules={"feature_network": Module("F_RandomProj")}),
        "G_ema": build_generator(spec, np.random.default_rng(0)),
    }
    write_pickle(tmp_path / "network.pkl", content, 4, is_numpy_2=False)
    info = import_teacher(tmp_path / "network.pkl", tmp_path / "teacher")
    assert (info.generator.resolution, info.discriminator) == (16, None)
    assert "left out" in info.origin["notes"][0]
