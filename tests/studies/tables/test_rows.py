"""The rows of the tables are configs, and their numbers are the paper's."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.file import load_config
from pipeline.config.method import SqueezeAndSpanConfig
from pipeline.studies.tables.rows import TABLES, choose_configs
from shards.errors import UserError

METHODS = Path("configs/methods")
DIGITS = Path("configs/digits.yaml")


def paper(table: str, label: str, images: str) -> dict[str, float]:
    rows = next(t for t in TABLES if t.name == table).rows
    (row,) = (row for row in rows if row.label == label and row.images == images)
    return row.paper


def test_tables_have_22_ways_to_train_in_19_configs() -> None:
    sizes = {table.name: len(table.rows) for table in TABLES}
    assert sizes == {"table1": 10, "table2": 7, "table5": 6}  # table 2 ends with a row of table 1
    assert len(choose_configs("all")) == 19


@pytest.mark.parametrize("name", choose_configs("all"))
def test_every_row_is_a_config_of_a_few_lines(name: str) -> None:
    lines = (METHODS / f"{name}.yaml").read_text().splitlines()
    assert len([line for line in lines if not line.startswith("#")]) <= 11
    config = load_config(DIGITS, [str(METHODS / f"{name}.yaml")])
    assert config.name == f"digits-{name}"
    base = load_config(DIGITS)
    for section in ("real", "generate", "eval"):
        assert getattr(config, section) == getattr(base, section)
    assert config.train.student == base.train.student


@pytest.mark.parametrize("name", choose_configs("all"))
def test_row_is_the_same_training_whatever_the_base_does(name: str) -> None:
    base = load_config(DIGITS, [str(METHODS / f"{name}.yaml")]).train
    for other in choose_configs("all"):
        laid_over = [str(METHODS / f"{other}.yaml"), str(METHODS / f"{name}.yaml")]
        found = load_config(DIGITS, laid_over).train
        if base.method.reads_features:  # else they are not read
            assert found.features == base.features
        assert found.method.name == base.method.name
        if base.method.trains:
            assert (found.images, found.augment) == (base.images, base.augment)


def test_every_file_of_methods_is_in_a_table() -> None:
    assert sorted(path.stem for path in METHODS.glob("*.yaml")) == sorted(choose_configs("all"))


def test_all_rows_are_different_trainings() -> None:
    trainings = [
        load_config(DIGITS, [str(METHODS / f"{name}.yaml")]).train.model_dump_json()
        for name in choose_configs("all")
    ]
    assert len(set(trainings)) == 19


def test_ablation_switches_one_thing_on_after_the_other() -> None:
    table = next(table for table in TABLES if table.name == "table5")
    steps = []
    for row in table.rows:
        train = load_config(DIGITS, [str(METHODS / f"{row.config}.yaml")]).train
        method = train.method
        assert isinstance(method, SqueezeAndSpanConfig)
        switches = (
            train.augment.enabled,
            method.squeeze,
            method.variance_weight > 0,
            method.covariance_weight > 0,
            train.num_real > 0,
        )
        steps.append(sum(switches))
        assert list(switches) == sorted(switches, reverse=True)
    assert steps == [0, 1, 2, 3, 4, 5]


def test_rows_without_regularisers_have_no_lambda() -> None:
    """Eq. 5 and 6, and every such script of the release."""
    unregularised = set()
    for name in choose_configs("all"):
        method = load_config(DIGITS, [str(METHODS / f"{name}.yaml")]).train.method
        if isinstance(method, SqueezeAndSpanConfig):
            is_bare = method.variance_weight == method.covariance_weight == 0
            assert method.invariance_weight == (1 if is_bare else 25)
            if is_bare:
                unregularised.add(name)
    names = {"vanilla", "vanilla-no-augmentation", "latent-vanilla", "squeeze-no-regularisers"}
    assert unregularised == names


def test_papers_numbers_are_those_that_it_prints() -> None:
    assert paper("table1", "features, squeeze and span", "synthetic and real") == {
        "cifar10": 92.54,
        "cifar100": 67.87,
        "stl10": 76.83,
        "imagenet100": 53.32,
        "imagenet": 47.80,
    }
    assert paper("table2", "VICReg", "real")["cifar10"] == 89.20
    assert paper("table2", "SimSiam", "synthetic")["stl10"] == 73.38
    assert paper("table5", "c: and squeeze module", "synthetic") == {"cifar10": 10.00}


def test_rows_may_be_chosen_and_keep_their_order() -> None:
    assert choose_configs(["vicreg-real", "squeeze"]) == ["squeeze", "vicreg-real"]
    with pytest.raises(UserError, match=r"tables\.rows.*'vicreg'.*vicreg-real"):
        choose_configs(["vicreg"])
