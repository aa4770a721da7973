"""A mistake in a config is one line that names the field, the rule and, if near, what was meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.config_files import load_error, write


@pytest.mark.parametrize(
    ("content", "field", "suggestion"),
    [
        ({"train": {"epoch": 3}}, "train.epoch", "epochs"),
        ({"train": {"student": {"widht": 3}}}, "train.student.widht", "width"),
        ({"train": {"augment": {"flip": 0}}}, "train.augment.flip", "flip_p"),
        ({"generate": {"num_sample": 3}}, "generate.num_sample", "num_samples"),
        ({"trian": {}}, "trian", "train"),
    ],
)
def test_load_config_unknown_key_is_named_with_a_suggestion(
    tmp_path: Path, content: dict[str, Any], field: str, suggestion: str
) -> None:
    message = load_error(write(tmp_path, {"name": "x", **content}))
    assert "run.yaml" in message
    assert f"unknown field {field};" in message
    assert f"did you mean {suggestion}?" in message


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("epochs=3", "train.epochs? There is also tables.epochs, sweep.epochs"),
        ("epoch=3", "train.epochs?"),
        ("width=3", "train.student.width?"),
        ("device=cpu", "hardware.device?"),
        ("train.variance_weight=3", "train.method.variance_weight?"),
        ("train.width=3", "train.student.width?"),
        ("ray.num_samples=3", "generate.num_samples?"),
        ("train.method.learning_rate=3", "train.learning_rate?"),
    ],
)
def test_load_config_field_of_another_section_is_found(
    tmp_path: Path, override: str, suggestion: str
) -> None:
    message = load_error(write(tmp_path, {"name": "x"}), override)
    assert f"unknown field {override.partition('=')[0]}; did you mean {suggestion}" in message


@pytest.mark.parametrize(
    ("override", "mention"),
    [
        ("name='a run'", "name: must have only letters from a to z, digits, dots"),
        ("name=-run", "name: must have only letters from a to z, digits, dots"),
        ("teacher.factory=code", "teacher.factory: must be code as package.module:name"),
        ("train.method.name='a b:c'", "train.method.name: must be code as package.module:name"),
        ("train.student.architecture=res-net", "must be a name of torchvision's such as resnet18"),
        ("eval.few_labels=[ten]", "must be such as 10_per_class or 5_percent"),
        ("train.optimizer=lars", "is a section; write train.optimizer.FIELD=value"),
    ],
)
def test_load_config_misspelt_text_is_told_the_rule_in_words(
    tmp_path: Path, override: str, mention: str
) -> None:
    message = load_error(write(tmp_path, {"name": "x"}), override)
    assert mention in message
    assert message.endswith(f"got {yaml.safe_load(override.partition('=')[2].strip('[]'))!r}")
    assert not set("^$\\") & set(message.rpartition("got ")[0]), message


def test_load_config_section_of_another_section_is_found(tmp_path: Path) -> None:
    message = load_error(write(tmp_path, {"name": "x"}), "student.width=3")
    assert "unknown field student; did you mean train.student?" in message


def test_load_config_unknown_key_without_a_near_miss_lists_what_there_is(tmp_path: Path) -> None:
    message = load_error(write(tmp_path, {"name": "x", "paths": {"qqqq": 1}}))
    assert "paths.qqqq" in message
    assert "store, cache, cache_gb, runs" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("train.epochs", "many"),
        ("train.epochs", "1.5"),
        ("train.epochs", "0"),
        ("train.epochs", "null"),
        ("train.student.stem", "vgg"),
        ("train.student.architecture", "hf-hub:someone/network"),
        ("real.source", "mnist"),
        ("train.student", "5"),
        ("train.learning_rate", "-1"),
        ("train.learning_rate", ".inf"),
        ("train.learning_rate", ".nan"),
        ("train.pixel_mean", "[0.5, 0.5]"),
        ("train.pixel_std", "[0.5, 0.5, 0]"),
        ("train.augment.flip_p", "1.2"),
        ("train.augment.rotation_deg", "-5"),
        ("train.synthetic_share", "1"),
        ("generate.seed", "-1"),
        ("generate.noise", "some"),
        ("eval.seeds", "[]"),
        ("tables.seeds", "[0, 0]"),
        ("tables.rows", "[]"),
        ("train.method", "null"),
        ("train.method.name", "vicre"),
        ("hardware.device", "tpu"),
        ("ray.train_workers", "0"),
        ("teacher.conv_clamp", "0"),
        ("real.resolution", "{}"),
        ("name", "a/b"),
        ("name", "''"),
        ("generate.classes", "[]"),
        ("generate.classes", "[2, 2]"),
        ("generate.classes", "[-1]"),
        ("generate.classes", "3"),
    ],
)
def test_load_config_wrong_value_names_its_field(tmp_path: Path, field: str, value: str) -> None:
    message = load_error(write(tmp_path, {"name": "x"}), f"{field}={value}")
    assert field in message


@pytest.mark.parametrize(
    ("content", "section", "words"),
    [
        ({"real": {"source": "folder"}}, "real", "path"),
        ({"real": {"source": "digits", "path": "x"}}, "real", "path"),
        ({"real": {"source": "stl10"}}, "real", "path"),
        ({"real": {"source": "cifar10", "path": "x", "classes": "y"}}, "real", "classes"),
        ({"real": {"classes": "y"}}, "real", "classes"),
        ({"train": {"student": {"architecture": "vgg11", "width": 32}}}, "train.student", "width"),
        (
            {"train": {"student": {"architecture": "timm:resnet18", "stem": "imagenet"}}},
            "train.student",
            "stem",
        ),
        ({"teacher": {"global_batch": 48, "mbstd_group_size": 32}}, "teacher", "mbstd_group_size"),
        ({"train": {"augment": {"crop_scale": [0.5, 0.2]}}}, "train.augment", "crop_scale"),
        ({"train": {"augment": {"crop_scale": [0, 1]}}}, "train.augment", "crop_scale"),
        ({"train": {"augment": {"blur_sigma": [2.0, 0.1]}}}, "train.augment", "blur_sigma"),
        ({"train": {"global_batch": 3}}, "train", "global_batch"),
        ({"train": {"global_batch": 8, "synthetic_share": 0.9}}, "train", "synthetic_share"),
    ],
)
def test_load_config_impossible_combination_names_section_and_field(
    tmp_path: Path, content: dict[str, Any], section: str, words: str
) -> None:
    message = load_error(write(tmp_path, {"name": "x", **content}))
    assert f"{section}: " in message
    assert words in message


@pytest.mark.parametrize(
    ("override", "rule"),
    [
        ("train.epochs=x", "train.epochs: must be a whole number, got 'x'"),
        ("train.epochs=", "train.epochs: must be a whole number, got nothing"),
        ("train.augment.flip_p=2", "train.augment.flip_p: must be at most 1, got 2"),
        ("train.learning_rate=.nan", "train.learning_rate: must be a finite number, got nan"),
        ("ray.render_workers=x", "ray.render_workers: must be a whole number or all, got 'x'"),
        ("ray.render_workers=-1", "ray.render_workers: must be at least 0 or all, got -1"),
        ("eval.probes=linear", "eval.probes: must be a list, such as [linear], got 'linear'"),
        ("eval.probes=[lin]", "eval.probes: must be linear, knn or linear_sgd, got 'lin'"),
        ("transfer.sets=pets", "transfer.sets: must be all or a list, such as [pets], got 'pets'"),
        ("generate.classes=[]", "generate.classes: must have at least 1 value, got []"),
        ("train.pixel_mean=[1]", "train.pixel_mean: has too few values, got [1]"),
        ("train.student.options=3", "must be names with values, such as {a: 1}, got 3"),
        ("train.student=3", "train.student: is a section; write train.student.FIELD=value, got 3"),
        ("train.method=vicreg", "got 'vicreg'; did you mean train.method.name=vicreg?"),
        ("train.method.name=vicrge", "got 'vicrge'; did you mean train.method.name=vicreg?"),
        (
            "train.method.convention=paper",
            "unknown field train.method.convention; it belongs to train.method.name=vicreg",
        ),
    ],
)
def test_load_config_wrong_value_is_told_the_rule_in_plain_words(
    tmp_path: Path, override: str, rule: str
) -> None:
    message = load_error(write(tmp_path, {"name": "x"}), override)
    assert rule in message
    assert "more)" not in message, "one value has one mistake"
    assert "Input" not in message


def test_load_config_several_mistakes_are_counted(tmp_path: Path) -> None:
    message = load_error(write(tmp_path, {"name": "x", "train": {"epochs": 0, "momentum": 2}}))
    assert "train.epochs" in message
    assert "1 more" in message


def test_load_config_without_a_name_names_the_field(tmp_path: Path) -> None:
    assert "name: is missing; set it" in load_error(write(tmp_path, {"train": {}}))
