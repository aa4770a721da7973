"""What an evaluation opens: the run's own labels, sets beside them, and folds of one without a
split.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config.root import Config
from pipeline.eval.labelled import LabelledSet, open_set, open_sets, own_labels, set_inputs
from pipeline.real import stage
from pipeline.records.products import require_real
from pipeline.results.lineage import split_digest
from pipeline.stages import pack_sets
from shards.errors import UserError
from tests.support.real_images import number_of, real_config, write_folder, write_zip


def files(*counts: int, first: int = 0, names: str = "abcdef") -> dict[str, bytes | int]:
    """So many images of each class; numbers go on from `first`."""
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    return {f"{names[label]}/{first + n:03}.png": first + n for n, label in enumerate(labels)}


def config_of(folder: Path, sets: Mapping[str, Any], **real: Any) -> Config:
    config = real_config(folder, **real)
    fields = config.model_dump(include={"name", "paths", "ray", "real"})
    return Config.model_validate({**fields, "eval": {"sets": sets}})


def pack(folder: Path, sets: Mapping[str, Any], **real: Any) -> Config:
    """A run on images with both splits, and its sets, packed."""
    own = write_folder(folder / "own", {f"train/{n}": v for n, v in files(3, 3).items()})
    write_folder(own, {f"test/{n}": v for n, v in files(1, 2, first=50).items()})
    config = config_of(folder, sets, **({"path": own} | real))
    stage.run(config)
    pack_sets(config)
    return config


def refusal(config: Config) -> str:
    with pytest.raises(UserError) as raised:
        pack_sets(config)
    message = str(raised.value)
    assert "\n" not in message
    return message


def classes_of(labelled: LabelledSet, side: str) -> dict[int, str]:
    """Number of each labelled image -> name of its class."""
    part = getattr(labelled, side)
    images = part.images.open().gather("image", part.rows)
    names = [labelled.class_names[label] for label in part.labels]
    return dict(zip(map(number_of, images), names, strict=True))


def test_own_labels_come_first_then_sets_of_a_zip_beside_a_folder_and_of_a_folder(
    tmp_path: Path,
) -> None:
    train = write_folder(tmp_path / "train", files(2, 3, 2, names="xyz"))
    test = write_zip(tmp_path / "test.zip", files(0, 2, 1, first=20, names="xyz"))
    whole = write_folder(tmp_path / "whole", files(4, 5, first=30, names="pq"))
    config = pack(tmp_path, {"mine": {"train": train, "test": test}, "whole": str(whole)})
    own, mine, alone = open_sets(config)
    assert [(one.name, one.is_own) for one in (own, mine, alone)] == [
        ("folder", True),
        ("mine", False),
        ("whole", False),
    ]
    assert own.class_names == ("a", "b")
    assert mine.class_names == ("x", "y", "z")
    assert classes_of(mine, "train") == {0: "x", 1: "x", 2: "y", 3: "y", 4: "y", 5: "z", 6: "z"}
    assert classes_of(mine, "test") == {20: "y", 21: "y", 22: "z"}
    assert set(classes_of(alone, "train").values()) == {"p", "q"}
    for labelled in (own, mine):
        (fold,) = labelled.folds
        assert fold.train.tolist() == list(range(len(labelled.train.rows)))
        assert fold.test.tolist() == list(range(len(labelled.test.rows)))
        assert labelled.remark == ""
    assert own.split_digest == split_digest(require_real(config).outputs, "train", "test")
    assert len({one.split_digest for one in (own, mine, alone)}) == 3


def test_set_without_test_images_is_divided_by_class_into_folds_that_cover_it_once(
    tmp_path: Path,
) -> None:
    config = pack(tmp_path, {"whole": str(write_folder(tmp_path / "whole", files(10, 20, 15)))})
    labelled = open_set(config, "whole")
    assert labelled.test is labelled.train
    labels = labelled.train.labels
    assert len(labelled.folds) == 5
    for fold in labelled.folds:
        assert np.bincount(labels[fold.test]).tolist() == [2, 4, 3]
        assert sorted([*fold.train, *fold.test]) == list(range(45))
    assert sorted(np.concatenate([fold.test for fold in labelled.folds])) == list(range(45))
    remark = labelled.remark
    assert remark.startswith("; 5-fold cross-validation by class, seed 0")
    assert remark.endswith("seed modulo 5 is the fold that it is tested on")
    again = open_set(config, "whole")
    assert again.split_digest == labelled.split_digest
    assert [f.test.tolist() for f in again.folds] == [f.test.tolist() for f in labelled.folds]


def test_class_of_fewer_images_than_folds_makes_fewer_folds(tmp_path: Path) -> None:
    sets = {"whole": {"train": str(write_folder(tmp_path / "whole", files(3, 9)))}}
    labelled = open_set(pack(tmp_path, sets), "whole")
    assert len(labelled.folds) == 3
    assert labelled.remark.startswith("; 3-fold")
    assert all(0 in labelled.train.labels[fold.test] for fold in labelled.folds)


def test_unlabelled_images_of_a_set_are_in_no_fold(tmp_path: Path) -> None:
    content = files(4, 4) | {"unlabelled/90.png": 90, "91.png": 91}
    config = pack(tmp_path, {"whole": str(write_folder(tmp_path / "whole", content))})
    labelled = open_set(config, "whole")
    assert labelled.train.images.open().num_samples == 10
    assert len(classes_of(labelled, "train")) == 8
    images = labelled.probe_images(labelled.folds[1], view_size=8)
    train = images.train.gather("image", images.train_rows)
    test = images.test.gather("image", images.test_rows)
    assert sorted(map(number_of, [*train, *test])) == list(range(8))
    assert images.test_labels.tolist() == [0, 1]


def test_sides_travel_to_workers(tmp_path: Path) -> None:
    own = own_labels(pack(tmp_path, {}))
    assert own is not None
    there: LabelledSet = pickle.loads(pickle.dumps(own))
    assert classes_of(there, "test") == {50: "a", 51: "b", 52: "b"}


def test_run_without_labels_or_test_images_is_measured_on_its_sets_alone(tmp_path: Path) -> None:
    whole = write_folder(tmp_path / "whole", files(2, 2))
    flat = write_folder(tmp_path / "flat", {"1.png": 1, "2.png": 2})
    for real in ({"path": None, "train": tmp_path / "whole"}, {"path": None, "train": flat}):
        config = pack(tmp_path, {"other": str(whole)}, **real)
        assert own_labels(config) is None
        assert [labelled.name for labelled in open_sets(config)] == ["other"]


def test_own_labels_of_one_class_are_refused(tmp_path: Path) -> None:
    content = {"train/a/1.png": 1, "train/2.png": 2, "test/a/3.png": 3}
    config = config_of(tmp_path, {}, path=write_folder(tmp_path / "one", content))
    stage.run(config)
    with pytest.raises(UserError, match=r"real\.path: .*two classes"):
        own_labels(config)


def test_inputs_are_the_contents_of_the_sets_wherever_they_lie(tmp_path: Path) -> None:
    assert set_inputs(pack(tmp_path, {})) == {}
    for name in ("one", "two"):
        write_folder(tmp_path / name, files(2, 2))
    test = write_folder(tmp_path / "test", files(1, first=9))
    sets = {name: {"train": str(tmp_path / name)} for name in ("one", "two")}
    sets["both"] = {"train": str(tmp_path / "one"), "test": str(test)}
    inputs = set_inputs(pack(tmp_path, sets))
    assert set(inputs) == {"set one train", "set two train", "set both train", "set both test"}
    assert inputs["set one train"] == inputs["set two train"] == inputs["set both train"]
    assert inputs["set both test"] != inputs["set both train"]


def test_inputs_name_the_sets_that_are_read_where_they_lie(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"pets": {"source": "ericsson", "path": "data"}})
    assert set_inputs(config) == {"set pets": "ericsson"}


Content = dict[str, bytes | int]
MISTAKES: list[tuple[str, Content, Content | None, str]] = [
    ("empty train", {}, None, "eval.sets.mine.train: no images in TRAIN"),
    ("empty test", files(2, 2), {}, "eval.sets.mine.test: no images in TEST; put some there"),
    ("no labels", {"1.png": 1, "2.png": 2}, None, "eval.sets.mine: no labels in TRAIN"),
    ("no train labels", {"1.png": 1}, files(1, 1), "eval.sets.mine: its train images have no lab"),
    ("no test labels", files(1, 1), {"1.png": 1}, "eval.sets.mine: its test images have no labels"),
    ("one class", files(3), None, "eval.sets.mine: all images are of one class, 'a'"),
    ("lone image", files(1, 3, 1), None, "eval.sets.mine: without test images it is cross-valid"),
    ("strangers", files(1, 1), files(1, 0, 1, 1), "eval.sets.mine.test: images of classes 'c', "),
    ("no image", files(1, 1) | {"a/x.png": b"text"}, None, "eval.sets.mine: 1 of 3 images cannot"),
    ("splits", {"train/1.png": 1, "test/2.png": 2}, None, "eval.sets.mine.train: TRAIN holds spl"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [mistake[1:] for mistake in MISTAKES],
    ids=[mistake[0] for mistake in MISTAKES],
)
def test_bad_set_is_refused_in_one_line_when_it_is_packed(
    tmp_path: Path, train: Content, test: Content | None, said: str
) -> None:
    fields = {"train": str(write_folder(tmp_path / "train", train))}
    if test is not None:
        fields["test"] = str(write_folder(tmp_path / "test", test))
    message = refusal(config_of(tmp_path, {"mine": fields}))
    said = said.replace("TRAIN", str(tmp_path / "train")).replace("TEST", str(tmp_path / "test"))
    assert message.startswith(said)


def test_lone_images_are_named_by_their_classes(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "whole", files(1, 3, 1))
    message = refusal(config_of(tmp_path, {"mine": str(folder)}))
    assert "there is one of a, c; add some" in message
    assert "eval.sets.mine.test" in message


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "(there: nothing)"),
        ({"test/a/1.png": 1, "test/b/2.png": 2}, "(there: test)"),
        ({"val/a/1.png": 1}, "(there: val)"),
    ],
)
def test_path_without_train_images_is_refused_in_one_line(
    tmp_path: Path, content: Content, said: str
) -> None:
    folder = write_folder(tmp_path / "mine", content)
    message = refusal(config_of(tmp_path, {"mine": str(folder)}))
    assert message.startswith(f"eval.sets.mine.path: no images in {folder / 'train'}")
    assert message.endswith(said)


def test_path_that_is_not_there_is_refused_in_one_line(tmp_path: Path) -> None:
    message = refusal(config_of(tmp_path, {"mine": str(tmp_path / "absent")}))
    assert message.startswith(f"eval.sets.mine.path: {tmp_path / 'absent'} is not there")


def test_set_that_was_refused_is_refused_again(tmp_path: Path) -> None:
    config = config_of(tmp_path, {"mine": str(write_folder(tmp_path / "mine", files(1, 3)))})
    assert refusal(config) == refusal(config)


def test_packed_set_whose_source_is_gone_is_still_there(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "whole", files(2, 2))
    config = pack(tmp_path, {"mine": str(folder)})
    folder.rename(tmp_path / "elsewhere")
    pack_sets(config)
    assert len(open_set(config, "mine").folds) == 2
