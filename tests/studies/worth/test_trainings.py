"""What is trained to tell what a teacher adds: sizes, views, draws, and learning rates."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.config.file import load_config
from pipeline.studies.collect import read_outcomes
from pipeline.studies.worth.trainings import METHODS, Plan, Trial, choose_rates
from shards.errors import UserError
from tests.support.study_cells import write_cell

RATES = dict.fromkeys(METHODS, 0.1)


def make_plan(folder: Path, num_train: int = 1000, **worth: object) -> Plan:
    path = folder / "a.yaml"
    content = {"name": "a", "paths": {"runs": str(folder / "runs")}, "worth": worth}
    content["train"] = {"global_batch": 100, "epochs": 6, "learning_rate": 0.1}
    path.write_text(yaml.safe_dump(content))
    return Plan(path, (), num_train)


def test_every_method_sees_the_same_number_of_images_at_every_size(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, sizes=[10, 200, "all"], steps=40)
    trials = plan.size_trials(RATES)
    assert {(t.num_real, plan.num_epochs(t)) for t in trials} == {(10, 40), (200, 20), (1000, 4)}
    assert {plan.num_views(t) for t in trials} == {40 * 100}
    for cell in plan.cells(trials):
        assert cell.config.train.global_batch == 100


@pytest.mark.parametrize(("sizes", "epochs"), [(["all"], [6]), ([50, 300], [18, 6])])
def test_without_steps_the_epochs_are_those_of_the_most_images(
    tmp_path: Path, sizes: list[int | str], epochs: list[int]
) -> None:
    plan = make_plan(tmp_path, sizes=sizes)
    trials = plan.size_trials({"squeeze": 0.1})
    assert [plan.num_epochs(trial) for trial in trials] == epochs


def test_every_seed_draws_images_of_its_own_the_same_for_every_method(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, sizes=[50, "all"], seeds=[3, 8])
    configs = [cell.config for cell in plan.cells(plan.size_trials(RATES))]
    assert len({config.name for config in configs}) == 2 * 2 * len(METHODS)
    for config in configs:
        if config.real.limit is None:
            assert config.name.partition("-all-seed")[1]
        else:
            assert config.real.limit == 50
            assert config.real.limit_seed == config.train.seed
        assert config.real.test_from == "test"
    assert {config.train.seed for config in configs} == {3, 8}


def test_learning_rates_are_judged_by_train_images_that_are_left_out(tmp_path: Path) -> None:
    plan = make_plan(tmp_path, sizes=[50, "all"], tuning_seeds=[7, 9])
    cells = plan.cells(plan.tuning_trials())
    assert len(cells) == 2 * 3 * len(METHODS)
    assert {cell.config.train.learning_rate for cell in cells} == {0.05, 0.1, 0.2}
    for cell in cells:
        assert (cell.config.real.test_from, cell.config.real.limit) == ("train", 50)
        assert cell.config.real.limit_seed == cell.config.train.seed == cell.seed
    assert {cell.seed for cell in cells} == {7, 9}


@pytest.mark.parametrize(("worth", "size"), [({}, 800), ({"tuning_size": 30}, 30)])
def test_rates_are_tried_with_four_fifths_of_all_images_or_as_many_as_are_named(
    tmp_path: Path, worth: dict[str, object], size: int
) -> None:
    assert {trial.num_real for trial in make_plan(tmp_path, **worth).tuning_trials()} == {size}


def test_sizes_that_there_are_too_few_images_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"worth\.sizes: 1,001 of 1,000"):
        make_plan(tmp_path, sizes=[10, 1001]).size_trials(RATES)
    with pytest.raises(UserError, match=r"worth\.tuning_size: 1,000 of 1,000"):
        make_plan(tmp_path, tuning_size=1000).tuning_trials()


@pytest.mark.parametrize("sizes", [[], [30, 10], [10, 10], ["all", 10], [0], ["some"]])
def test_sizes_are_rising_numbers_and_all_is_the_last(tmp_path: Path, sizes: list[object]) -> None:
    with pytest.raises(UserError, match=r"worth\.sizes"):
        load_config(make_plan(tmp_path, sizes=sizes).path)


def test_the_best_rate_is_chosen_and_one_that_diverged_is_out(tmp_path: Path) -> None:
    tops = {
        "squeeze-rate0.1": (80.0, 90.0),
        "squeeze-rate0.2": (86.0, 88.0),
        "squeeze-rate0.4": (99.0,),  # the other seed's training diverged
        "vicreg-real-rate0.1": (70.0, 70.0),
        "vicreg-real-rate0.2": (70.0, 70.0),
    }
    trials = [
        Trial(method, rate, 10, 10, True)
        for method in ("squeeze", "vicreg-real", "vicreg-both")
        for rate in (0.1, 0.2, 0.4)
    ]
    cells = [
        write_cell(tmp_path, row, seed, top1)
        for row, values in tops.items()
        for seed, top1 in enumerate(values)
    ]
    tunings = choose_rates(trials, read_outcomes(cells), 2)
    assert tunings.keys() == {"squeeze", "vicreg-real"}
    assert tunings["squeeze"].tried == {0.1: 85.0, 0.2: 87.0}
    assert tunings["squeeze"].chosen == 0.2
    assert tunings["vicreg-real"].chosen == 0.1  # the lower of equals
