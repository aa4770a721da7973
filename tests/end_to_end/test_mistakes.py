"""A user's mistake gets one line that names the field or file, exit code 2, and leaves nothing
behind.
"""

from __future__ import annotations

import pytest

from tests.support.command_line import Cli, assert_mistake, run
from tests.support.workspace import Workspace


@pytest.mark.parametrize(
    ("override", "mention"),
    [
        ("train.epoch=3", "train.epoch"),
        ("train.epochs=many", "train.epochs"),
        ("train.epochs=0", "train.epochs"),
        ("train.augment.crop_scale=[0.9, 0.1]", "crop_scale"),
        ("train.global_batch=2", "global_batch"),
        ("real.source=folder", "path"),
        ("real.resolution=7", "resolution"),
        ("train.view_size=7", "view_size"),
        ("nonsense", "section.field=value"),
    ],
)
def test_config_mistake_names_the_field(
    cli: Cli, workspace: Workspace, override: str, mention: str
) -> None:
    assert_mistake(cli("real", override), mention)
    assert not (workspace.folder / "runs").exists()
    assert not (workspace.folder / "store").exists()


@pytest.mark.parametrize(
    ("words", "mention", "command"),
    [
        (["rael", "x.yaml"], "'real'", "--help"),
        (["real"], "'CONFIG'", "real --help"),
        (["real", "x.yaml", "--dryrun"], "--dry-run", "real --help"),
        (["results", "--format", "x"], "'latex'", "results --help"),
        (["neighbours", "x.yaml", "a", "b", "--k", "x"], "must be a valid integer", "neighbours"),
        (["shards", "lst"], "'list'", "shards --help"),
    ],
)
def test_slip_in_the_words_of_a_command_is_one_line_with_its_help(
    words: list[str], mention: str, command: str
) -> None:
    assert_mistake(run(*words), mention, f"`python -m pipeline {command}")


def test_teacher_is_not_trained_on_a_part_of_the_images(cli: Cli) -> None:
    result = cli("teacher", "real.limit=1_per_class", "teacher.checkpoint=null")
    assert_mistake(result, "real.limit", "teacher.checkpoint")


def test_config_that_does_not_exist_is_named(cli: Cli, workspace: Workspace) -> None:
    workspace.config.unlink()
    assert_mistake(cli("real"), "tiny.yaml")


@pytest.mark.slow
def test_stage_before_its_turn_says_which_command_comes_first(
    cli: Cli, workspace: Workspace
) -> None:
    def command(stage: str, *overrides: str) -> str:
        return f"`{' '.join(['python -m pipeline', stage, str(workspace.config), *overrides])}`"

    assert_mistake(cli("train"), command("real"))
    assert cli("real").code == 0
    assert_mistake(cli("train", "train.epochs=1"), command("generate", "train.epochs=1"))
    assert cli("generate").code == 0
    assert_mistake(cli("eval"), command("train"))
    assert_mistake(cli("report"), command("train"))


def test_dry_run_names_commands_with_the_config_that_was_typed(
    cli: Cli, workspace: Workspace
) -> None:
    code, _, errors = cli("run", "name=new", "--dry-run")
    assert code == 0
    assert f"train     waits: {workspace.folder / 'runs' / 'new' / 'real'}" in errors
    assert f"`python -m pipeline real {workspace.config} name=new`" in errors


@pytest.mark.parametrize("command", ["real", "run", "tables", "pool-sweep", "transfer", "export"])
def test_first_line_of_a_command_names_config_and_run(
    cli: Cli, workspace: Workspace, command: str
) -> None:
    options = () if command == "export" else ("--dry-run",)
    errors = cli(command, "name=new", "teacher.checkpoint=teachers/digits", *options).errors
    assert errors.splitlines()[0] == f"config    {workspace.config}, run new"
    over = "configs/methods/vicreg-real.yaml"
    errors = cli(command, over, *options).errors
    assert (
        errors.splitlines()[0] == f"config    {workspace.config} with {over}, run tiny-vicreg-real"
    )


def test_processes_beside_the_first_say_nothing_of_the_config(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    code, _, errors = cli("real", "--dry-run")
    assert (code, errors) == (0, "")


@pytest.mark.slow
def test_train_with_other_settings_in_the_same_run_names_the_difference(cli: Cli) -> None:
    assert cli("real").code == 0
    assert cli("generate").code == 0
    assert cli("train", "train.epochs=1").code == 0
    assert_mistake(cli("train", "train.epochs=2"), "train.epochs=1 (now 2)", "name=")


@pytest.mark.slow
@pytest.mark.parametrize("features", ["[synthesis.b8]", "[synthesis.b16, synthesis.b8]"])
def test_train_on_other_features_of_the_pool_in_the_same_run_names_the_difference(
    cli: Cli, features: str
) -> None:
    """They may be rendered already, in the very shards that were distilled."""
    assert cli("real").code == 0
    assert cli("generate").code == 0
    assert cli("train", "train.epochs=1").code == 0
    others = f"generate.features={features}"
    assert cli("generate", others).code == 0
    assert_mistake(cli("train", "train.epochs=1", others), "features", "synthesis.b4", "name=")


def test_workers_that_do_not_divide_the_batch_are_refused(cli: Cli) -> None:
    assert cli("real").code == 0
    assert cli("generate").code == 0
    assert_mistake(cli("train", "ray.train_workers=3"), "ray.train_workers", "global_batch")


@pytest.mark.slow
def test_report_under_other_settings_than_the_run_is_refused(cli: Cli) -> None:
    for stage in ("real", "generate"):
        assert cli(stage).code == 0
    assert cli("train", "train.epochs=1").code == 0
    assert_mistake(cli("report"), "train.epochs=1 (now 3)")


def test_cluster_that_does_not_answer_is_named(
    cli: Cli, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert_mistake(cli("generate", "ray.render_workers=1"), "RAY_ADDRESS=127.0.0.1:1")
    assert not list((workspace.folder / "store").rglob("*.tar"))


@pytest.mark.parametrize(
    ("override", "mention"),
    [
        ("generate.features=[b4]", "generate.features"),
        ("train.features=[b4]", "train.features: the teacher has no 'b4'; it has synthesis.b4"),
        ("generate.classes=[0]", "generate.classes"),
        ("train.init=nowhere", "train.init=nowhere"),
        ("train.init=torchvision:Nothing", "train.init=torchvision:Nothing"),
        ("train.method.name=nowhere:Method", "train.method.name=nowhere:Method"),
        (
            "train.student={architecture: resnet19}",
            "train.student.architecture: torchvision has no resnet19; did you mean resnet18",
        ),
    ],
)
def test_run_asks_the_teacher_and_the_training_before_anything_is_packed(
    cli: Cli, workspace: Workspace, override: str, mention: str
) -> None:
    assert_mistake(cli("run", override), mention)
    assert not (workspace.folder / "store").exists()
    assert not (workspace.folder / "runs").exists()


def test_run_refuses_features_that_its_pool_would_not_keep(cli: Cli, workspace: Workspace) -> None:
    kept, asked = "generate.features=[synthesis.b4]", "train.features=[w, synthesis.b8]"
    assert_mistake(cli("run", kept, asked), "train.features", "'synthesis.b8'", "generate.features")
    assert not (workspace.folder / "store").exists()
