"""The section's defaults and the learning rates that follow from them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pipeline.config.finetune import FinetuneConfig
from pipeline.eval.dense.schedule import learning_rate


def config_of(**fields: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate(fields)


def test_finetune_defaults_follow_the_task_and_give_way_to_what_is_set() -> None:
    assert config_of() == config_of(task="detection")
    assert config_of().steps == 144_000
    assert config_of(task="segmentation").steps == 150_000
    assert config_of(task="normals").frozen == "layer4"
    assert config_of(task="normals", frozen="none", steps=7).frozen == "none"
    assert config_of(task="normals", frozen="none", steps=7).test_sides == (450,)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"task": "detection", "test_sides": [400, 600]}, "test_sides"),
        ({"task": "segmentation", "batch": 1}, "batch"),
        ({"task": "normals", "flip_p": 0.5}, "flip_p"),
        ({"task": "normal"}, "task"),
        ({"task": "detection", "short_sides": []}, "short_sides"),
        ({"voc_years": ["2007", "2007"]}, "voc_years"),
    ],
)
def test_finetune_impossible_settings_are_refused(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        config_of(**fields)


def test_learning_rate_of_detection_warms_up_and_drops_twice() -> None:
    config = config_of()
    rates = {step: learning_rate(config, step) / 0.0025 for step in (0, 50, 100, 95_999)}
    assert rates == pytest.approx({0: 0.001, 50: 0.5005, 100: 1.0, 95_999: 1.0})
    assert learning_rate(config, 96_000) == pytest.approx(0.00025)
    assert learning_rate(config, 127_999) == pytest.approx(0.00025)
    assert learning_rate(config, 128_000) == pytest.approx(0.000025)


def test_learning_rate_of_dense_tasks_falls_as_a_power() -> None:
    config = config_of(task="segmentation", steps=10)
    rates = [learning_rate(config, step) for step in range(10)]
    assert rates == pytest.approx([0.02 * (1 - step / 10) ** 0.9 for step in range(10)])
