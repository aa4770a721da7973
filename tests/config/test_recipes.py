"""The recipes that ship have their authors' numbers, laid over ImageNet's config."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.train.optimizer import learning_rate


def load(*files: str) -> Config:
    paths = [f"configs/recipes/{name}.yaml" if "/" not in name else name for name in files]
    return load_config(Path("configs/imagenet.yaml"), paths)


def test_vicregs_recipe_is_that_of_its_authors() -> None:
    config = load("vicreg-imagenet")
    train = config.train
    assert (config.name, config.view_size) == ("imagenet-vicreg-imagenet", 224)
    assert learning_rate(train, 10) == pytest.approx(1.6)
    assert learning_rate(train, 5) == pytest.approx(0.8)
    assert learning_rate(train, 1000) == pytest.approx(1.6e-3)
    assert (train.weight_decay, train.optimizer.name, train.momentum) == (1e-6, "lars", 0.9)
    assert not config.train.needs_teacher
    assert not config.train.reads_pool


def test_simsiams_recipe_is_that_of_its_authors() -> None:
    train = load("simsiam-imagenet").train
    assert (learning_rate(train, 0), train.weight_decay) == (pytest.approx(0.1), 1e-4)
    assert learning_rate(train, 0.9) == learning_rate(train, 0)
    assert train.optimizer == type(train.optimizer)()


def test_vits_recipe_goes_with_any_method() -> None:
    train = load("configs/methods/vicreg-real.yaml", "vit-imagenet").train
    assert learning_rate(train, 10) == pytest.approx(2e-3)
    assert learning_rate(train, 100) == pytest.approx(1e-6)
    assert (train.method.name, train.student.options) == ("vicreg", {"drop_path_rate": 0.1})
    assert load("vit-imagenet").train.method.name == "squeeze_and_span"
