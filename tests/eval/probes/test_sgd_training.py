"""The paper's probe in this process and on a worker: the same numbers, whatever happens to it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pipeline.config.root import Config
from pipeline.engine.state import load_state
from pipeline.eval.probes.labelled_views import ProbeImages
from pipeline.eval.probes.linear_sgd import CHECKPOINT_FILE
from pipeline.eval.probes.probe import Score
from pipeline.eval.probes.sgd_training import run_sgd_probe
from shards.errors import UserError
from tests.support.labelled_images import draw_classes, make_images, small_resnet

IN_PROCESS: dict[str, Any] = {"eval_workers": 0}
ON_RAY: dict[str, Any] = {"eval_workers": 1}


@pytest.fixture
def shards(tmp_path: Path) -> ProbeImages:
    images = make_images(tmp_path / "set", draw_classes(40, 0.1, 0), draw_classes(100, 0.1, 1))
    return images


class Mortal(nn.Module):
    """A backbone whose process dies once, in the third epoch."""

    def __init__(self, network: nn.Module, last_words: Path, driver: int) -> None:
        super().__init__()
        self.network = network
        self._last_words = last_words
        self._driver = driver
        self._num_calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self._num_calls += 1
        if self._num_calls == 4 and not self._last_words.exists():
            assert os.getpid() != self._driver
            self._last_words.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        found: Tensor = self.network(images)
        return found

    def extra_repr(self) -> str:
        """What it represents does not depend on all that."""
        return ""


def config_of(ray: dict[str, Any], **evaluation: Any) -> Config:
    return Config.model_validate(
        {
            "name": "tiny",
            "hardware": {"device": "cpu"},
            "ray": ray,
            "eval": {"probes": ["linear_sgd"], "sgd_epochs": 4, **evaluation},
        }
    )


def probe(
    shards: ProbeImages, folder: Path, config: Config, backbone: nn.Module | None = None
) -> Score:
    return run_sgd_probe("student", backbone or small_resnet(), shards, config, folder)


def assert_same(found: Score, expected: Score) -> None:
    assert found.top1 == expected.top1
    assert found.curve == expected.curve
    np.testing.assert_array_equal(found.predictions, expected.predictions)


def test_probe_says_what_it_is_of_and_its_last_epoch(tmp_path: Path, shards: ProbeImages) -> None:
    score = probe(shards, tmp_path / "probe", config_of(IN_PROCESS, seeds=[3]))
    assert (score.top1.representation, score.top1.probe) == ("student", "linear_sgd")
    assert (score.top1.labels, score.top1.seed) == ("all", 3)
    assert len(score.curve) == 4
    assert score.top1.value == score.curve[-1]
    assert score.top1.value == 100 * np.mean(score.predictions == shards.test_labels)
    assert "4 epochs" in score.top1.protocol


def test_finished_probe_is_found_again(tmp_path: Path, shards: ProbeImages) -> None:
    folder = tmp_path / "probe"
    config = config_of(IN_PROCESS)
    first = probe(shards, folder, config)
    written_at = (folder / CHECKPOINT_FILE).stat().st_mtime_ns
    assert_same(probe(shards, folder, config), first)
    assert (folder / CHECKPOINT_FILE).stat().st_mtime_ns == written_at


def test_probe_of_another_spec_is_refused_by_what_differs(
    tmp_path: Path, shards: ProbeImages
) -> None:
    folder = tmp_path / "probe"
    probe(shards, folder, config_of(IN_PROCESS))
    with pytest.raises(UserError, match=r"linear_sgd\.epochs=4 \(now 5\)"):
        probe(shards, folder, config_of(IN_PROCESS, sgd_epochs=5))
    other = small_resnet()
    with torch.no_grad():
        other.conv1.weight.add_(1)
    with pytest.raises(UserError, match="input backbone="):
        probe(shards, folder, config_of(IN_PROCESS), other)


def test_probe_under_torchrun_is_refused(
    tmp_path: Path, shards: ProbeImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(UserError, match="linear_sgd: runs in one process; start it without"):
        probe(shards, tmp_path / "probe", config_of(IN_PROCESS))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.usefixtures("ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Train's, of its own ways
def test_probe_whose_worker_is_killed_equals_one_in_this_process(
    tmp_path: Path, shards: ProbeImages
) -> None:
    backbone = Mortal(small_resnet(), tmp_path / "died", os.getpid())
    found = probe(shards, tmp_path / "ray", config_of(ON_RAY), backbone)
    assert (tmp_path / "died").exists()
    assert_same(found, probe(shards, tmp_path / "here", config_of(IN_PROCESS), backbone))
    states = [
        load_state(tmp_path / name / CHECKPOINT_FILE, torch.device("cpu"))
        for name in ("ray", "here")
    ]
    layers = [state["head"]["layer"] for state in states if state is not None]
    assert len(layers) == 2
    assert all(torch.equal(layers[0][name], value) for name, value in layers[1].items())
