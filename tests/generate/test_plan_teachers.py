"""Planning for teachers of every kind: what is refused, and what makes it another pool."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.config.generate import GenerateConfig
from pipeline.generate.plan import make_plan, make_recipe
from shards.errors import UserError
from shards.storage import Folder
from tests.support.tiny_shards import teacher_info
from tests.support.tiny_teachers import CONFIG, TEACHERS, describe, own_module, pool_key, stylegan2


def test_make_plan_feature_named_twice_is_refused(tmp_path: Path) -> None:
    info = teacher_info()
    with pytest.raises((UserError, ValueError), match=r"twice|duplicate|unique|more than once"):
        make_plan(
            GenerateConfig(features=("synthesis.b8", "w", "synthesis.b8")),
            info,
            Folder.at(tmp_path),
        )


def test_make_recipe_truncation_of_a_teacher_without_a_mapping_is_refused(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"truncation_psi": 0.7})
    for name in ("dcgan", "r3gan", "own"):
        info = describe(TEACHERS[name](), tmp_path / name)
        with pytest.raises(UserError, match=r"generate\.truncation_psi") as raised:
            make_recipe(config, info)
        assert f"this {info.generator.title} has no" in str(raised.value)
    assert make_recipe(config, describe(stylegan2(), tmp_path / "s")).truncation_psi == 0.7


@pytest.mark.parametrize("name", ["dcgan", "r3gan", "own"])
def test_make_plan_latent_of_a_teacher_without_a_mapping_is_refused(
    name: str, tmp_path: Path
) -> None:
    info = describe(TEACHERS[name](), tmp_path)
    config = CONFIG.model_copy(update={"features": (info.blocks[0], "w")})
    with pytest.raises(UserError, match=r"generate\.features: .*no mapped latent") as raised:
        make_plan(config, info, Folder.at(tmp_path / "store"))
    assert f"this {info.generator.title} has no" in str(raised.value)
    assert info.blocks[0] in str(raised.value), "what there is instead"


@pytest.mark.parametrize(
    ("name", "classes", "reason"),
    [("dcgan", (0,), "no classes"), ("conditional", (0, 5), "no class 5.*from 0 to 4")],
)
def test_make_recipe_classes_that_the_teacher_has_not_are_refused(
    name: str, classes: tuple[int, ...], reason: str, tmp_path: Path
) -> None:
    info = describe(TEACHERS[name](), tmp_path)
    with pytest.raises(UserError, match=rf"generate\.classes: .*{reason}"):
        make_recipe(CONFIG.model_copy(update={"classes": classes}), info)


def test_make_recipe_key_changes_with_the_classes(tmp_path: Path) -> None:
    info = describe(TEACHERS["conditional"](), tmp_path)
    chosen: list[tuple[int, ...] | None] = [None, (0,), (1,), (0, 1)]
    assert len({pool_key(info, classes=classes) for classes in chosen}) == 4


def test_make_recipe_precision_too_narrow_for_the_teacher_is_refused(tmp_path: Path) -> None:
    """At planning, before anything is written or a cluster is asked for workers."""
    info = describe(TEACHERS["r3gan"](), tmp_path)
    make_recipe(CONFIG.model_copy(update={"precision": "bfloat16"}), info)
    with pytest.raises(UserError, match=r"generate\.precision: .*choose float32 or bfloat16"):
        make_recipe(CONFIG.model_copy(update={"precision": "float16"}), info)


def test_make_recipe_key_changes_with_precision_and_cutoff_not_with_features(
    tmp_path: Path,
) -> None:
    info = describe(stylegan2(num_half_blocks=2), tmp_path)
    keys = [
        pool_key(info),
        pool_key(info, precision="float16"),
        pool_key(info, precision="bfloat16"),
        pool_key(info, truncation_psi=0.7),
        pool_key(info, truncation_psi=0.7, truncation_cutoff=2),
        pool_key(info, truncation_psi=0.7, truncation_cutoff=3),
    ]
    assert len(set(keys)) == len(keys)
    for features in (info.blocks, ("synthesis.b8",), ("w", "synthesis.b8")):
        assert pool_key(info, features=features) == pool_key(info), "the same images"


def test_make_recipe_key_changes_with_the_source_of_ones_own_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = describe(own_module(), tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    code = tmp_path / "code_of_a_teacher.py"
    code.write_text("def build(): ...\n")
    first = pool_key(info, "code_of_a_teacher:build")
    assert pool_key(info, "code_of_a_teacher:build") == first
    code.write_text("def build(): return 3\n")
    assert pool_key(info, "code_of_a_teacher:build") != first
    code.write_text("def build(): ...\n")
    assert pool_key(info, "code_of_a_teacher:build") == first


@pytest.mark.parametrize("factory", ["nowhere:build", "os.nowhere:build", "sys:build"])
def test_make_recipe_code_that_is_not_there_is_named(factory: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"teacher.factory={factory}.*PYTHONPATH"):
        pool_key(describe(own_module(), tmp_path), factory)
