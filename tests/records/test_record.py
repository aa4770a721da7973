"""Records: finished work is recognised, and a difference is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.config.eval import EvalConfig
from pipeline.config.train import TrainConfig
from pipeline.records.digests import file_digest
from pipeline.records.products import Student
from pipeline.records.record import (
    BEGUN_FILE,
    begin,
    find_complete,
    read_record,
    require_record,
    write_record,
)
from pipeline.records.spec import Spec, describe_difference
from shards.errors import UserError

CONFIG = TrainConfig(epochs=3)
STUDENT = Student("d" * 64, 150, ("e" * 64,))
INPUTS = {"real": "a" * 64, "pool": "b" * 64}


def spec(config: TrainConfig = CONFIG, inputs: dict[str, str] = INPUTS) -> Spec:
    return Spec.of("train", config, inputs)


def test_find_complete_folder_without_a_record_is_none(tmp_path: Path) -> None:
    assert find_complete(tmp_path, spec(), Student) is None
    assert find_complete(tmp_path / "nowhere", spec(), Student) is None


def test_find_complete_same_recipe_returns_what_was_written(tmp_path: Path) -> None:
    written = write_record(tmp_path, spec(), STUDENT)
    found = find_complete(tmp_path, spec(), Student)
    assert found == written
    assert found is not None
    assert found.outputs == STUDENT
    assert found.inputs == INPUTS
    assert found.versions["torch"]


def test_find_complete_other_config_names_section_field_and_both_values(tmp_path: Path) -> None:
    write_record(tmp_path, spec(), STUDENT)
    student = CONFIG.student.model_copy(update={"width": 16})
    changed = CONFIG.model_copy(update={"epochs": 5, "student": student})
    with pytest.raises(UserError) as raised:
        find_complete(tmp_path, spec(changed), Student)
    message = str(raised.value)
    assert str(tmp_path) in message
    assert "train.epochs=3 (now 5)" in message
    assert "train.student.width=64 (now 16)" in message
    assert "momentum" not in message


def test_find_complete_other_input_names_it(tmp_path: Path) -> None:
    write_record(tmp_path, spec(), STUDENT)
    with pytest.raises(UserError, match=r"input pool=b{12} \(now c{12}\)"):
        find_complete(tmp_path, spec(inputs={**INPUTS, "pool": "c" * 64}), Student)


def test_find_complete_field_that_came_or_went_is_named(tmp_path: Path) -> None:
    write_record(tmp_path, spec().without("momentum"), STUDENT)
    with pytest.raises(UserError, match=r"train\.momentum=None \(now 0\.9\)"):
        find_complete(tmp_path, spec(), Student)


def test_begin_progress_of_another_recipe_is_refused_by_field(tmp_path: Path) -> None:
    begin(tmp_path, spec(), "state")
    (tmp_path / "state").write_bytes(b"half way")
    begin(tmp_path, spec(), "state")
    with pytest.raises(UserError, match=r"begun with input pool=b{12} \(now c{12}\); .*name=…"):
        begin(tmp_path, spec(inputs={**INPUTS, "pool": "c" * 64}), "state")
    with pytest.raises(UserError, match=r"train\.epochs=3 \(now 5\)"):
        begin(tmp_path, spec(CONFIG.model_copy(update={"epochs": 5})), "state")
    begin(tmp_path, spec(), "state")


def test_begin_damaged_description_of_the_progress_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"half way")
    (tmp_path / BEGUN_FILE).write_text("{")
    with pytest.raises(UserError, match=rf"{BEGUN_FILE}: damaged; delete it"):
        begin(tmp_path, spec(), "state")


def test_begin_without_progress_takes_any_recipe(tmp_path: Path) -> None:
    begin(tmp_path / "run", spec(), "state")
    other = spec(CONFIG.model_copy(update={"epochs": 5}))
    begin(tmp_path / "run", other, "state")
    (tmp_path / "run" / "state").write_bytes(b"half way")
    begin(tmp_path / "run", other, "state")


def test_fingerprint_ignores_fields_that_do_not_shape_the_result() -> None:
    changed = CONFIG.model_copy(update={"checkpoint_interval_s": 1.0})
    assert spec(changed).fingerprint == spec().fingerprint


def test_fingerprint_changes_with_stage_config_and_inputs() -> None:
    fingerprints = {
        spec().fingerprint,
        spec(CONFIG.model_copy(update={"seed": 1})).fingerprint,
        spec(inputs={}).fingerprint,
        Spec.of("other", CONFIG, INPUTS).fingerprint,
    }
    assert len(fingerprints) == 4
    assert all(len(fingerprint) == 64 for fingerprint in fingerprints)


def test_fingerprint_survives_the_record_file(tmp_path: Path) -> None:
    config = EvalConfig(seeds=(3, 4))
    written = write_record(tmp_path, Spec.of("eval", config, {}), STUDENT)
    found = read_record(tmp_path, Student)
    assert found is not None
    assert Spec(found.stage, found.config, found.inputs).fingerprint == written.fingerprint
    assert describe_difference(
        Spec(found.stage, found.config, found.inputs), Spec.of("eval", config, {})
    ) == ""  # fmt: skip


@pytest.mark.parametrize("content", ["", "{", "[]", "3", '{"stage": "train"}', '{"extra": 1}'])
def test_read_record_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(UserError, match=r"record\.json: damaged"):
        read_record(tmp_path, Student)


def test_read_record_binary_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_bytes(b"\xff\x00")
    with pytest.raises(UserError, match=r"record\.json: damaged"):
        read_record(tmp_path, Student)


def test_require_record_missing_names_the_command_to_type(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"`make train`"):
        require_record(tmp_path, "train", Student, CONFIG)


def test_require_record_of_another_config_names_field_and_remedy(tmp_path: Path) -> None:
    write_record(tmp_path, spec(), STUDENT)
    with pytest.raises(UserError, match=r"train\.epochs=3 \(now 4\).*name=…"):
        require_record(tmp_path, "train", Student, CONFIG.model_copy(update={"epochs": 4}))


def test_require_record_of_the_same_config_or_any_returns_it(tmp_path: Path) -> None:
    written = write_record(tmp_path, spec(), STUDENT)
    assert require_record(tmp_path, "train", Student, CONFIG) == written
    assert require_record(tmp_path, "train", Student) == written


def test_write_record_is_readable_json(tmp_path: Path) -> None:
    write_record(tmp_path, spec(), STUDENT)
    content = json.loads((tmp_path / "record.json").read_text())
    assert content["config"]["epochs"] == 3
    assert content["fingerprint"] == spec().fingerprint


def test_file_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    assert file_digest(tmp_path / "file") == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
