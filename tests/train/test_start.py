"""A training that starts from weights: of a file, of another run, of what is not there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.engine.state import load_state
from pipeline.records.digests import file_digest
from pipeline.train.loop import CHECKPOINT_FILE, STUDENT_FILE
from tests.support.command_line import assert_mistake
from tests.support.stored_pools import Site, make_site
from tests.support.trainings import interrupted_when_saved

pytestmark = pytest.mark.slow
TINY = (
    "train.epochs=1",
    "train.global_batch=8",
    "train.method.name=vicreg",
    "train.images=real",
    "train.student.width=4",
    "train.student.embedding_dim=8",
    "train.student.projector_layers=2",
    "train.monitor.every_epochs=0",
)
STILL = "train.learning_rate=1.0e-30"  # nothing moves but running statistics


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """With a finished run `first`."""
    site = make_site(tmp_path_factory.mktemp("start"))
    site.stage("real", "name=first", *TINY)
    site.stage("train", "name=first", *TINY, "train.seed=7")
    return site


def folder_of(site: Site, name: str) -> Path:
    return site.runs / name / "train"


def train(site: Site, name: str, init: object, *more: str) -> Path:
    site.stage("real", f"name={name}", *TINY)
    site.stage("train", f"name={name}", *TINY, f"train.init={init}", *more)
    return folder_of(site, name)


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return record


def networks_of(folder: Path) -> dict[str, Tensor]:
    state = load_state(folder / CHECKPOINT_FILE, torch.device("cpu"))
    assert state is not None
    networks: dict[str, Tensor] = state["method"]
    return networks


def weights_of(folder: Path) -> dict[str, Tensor]:
    """Of all networks, less statistics."""
    return {
        name: value
        for name, value in networks_of(folder).items()
        if "running" not in name and "num_batches" not in name
    }


def differing(found: dict[str, Tensor], expected: dict[str, Tensor]) -> set[str]:
    """Names of those that differ by more than what so small a rate adds to a zero."""
    return {
        name
        for name, value in found.items()
        if not torch.allclose(value, expected[name], rtol=0, atol=1e-20)
    }


def test_run_of_the_same_method_gives_all_its_networks(site: Site) -> None:
    first = folder_of(site, "first")
    folder = train(site, "second", "first", STILL)
    assert not differing(weights_of(folder), weights_of(first))
    record = record_of(folder)
    digest = file_digest(first / STUDENT_FILE)
    assert record["config"]["init"] == "first"
    assert record["inputs"]["init"] == record["outputs"]["init"] == digest


def test_run_of_another_method_and_a_file_give_their_backbone(site: Site) -> None:
    first = folder_of(site, "first")
    expected = weights_of(first)
    simsiam = train(site, "other", "first", STILL, "train.method.name=simsiam")
    plain = train(site, "plain", first / STUDENT_FILE, STILL)
    for folder in (simsiam, plain):
        found = weights_of(folder)
        backbone = {name: value for name, value in found.items() if name.startswith("backbone.")}
        assert not differing(backbone, expected)
    assert "projector.0.weight" in differing(weights_of(plain), expected)


def test_file_with_other_content_is_another_training(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = load_file(folder_of(site, "first") / STUDENT_FILE)
    save_file(state, path)
    train(site, "changed", path)
    save_file({name: value + 1 for name, value in state.items()}, path)
    result = site.try_stage("train", "name=changed", *TINY, f"train.init={path}")
    assert_mistake(result, "input init=")


@pytest.mark.parametrize(
    ("init", "words"),
    [
        ("nobody", ["no such file", "no run of that name"]),
        ("/nowhere/weights.pt", ["no such file"]),
        ("first", ["is this run", "name="]),
        ("torchvision:ResNet18_Weights.NONE", ["no such weights", "IMAGENET1K_V1"]),
    ],
)
def test_start_that_is_not_there_is_one_line(site: Site, init: str, words: list[str]) -> None:
    name = "first" if init == "first" else "wrong"
    site.stage("real", f"name={name}", *TINY)
    result = site.try_stage("train", f"name={name}", *TINY, f"train.init={init}")
    assert_mistake(result, "train.init", *words)
    assert not (site.runs / "wrong" / "train" / STUDENT_FILE).exists()


def test_run_whose_networks_do_not_fit_is_named_with_what_to_start_from(site: Site) -> None:
    site.stage("real", "name=wide", *TINY)
    arguments = ("name=wide", *TINY, "train.init=first", "train.student.embedding_dim=16")
    result = site.try_stage("train", *arguments)
    assert_mistake(result, "train.init", "projector", STUDENT_FILE)
    result = site.try_stage(
        "train", "name=wide", *TINY, "train.init=first", "train.student.width=8"
    )
    assert_mistake(result, "train.init=first", "conv1.weight")


def test_training_from_a_run_equals_one_that_never_stopped_where_it_should(site: Site) -> None:
    """Every step sees all twelve images as they are, at a constant rate and without momentum: then
    a step is a function of the networks alone, up to the order in which images are summed up.
    """
    settings = (
        *TINY,
        "train.global_batch=12",
        "train.momentum=0",
        "train.augment.enabled=false",
        "train.optimizer.schedule=constant",
    )
    for name in ("whole", "half", "rest"):
        site.stage("real", f"name={name}", *settings)
    site.stage("train", "name=whole", *settings, "train.epochs=4")
    site.stage("train", "name=half", *settings, "train.epochs=2")
    site.stage("train", "name=rest", *settings, "train.epochs=2", "train.init=half")
    found, expected = (networks_of(folder_of(site, name)) for name in ("rest", "whole"))
    # float32 sums in another order, through a network of some 25 layers
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
    half = weights_of(folder_of(site, "half"))
    assert not torch.allclose(
        half["backbone.conv1.weight"], expected["backbone.conv1.weight"], atol=1e-4
    )


def test_more_epochs_of_a_finished_run_are_told_to_start_from_it(site: Site) -> None:
    site.stage("train", "name=first", *TINY, "train.seed=7")
    more = ("name=first", *TINY, "train.seed=7", "train.epochs=3")
    for stage in ("train", "eval"):
        result = site.try_stage(stage, *more)
        assert_mistake(result, "train.epochs=1 (now 3)", "name=… train.init=first", " train ")


def test_more_epochs_of_an_unfinished_run_are_told_to_finish_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = (*TINY, "train.epochs=4", "train.checkpoint_interval_s=0")
    site.stage("real", "name=broken", *slow)
    with interrupted_when_saved(monkeypatch):
        assert site.try_stage("train", "name=broken", *slow)[0] == 130
    result = site.try_stage("train", "name=first", *TINY, "train.init=broken")
    assert_mistake(result, "train.init=broken", "has not ended", "finish CONFIG name=broken")
    result = site.try_stage("train", "name=broken", *slow, "train.epochs=8")
    assert_mistake(result, "begun with train.epochs=4 (now 8)", "with train.epochs=4", "name=…")
    site.stage("train", "name=broken", *slow)
