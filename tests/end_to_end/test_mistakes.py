"""A user's mistake gets one line that names the field or file, exit code 2, and leaves nothing
behind.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image

from pipeline.real.sources import folder
from tests.support.command_line import Result, assert_mistake, run
from tests.support.workspace import Workspace

Cli = Callable[..., Result]


@pytest.fixture
def cli(workspace: Workspace) -> Cli:
    """A command on the config of `workspace`."""

    def call(command: str, *words: object) -> Result:
        return run(command, workspace.config, *words)

    return call


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


def test_teacher_that_is_missing_is_named(cli: Cli) -> None:
    assert_mistake(cli("generate", "teacher.checkpoint=nowhere"), "nowhere", "teacher.checkpoint")


def test_teacher_that_is_a_checkpoint_file_gets_the_command_that_imports_it(
    cli: Cli, workspace: Workspace
) -> None:
    file = workspace.folder / "gan.pth"
    file.write_bytes(b"weights")
    command = f"python -m pipeline import-teacher {file} --out teachers/gan"
    assert_mistake(cli("generate", f"teacher.checkpoint={file}"), command)


def test_teacher_that_is_damaged_is_named(cli: Cli, workspace: Workspace) -> None:
    path = workspace.folder / "teacher" / "generator.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert_mistake(cli("generate"), "generator.safetensors")
    assert not (workspace.folder / "store").exists()


def test_output_that_cannot_be_written_is_named(cli: Cli, workspace: Workspace) -> None:
    (workspace.folder / "taken").write_text("a file where a folder should be")
    assert_mistake(cli("real", f"paths.store={workspace.folder / 'taken'}"), "taken")
    assert_mistake(cli("generate", f"paths.store={workspace.folder / 'taken'}"), "taken")


def test_output_that_cannot_be_written_gets_the_option_that_chose_its_place(
    cli: Cli, workspace: Workspace
) -> None:
    taken = workspace.folder / "taken"
    taken.write_text("a file where a folder should be")
    for field, other in (("paths.store", "paths.runs"), ("paths.runs", "paths.store")):
        result = cli("real", f"{field}={taken}")
        assert_mistake(result, "taken", f"{field}=…")
        assert other not in result.errors
    assert "paths." not in cli("results", "--out", taken / "table.md").errors


def test_images_that_may_not_be_read_are_named_without_a_place_to_write(
    cli: Cli, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = workspace.folder / "images" / "train"
    images.mkdir(parents=True)
    scan = os.scandir

    def forbidden(path: Any) -> Any:  # root may read what chmod forbids
        if path == str(images):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    result = cli("real", "real.source=folder", f"real.path={images.parent}")
    assert_mistake(result, f"{images}: Permission denied; check its permissions")
    assert "paths." not in result.errors


def test_image_that_may_not_be_read_is_not_called_damaged(
    cli: Cli, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = workspace.folder / "images" / "train" / "0.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(image)

    def forbidden(path: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(folder, "read_file", forbidden)
    result = cli("real", "real.source=folder", f"real.path={workspace.folder / 'images'}")
    assert_mistake(result, f"{image} (Permission denied; check its permissions)")
    assert "decoded" not in result.errors


@pytest.mark.parametrize("shards", ["images", "features-*"])
@pytest.mark.parametrize("damage", ["truncated", "altered", "missing"])
def test_train_on_a_damaged_shard_names_it(
    cli: Cli, workspace: Workspace, damage: str, shards: str
) -> None:
    assert cli("real").code == 0
    assert cli("generate").code == 0
    pools = workspace.folder / "store" / "teacher"
    (shard,) = pools.glob(f"*/{shards}/shard-000001.tar")
    content = bytearray(shard.read_bytes())
    if damage == "truncated":
        shard.write_bytes(content[: len(content) // 2])
    elif damage == "altered":
        content[5000] ^= 255
        shard.write_bytes(content)
    else:
        shard.unlink()
    assert_mistake(cli("train"), str(shard), "python -m pipeline generate")
    assert not (workspace.folder / "runs" / "tiny" / "train" / "student.safetensors").exists()


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


@pytest.mark.slow
def test_images_without_labels_are_evaluated_and_the_page_says_what_labels_would_add(
    cli: Cli, workspace: Workspace
) -> None:
    folder = workspace.folder / "images" / "train"
    folder.mkdir(parents=True)
    for index in range(8):
        Image.new("RGB", (16, 16), (index, 0, 0)).save(folder / f"{index}.png")
    flat = ("real.source=folder", f"real.path={workspace.folder / 'images'}", "train.epochs=1")
    code, _, errors = cli("run", *flat)
    assert code == 0, "training without labels is a whole run"
    assert "eval.sets.NAME" in errors
    page = (workspace.folder / "runs" / "tiny" / "report.html").read_text()
    assert "eval.sets.NAME" in page
    assert "uniformity" in page


@pytest.mark.slow
def test_results_that_are_damaged_are_made_again(cli: Cli, workspace: Workspace) -> None:
    settings = ("train.epochs=1", "eval.probes=[knn]")
    for stage in ("real", "generate", "train", "eval"):
        assert cli(stage, *settings).code == 0
    path = workspace.folder / "runs" / "tiny" / "results.json"
    results = path.read_bytes()
    path.write_bytes(results[:100])
    (part,) = (workspace.folder / "runs" / "results.parquet").glob("*.parquet")
    numbers = part.read_bytes()
    part.write_bytes(numbers[:100])
    assert_mistake(cli("report", *settings), "results.parquet", "damaged")
    part.unlink()
    assert_mistake(cli("report", *settings), "results.parquet", "python -m pipeline eval")
    assert cli("eval", *settings).code == 0
    assert path.read_bytes() == results


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
