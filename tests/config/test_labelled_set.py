"""Labelled sets in a config, and how a mistake in one is put."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config.file import load_config
from pipeline.config.labelled_set import LabelledSetConfig, SetImages
from pipeline.config.real import RealConfig
from pipeline.records.spec import Spec, recorded_fields
from shards.errors import UserError
from tests.support.workspace import ROOT


def write(folder: Path, **sets: Any) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({"name": "x", "eval": {"sets": sets}}, sort_keys=False))
    return path


def mistake(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        load_config(path, overrides)
    message = str(raised.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_text_in_place_of_a_set_is_its_path(tmp_path: Path) -> None:
    sets = load_config(write(tmp_path, mine="images", far="s3://bucket/images")).eval.sets
    assert list(sets) == ["mine", "far"]
    assert sets["mine"] == LabelledSetConfig(source="folder", path=Path("images"))
    assert sets["far"].path == "s3://bucket/images"


@pytest.mark.parametrize(
    ("overrides", "path", "train", "test"),
    [
        (["eval.sets.mine=a"], "a", None, None),
        (["eval.sets.mine.train=a"], None, "a", None),
        (["eval.sets.mine.train=a", "eval.sets.mine.test=b.zip"], None, "a", "b.zip"),
        (["eval.sets.mine=a", "eval.sets.mine.test=b"], "a", None, "b"),
        (["eval.sets.mine={train: a, test: b}"], None, "a", "b"),
    ],
)
def test_overrides_name_a_set_and_its_sides(
    tmp_path: Path, overrides: list[str], path: str | None, train: str | None, test: str | None
) -> None:
    (tmp_path / "run.yaml").write_text("name: x\n")
    mine = load_config(tmp_path / "run.yaml", overrides).eval.sets["mine"]
    places = [None if place is None else Path(place) for place in (path, train, test)]
    assert [mine.path, mine.train, mine.test] == places
    assert mine.source == "folder"


def test_override_adds_to_what_the_file_says_of_a_set(tmp_path: Path) -> None:
    path = write(tmp_path, mine="a", other={"train": "b"})
    sets = load_config(path, ["eval.sets.mine.test=c", "eval.sets.other.label_field=d"]).eval.sets
    assert (sets["mine"].path, sets["mine"].test) == (Path("a"), Path("c"))
    assert (sets["other"].train, sets["other"].label_field) == (Path("b"), "d")


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("eval.sets.mine={}", "eval.sets.mine: names no images; set path=FOLDER, or train=IMAGES"),
        ("eval.sets.mine.test=a", "eval.sets.mine: names test images only; set path=FOLDER"),
        ("eval.sets.mine=null", "eval.sets.mine: must be a folder, or fields such as train"),
        ("eval.sets.mine=5", "eval.sets.mine: must be a folder, or fields such as train"),
        ("eval.sets.mine.trian=a", "unknown field eval.sets.mine.trian; did you mean train?"),
        ("eval.sets.mine.path=pipe:x", "eval.sets.mine.path: must be a path or a URL"),
        ("eval.sets.mine.source=mnist", "eval.sets.mine.source: must be digits, "),
        ("eval.sets.mine.source=cifar10", "eval.sets.mine: source=cifar10 needs path=FOLDER"),
        ("eval.sets={a b: c}", "eval.sets.a b: must have only letters"),
        ("eval.sets={../up: c}", "eval.sets.../up: must have only letters"),
        ("eval.sets=[a]", "eval.sets: name each set"),
        ("eval.sets.digits.source=digits", "eval.sets.digits: is the name of the run's own"),
        ("eval.sets.folder=a", "eval.sets: folder is the name of a run's own images in results"),
        ("eval.sets.stl10=a", "eval.sets: stl10 is the name of a published data set"),
        ("eval.sets.pets=a", "eval.sets: pets is the name of a published data set"),
        ("eval.sets.mine.source=ericsson", "eval.sets: mine is none of the eleven"),
        ("eval.sets.pets.source=ericsson", "eval.sets.pets: source=ericsson needs path=FOLDER"),
        (
            "eval.sets.pets={source: ericsson, train: a}",
            "eval.sets.pets: source=ericsson has splits and labels of its own; leave out train",
        ),
    ],
)
def test_mistake_in_a_set_is_one_line_that_names_it(
    tmp_path: Path, override: str, said: str
) -> None:
    (tmp_path / "run.yaml").write_text("name: x\n")
    assert mistake(tmp_path / "run.yaml", override).startswith(said)


def test_eleven_lie_under_their_path_or_the_root_of_the_transfer(tmp_path: Path) -> None:
    path = write(tmp_path, pets={"source": "ericsson"}, cifar10={"source": "ericsson"})
    assert mistake(path).startswith("eval.sets.pets: source=ericsson needs path=FOLDER")
    load_config(path, ["transfer.root=data"])
    load_config(path, ["eval.sets.pets.path=a", "eval.sets.cifar10.path=b"])
    load_config(path, ["eval.sets={cifar10: {source: cifar10, path: a}}"])


def test_sets_leave_the_fingerprint_of_the_section_alone(tmp_path: Path) -> None:
    plain, with_set = (load_config(write(tmp_path, **s)).eval for s in ({}, {"mine": "a"}))
    assert recorded_fields(plain) == recorded_fields(with_set)
    assert "sets" not in recorded_fields(plain)


def test_set_is_stored_as_the_images_of_the_run_are_and_takes_all_of_its_own() -> None:
    real = RealConfig(
        source="folder",
        path=Path("own"),
        label_field="kind",
        limit=5,
        resolution=16,
        image_codec="jpg",
        image_quality=70,
        background=(1, 2, 3),
        unreadable="skip",
        samples_per_shard=7,
    )
    made = LabelledSetConfig(train=Path("a"), classes=Path("b")).as_real(real, "mine")
    assert made == SetImages(
        source="folder",
        train=Path("a"),
        classes=Path("b"),
        resolution=16,
        image_codec="jpg",
        image_quality=70,
        background=(1, 2, 3),
        unreadable="skip",
        samples_per_shard=7,
        place="eval.sets.mine",
    )


def test_shards_of_a_set_are_those_of_a_run_with_the_same_images() -> None:
    own = RealConfig(source="folder", path=Path("a"), resolution=16)
    as_set = LabelledSetConfig(path=Path("a")).as_real(RealConfig(resolution=16), "mine")
    assert Spec.of("real", as_set, {}) == Spec.of("real", own, {})


@pytest.mark.parametrize(
    ("said", "reworded"),
    [
        ("real.train: a is not there", "eval.sets.mine.train: a is not there"),
        ("set real.train=a (there: b)", "set eval.sets.mine.train=a (there: b)"),
        ("another (real.label_field).", "another (eval.sets.mine.label_field)."),
        ("real: 3 of 5 images", "eval.sets.mine: 3 of 5 images"),
        ("set real.unreadable=skip", "set real.unreadable=skip"),
        ("runs/x/real.train/real: real", "runs/x/real.train/real: real"),
        ("real.train.zip and real.tests", "real.train.zip and real.tests"),
    ],
)
def test_messages_about_a_set_name_its_fields(said: str, reworded: str) -> None:
    images = LabelledSetConfig(path=Path("a")).as_real(RealConfig(), "mine")
    assert images.reword(said) == reworded
    assert RealConfig().reword(said) == said


def test_example_of_the_manual_is_a_config_that_travels_to_workers(tmp_path: Path) -> None:
    manual = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
    (example,) = (part for part in manual.split("```") if part.startswith("yaml\neval:\n  sets:"))
    (tmp_path / "run.yaml").write_text("name: x\n" + example.removeprefix("yaml"))
    config = load_config(tmp_path / "run.yaml")
    assert list(config.eval.sets) == ["birds", "defects", "scans", "pets"]
    assert pickle.loads(pickle.dumps(config)) == config
