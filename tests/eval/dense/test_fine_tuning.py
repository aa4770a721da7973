"""Fine-tuning and its test in this process and on a worker, and what of it is not done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.config.ray import RayConfig
from pipeline.config.root import Config
from pipeline.engine.metrics import read_metrics
from pipeline.engine.state import load_state
from pipeline.eval.dense import loop
from pipeline.eval.dense.fine_tuning import SCORES_FILE, Scores, fine_tune
from pipeline.eval.dense.loop import CHECKPOINT_FILE, METRICS_FILE
from pipeline.records.spec import Spec
from shards.errors import UserError
from tests.support.dense_sets import QUICK, WRITERS, make_run, same_tensors

pytestmark = pytest.mark.slow

NUM_TEST = 4
SHORT = {**QUICK, "steps": 12}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images with surface normals, four of them to test on."""
    folder = tmp_path_factory.mktemp("normals")
    WRITERS["normals"](folder)
    return folder


def run_of(folder: Path, data: Path, eval_workers: int = 0, **finetune: Any) -> Config:
    """A run in `folder` with a student."""
    config = make_run(folder, "normals", **{**SHORT, "root": data, **finetune})
    return config.model_copy(update={"ray": RayConfig(eval_workers=eval_workers)})


def place(config: Config) -> Path:
    return config.run_dir / "finetune-normals"


def tune(config: Config) -> Scores:
    spec = Spec.of("finetune", config.finetune, {})
    return fine_tune(config, place(config), spec)


def network(config: Config) -> dict[str, torch.Tensor]:
    """As it was tested."""
    state = load_state(place(config) / CHECKPOINT_FILE, torch.device("cpu"))
    assert state is not None
    found: dict[str, torch.Tensor] = state["network"]
    return found


def test_fine_tuning_is_followed_to_the_last_test_image(tmp_path: Path, data: Path) -> None:
    config = run_of(tmp_path, data)
    scores = tune(config)
    last = read_metrics(place(config) / METRICS_FILE)[-1]
    assert last["samples_seen"] == 12 * config.finetune.batch + NUM_TEST
    assert {name: last[name] for name in scores.metrics} == scores.metrics
    assert scores.device == "cpu"


def test_fine_tuning_killed_in_its_test_is_tested_again_and_not_trained(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_of(tmp_path / "parts", data)

    def fail(*_: Any) -> dict[str, float]:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "test", fail)
        with pytest.raises(RuntimeError, match="killed"):
            tune(config)
    trained_at = (place(config) / CHECKPOINT_FILE).stat().st_mtime_ns
    found = tune(config)
    assert (place(config) / CHECKPOINT_FILE).stat().st_mtime_ns == trained_at
    whole = run_of(tmp_path / "whole", data)
    assert found.metrics == tune(whole).metrics
    rows = [read_metrics(place(each) / METRICS_FILE) for each in (config, whole)]
    assert rows[0] == rows[1]


def test_scores_that_are_there_are_taken_unless_they_are_damaged(
    tmp_path: Path, data: Path
) -> None:
    config = run_of(tmp_path, data, steps=1)
    scores = tune(config)
    file = place(config) / SCORES_FILE
    written_at = file.stat().st_mtime_ns
    assert tune(config) == scores
    assert file.stat().st_mtime_ns == written_at
    file.write_text(file.read_text()[:-9])
    assert tune(config) == scores
    assert json.loads(file.read_text())["metrics"] == scores.metrics


def test_fine_tuning_begun_under_other_settings_is_refused_by_what_differs(
    tmp_path: Path, data: Path
) -> None:
    tune(run_of(tmp_path, data, steps=1))
    with pytest.raises(UserError, match=r"finetune\.seed=0 \(now 1\)"):
        tune(run_of(tmp_path, data, steps=1, seed=1))


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray Train's, of its own ways
def test_fine_tuning_on_a_worker_equals_one_in_this_process(tmp_path: Path, data: Path) -> None:
    on_ray, here = run_of(tmp_path / "ray", data, 1), run_of(tmp_path / "here", data)
    assert tune(on_ray).metrics == tune(here).metrics
    assert same_tensors(network(on_ray), network(here))
    rows = [read_metrics(place(each) / METRICS_FILE) for each in (on_ray, here)]
    assert rows[0] == rows[1]
