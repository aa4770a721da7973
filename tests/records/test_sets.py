"""Where the labelled sets of a run have their records, and what is refused of a packed one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.root import Config
from pipeline.records.products import RealImages
from pipeline.records.record import write_record
from pipeline.records.sets import packed_sets, require_set, set_config
from pipeline.records.spec import Spec
from shards.errors import UserError


def make_config(folder: Path) -> Config:
    return Config.model_validate(
        {
            "name": "run",
            "paths": {"runs": str(folder / "runs"), "store": str(folder / "store")},
            "ray": {"pack_workers": 0},
            "real": {"resolution": 8},
            "transfer": {"root": "data"},
            "eval": {
                "sets": {
                    "mine": {"train": "a", "test": "b"},
                    "pets": {"source": "ericsson"},
                    "whole": "c",
                }
            },
        }
    )


def leave(config: Config, name: str, classes: tuple[str, ...], num_test: int = 1) -> None:
    own = set_config(config, name)
    inputs = {"decoding": "x", "train": "x", "test": "x"}
    images = RealImages("f", {"train": 4, "test": num_test}, classes, {"train": "x", "test": "y"})
    write_record(own.run_dir / "real", Spec.of("real", own.real, inputs), images)


def refusal(config: Config, name: str) -> str:
    with pytest.raises(UserError) as raised:
        require_set(config, name)
    message = str(raised.value)
    assert "\n" not in message
    return message


def test_set_has_the_runs_store_and_ray_and_a_folder_below_the_runs(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    own = set_config(config, "mine")
    assert own.run_dir == tmp_path / "runs" / "run" / "sets" / "mine"
    assert (own.store, own.cache, own.ray) == (config.store, config.cache, config.ray)
    assert (own.real.train, own.real.resolution) == (Path("a"), 8)


def test_eleven_are_not_packed(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert packed_sets(config) == ("mine", "whole")
    with pytest.raises(UserError, match="no set pets that is packed; there are mine, whole"):
        set_config(config, "pets")


def test_set_is_required_as_the_config_asks_for_it(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert "run `make real` first" in refusal(config, "mine")
    leave(config, "mine", ("a", "b"))
    assert require_set(config, "mine").outputs.class_names == ("a", "b")
    other = config.model_copy(update={"real": config.real.model_copy(update={"resolution": 16})})
    assert "real.resolution=8 (now 16)" in refusal(other, "mine")


@pytest.mark.parametrize(
    ("name", "classes", "num_test", "said"),
    [
        ("mine", (), 1, "eval.sets.mine: no labels in a; put the images in one sub-folder per"),
        ("mine", ("a",), 1, "eval.sets.mine: all images are of one class, 'a'"),
        ("mine", ("a", "b"), 0, "eval.sets.mine.test: no images in b; put some there, or leave"),
        ("whole", ("a", "b"), 0, "eval.sets.whole.path: no test images in c; put some there"),
    ],
)
def test_set_on_which_nothing_can_be_measured_is_refused(
    tmp_path: Path, name: str, classes: tuple[str, ...], num_test: int, said: str
) -> None:
    config = make_config(tmp_path)
    leave(config, name, classes, num_test)
    assert refusal(config, name).startswith(said)
