"""Fingerprints of yesterday's records, and what a new field or default does to them."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from pipeline.config.eval import EvalConfig
from pipeline.config.fields import Section
from pipeline.config.file import load_config
from pipeline.config.method import METHOD_SECTIONS
from pipeline.config.monitor import MonitorConfig
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from pipeline.generate.plan import make_recipe
from pipeline.real.request import spec_of
from pipeline.records.spec import Spec, recorded_fields
from pipeline.teacher.description import read_teacher_info
from tests.support.workspace import ROOT

INPUTS = {"real": "a" * 64}


def grown(version_: int = 1, default: int = 3) -> type[TrainConfig]:
    """The section as it may be some day."""

    class Grown(TrainConfig):
        version: ClassVar[int] = version_
        foresight: int = default

    Grown.__name__ = "TrainConfig"
    return Grown


def fingerprint(section: Section) -> str:
    return Spec.of("train", section, INPUTS).fingerprint


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("train", "7d2f037b8515a16b"),
        ("eval", "26831d3d7d94f006"),
        ("generate", "c2ae536de9fd89da"),
        ("teacher", "37bf3012c366c259"),
        ("transfer", "09e20198a148a88b"),
        ("finetune", "c9ea65ff0cb7f1e7"),
    ],
)
def test_fingerprint_of_defaults_is_that_of_the_first_version(stage: str, expected: str) -> None:
    section: Section = getattr(Config(name="x"), stage)
    assert Spec.of(stage, section, INPUTS).fingerprint[:16] == expected


def test_keys_of_the_digits_are_what_they_were() -> None:
    config = load_config(ROOT / "configs" / "digits.yaml", [f"paths.runs={Path('nowhere')}"])
    assert spec_of(config).fingerprint[:16] == "7529e64368d596f3"
    info = read_teacher_info(ROOT / "teachers" / "digits")
    assert make_recipe(config.generate, info).key == "eb2f7625dc97015b"


def test_new_field_at_its_default_changes_no_fingerprint_and_another_value_does() -> None:
    section = grown()
    assert fingerprint(section()) == fingerprint(TrainConfig())
    assert fingerprint(section(foresight=5)) != fingerprint(TrainConfig())


def test_changed_default_changes_fingerprints_by_the_version_of_the_section() -> None:
    assert fingerprint(grown(version_=2, default=4)()) != fingerprint(TrainConfig())


def test_view_size_is_recorded_where_it_is_set_and_changes_no_earlier_run() -> None:
    assert "view_size" not in recorded_fields(TrainConfig())
    assert fingerprint(TrainConfig(view_size=64)) != fingerprint(TrainConfig())


def test_fields_of_no_record_are_in_no_fingerprint_but_reach_whoever_gets_the_section() -> None:
    section = TrainConfig(
        checkpoint_interval_s=300, resident="off", monitor=MonitorConfig(every_epochs=3)
    )
    assert fingerprint(section) == fingerprint(TrainConfig())
    assert TrainConfig.model_validate_json(section.model_dump_json()) == section


@pytest.mark.parametrize("section", [*METHOD_SECTIONS.values(), EvalConfig, Config])
def test_all_fields_of_the_first_version_are_recorded(section: type[Section]) -> None:
    values = {"name": "x"} if section is Config else {}
    if section in METHOD_SECTIONS.values():
        (values,) = ({"name": n} for n, kind in METHOD_SECTIONS.items() if kind is section)
    made = section.model_validate(
        {**values, **({"name": "a.b:C"} if values.get("name") == "own" else {})}
    )
    away = {"paths", "ray", "hardware", "worth", "control", "sets", "projector_layers"}
    assert recorded_fields(made).keys() == section.model_fields.keys() - away
