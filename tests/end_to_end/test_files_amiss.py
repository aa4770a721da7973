"""Files that are missing, damaged, in the way or not to be read are named in one line."""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
from PIL import Image

from pipeline.real.sources import folder
from tests.support.command_line import Cli, assert_mistake
from tests.support.workspace import Workspace


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
