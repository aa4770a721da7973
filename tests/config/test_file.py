"""What a config file and overrides may say."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.config.file import load_config
from pipeline.config.method import SqueezeAndSpanConfig
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from tests.support.config_files import load_error, write

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_load_config_shipped_file_loads_under_its_own_name(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_load_config_shipped_files_are_there() -> None:
    assert "digits" in [path.stem for path in SHIPPED]


def test_load_config_name_alone_gives_the_papers_cifar_table(tmp_path: Path) -> None:
    train = load_config(write(tmp_path, {"name": "x"})).train
    assert (train.global_batch, train.num_synthetic, train.num_real) == (512, 256, 256)
    assert (train.learning_rate, train.momentum, train.weight_decay) == (0.03, 0.9, 5e-4)
    method = train.method
    assert isinstance(method, SqueezeAndSpanConfig)
    weights = (method.invariance_weight, method.variance_weight, method.covariance_weight)
    assert weights == (25, 25, 1)
    assert train.epochs == 800
    assert (train.student.projector_layers, train.student.embedding_dim) == (5, 2048)
    assert train.pixel_mean == (0.4914, 0.4822, 0.4465)
    assert train.pixel_std == (0.2023, 0.1994, 0.2010)
    augment = train.augment
    jitter = (augment.brightness, augment.contrast, augment.saturation, augment.hue)
    assert jitter == (0.4, 0.4, 0.4, 0.1)
    assert (augment.jitter_p, augment.grayscale_p, augment.crop_scale) == (0.8, 0.2, (0.2, 1.0))


@pytest.mark.parametrize(
    "content", ["[1, 2]", "just text", "", "name: [unclosed", "name: x\n\ttrain: 1", "\x00"]
)
def test_load_config_file_that_is_no_mapping_is_named(tmp_path: Path, content: str) -> None:
    assert "run.yaml" in load_error(write(tmp_path, content))


def test_load_config_binary_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00\x01")
    assert "run.yaml" in load_error(path)


def test_load_config_missing_file_or_folder_is_named(tmp_path: Path) -> None:
    assert "nowhere.yaml" in load_error(tmp_path / "nowhere.yaml")
    assert str(tmp_path) in load_error(tmp_path)


def test_load_config_overrides_are_yaml_and_apply_in_order(tmp_path: Path) -> None:
    path = write(tmp_path, {"name": "x", "train": {"epochs": 7}, "eval": None})
    config = load_config(
        path,
        [
            "train.epochs=8",
            "train.epochs=9",
            "train.student.width=16",
            "train.augment.crop_scale=[0.5, 1]",
            "teacher.checkpoint=null",
            "real.source=folder",
            "real.path=a=b",
            "eval.knn_k=5",
        ],
    )
    assert config.train.epochs == 9
    assert config.train.student.width == 16
    assert config.train.augment.crop_scale == (0.5, 1.0)
    assert config.teacher.checkpoint is None
    assert config.real.path == Path("a=b")
    assert config.eval.knn_k == 5
    assert load_config(path, ["eval.knn_k=5"]).train.epochs == 7


@pytest.mark.parametrize(
    "override", ["train.epochs", "=3", "name.first=x", "train.epochs=[1", "train.epochs.x=1"]
)
def test_load_config_malformed_override_is_named(tmp_path: Path, override: str) -> None:
    path = write(tmp_path, {"name": "x", "train": {"epochs": 3}})
    assert override.partition("=")[0] in load_error(path, override)


def test_load_config_off_is_a_word_where_a_word_is_wanted(tmp_path: Path) -> None:
    path = write(tmp_path, "name: run\ntrain:\n  resident: off\n  augment:\n    enabled: no\n")
    config = load_config(path, ["hardware.compile=off", "eval.baselines=off"])
    assert (config.train.resident, config.hardware.compile) == ("off", "off")
    assert (config.train.augment.enabled, config.eval.baselines) == (False, False)
    config = load_config(path, ["train.augment.enabled=true", "name=truest"])
    assert config.train.augment.enabled
    assert config.name == "truest"


@pytest.mark.parametrize(("field", "value"), [("device", "cpu"), ("compile", "off")])
def test_load_config_field_that_left_section_ray_is_told_its_new_name(
    tmp_path: Path, field: str, value: str
) -> None:
    told = f"ray.{field}: is now hardware.{field}; write hardware.{field}={value}"
    assert told in load_error(write(tmp_path, {"name": "x", "ray": {field: value}}))
    assert told in load_error(write(tmp_path, {"name": "x"}), f"ray.{field}={value}")


def test_load_config_order_of_classes_makes_no_other_pool(tmp_path: Path) -> None:
    path = write(tmp_path, {"name": "x"})
    configs = [load_config(path, [f"generate.classes={text}"]) for text in ("[3, 1]", "[1, 3]")]
    assert configs[0] == configs[1]


def test_config_is_frozen() -> None:
    config = TrainConfig()
    with pytest.raises(ValidationError):
        config.epochs = 3  # type: ignore[misc]


def test_config_teacher_folder_is_the_checkpoint_else_the_runs_own() -> None:
    config = Config.model_validate({"name": "x", "paths": {"runs": "r"}})
    assert config.teacher_folder == Path("r/x/teacher")
    config = Config.model_validate({"name": "x", "teacher": {"checkpoint": "t"}})
    assert config.teacher_folder == Path("t")


@pytest.mark.parametrize(("batch", "share", "parts"), [(512, 0.5, (256, 256)), (10, 0.3, (3, 7))])
def test_train_config_parts_of_the_batch_add_up(
    batch: int, share: float, parts: tuple[int, int]
) -> None:
    config = TrainConfig(global_batch=batch, synthetic_share=share)
    assert (config.num_synthetic, config.num_real) == parts


@pytest.mark.parametrize("rows", ["vicreg-real", "[vicreg-real]"])
def test_load_config_one_row_of_the_tables_needs_no_brackets(rows: str) -> None:
    config = load_config(Path("configs/digits.yaml"), [f"tables.rows={rows}"])
    assert config.tables.rows == ("vicreg-real",)
