"""What a config file may say, and how a mistake in it is put."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from pipeline.config.file import load_config
from pipeline.config.method import SqueezeAndSpanConfig
from pipeline.config.root import Config
from pipeline.config.train import TrainConfig
from shards.errors import UserError

SHIPPED = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


def write(folder: Path, content: Any) -> Path:
    path = folder / "run.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def load_error(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as raised:
        load_config(path, overrides)
    message = str(raised.value)
    assert "\n" not in message
    return message


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
