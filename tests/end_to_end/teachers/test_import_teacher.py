"""Other people's teachers through the command line: imported and looked at."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.command_line import GOLDEN, assert_mistake, run, succeed


def assert_table(text: str) -> None:
    for name, channels, side in (("b4", 20, 4), ("b8", 20, 8), ("b16", 20, 16), ("b32", 16, 32)):
        rows = [line.split() for line in text.splitlines() if f"synthesis.{name} " in line]
        assert [row[:3] for row in rows] == [[f"synthesis.{name}", str(channels), str(side)]]
    assert "conv0" in text
    assert "24" in text, "width of the latents"


def assert_grid(path: Path) -> None:
    with Image.open(path) as grid:
        grid.load()
        assert grid.format == "PNG"
        assert grid.mode == "RGB"
        assert min(grid.size) > 5 * 32
        assert len(grid.getcolors(1 << 24) or []) > 100


def test_import_teacher_writes_the_teacher_and_shows_it(imported: tuple[Path, str]) -> None:
    folder, said = imported
    assert sorted(path.name for path in folder.iterdir()) == [
        "discriminator.safetensors",
        "generator.safetensors",
        "samples.png",
        "teacher.json",
    ]
    assert_table(said)
    assert_grid(folder / "samples.png")
    assert f"teacher.checkpoint={folder}" in said
    assert GOLDEN.name in said


def test_import_teacher_again_changes_no_weights(imported: tuple[Path, str]) -> None:
    folder, _ = imported
    before = {
        path: path.stat().st_mtime_ns for path in folder.glob("*.[sj]*") if "png" not in path.name
    }
    succeed("import-teacher", GOLDEN, "--out", folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_import_teacher_of_something_else_is_one_line(
    imported: tuple[Path, str], tmp_path: Path
) -> None:
    other = GOLDEN.with_name("stylegan2ada-tf-tiny.pkl")
    assert_mistake(run("import-teacher", other, "--out", imported[0]), "another teacher")
    (tmp_path / "notes.pkl").write_text("no pickle")
    result = run("import-teacher", tmp_path / "notes.pkl", "--out", tmp_path / "teacher")
    assert_mistake(result, tmp_path / "notes.pkl")
    result = run("import-teacher", tmp_path / "nowhere.pkl", "--out", tmp_path / "teacher")
    assert_mistake(result, tmp_path / "nowhere.pkl")
    assert not (tmp_path / "teacher").exists()


def test_import_teacher_out_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    result = run("import-teacher", GOLDEN, "--out", tmp_path / "taken" / "teacher")
    assert_mistake(result, "taken", "write elsewhere with --out …")


def test_inspect_teacher_in_a_folder_that_is_read_only_says_where_else_to_write(
    imported: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:  # root may write what chmod forbids
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "replace", forbidden)
    result = run("inspect-teacher", imported[0])
    assert_mistake(result, imported[0] / "samples.png", "Permission denied", "--out FILE.png")


def test_inspect_teacher_shows_table_and_grid(imported: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = imported
    (folder / "samples.png").unlink()
    code, out, errors = run("inspect-teacher", folder)
    assert code == 0, errors
    assert_table(out + errors)
    assert_grid(folder / "samples.png")
    succeed("inspect-teacher", folder, "--out", tmp_path / "sub" / "grid.png")
    assert (tmp_path / "sub" / "grid.png").read_bytes() == (folder / "samples.png").read_bytes()


def test_inspect_teacher_gives_the_golden_arrays(
    imported: tuple[Path, str], tmp_path: Path
) -> None:
    golden = dict(np.load(GOLDEN.with_suffix(".npz")))
    np.save(tmp_path / "z.npy", golden["z"])
    out = tmp_path / "arrays.npz"
    said = succeed("inspect-teacher", imported[0], "--latents", tmp_path / "z.npy", "--out", out)
    found = dict(np.load(out))
    names = {"image": "image_const_noise"}
    assert found.keys() >= {"z", "ws", "image", "logits", "pooled.synthesis.b32"}
    for name, array in found.items():
        wanted = golden[names.get(name, name)]
        assert array.dtype == np.float32
        assert array.shape == wanted.shape
        # of the largest magnitude: float32 sums in another order than the reference's
        assert np.abs(array - wanted).max() <= 1e-4 * np.abs(wanted).max(), name
    assert all(name in said.out + said.errors for name in found)


def test_inspect_teacher_options_reach_the_computation(
    imported: tuple[Path, str], tmp_path: Path
) -> None:
    golden = dict(np.load(GOLDEN.with_suffix(".npz")))
    np.save(tmp_path / "z.npy", golden["z"])
    given = ("inspect-teacher", imported[0], "--latents", tmp_path / "z.npy", "--out")
    for options, name, wanted in (
        (("--noise", "none"), "image", "image_no_noise"),
        (("--truncation-psi", 0.7), "ws", "ws_truncated_psi_0_7"),
    ):
        succeed(*given, tmp_path / "a.npz", *options)
        found = np.load(tmp_path / "a.npz")[name]
        np.testing.assert_allclose(found, golden[wanted], atol=1e-4 * np.abs(golden[wanted]).max())
    images = []
    for seed in (0, 0, 1):
        succeed(*given, tmp_path / "a.npz", "--noise", "random", "--seed", seed)
        images.append(np.load(tmp_path / "a.npz")["image"])
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()


@pytest.mark.parametrize("option", [("--truncation-psi", "0.5"), ("--noise", "none")])
def test_inspect_teacher_option_without_latents_is_not_ignored(
    option: tuple[str, str], imported: tuple[Path, str], tmp_path: Path
) -> None:
    """Either the grid follows it, or the command says that it cannot."""
    plain, changed = tmp_path / "plain.png", tmp_path / "changed.png"
    succeed("inspect-teacher", imported[0], "--out", plain)
    result = run("inspect-teacher", imported[0], "--out", changed, *option)
    if result[0] == 0:
        assert changed.read_bytes() != plain.read_bytes()
    else:
        assert_mistake(result, option[0])


def bad_latents(kind: str, path: Path) -> None:
    if kind == "wrong-width":
        np.save(path, np.zeros((4, 25), np.float32))
    elif kind == "one-dimension":
        np.save(path, np.zeros(24, np.float32))
    elif kind == "text":
        np.save(path, np.array([["a"] * 24]))
    elif kind == "complex":
        np.save(path, np.zeros((4, 24), np.complex64))
    elif kind == "none-at-all":
        np.save(path, np.zeros((0, 24), np.float32))
    elif kind == "objects":
        np.save(path, np.array([{"a": 1}, [2]], dtype=object), allow_pickle=True)
    elif kind == "several-arrays":
        with path.open("wb") as file:
            np.savez(file, a=np.zeros((4, 24)), b=np.zeros((4, 24)))
    elif kind == "truncated":
        np.save(path, np.zeros((4, 24), np.float32))
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()


@pytest.mark.parametrize(
    "kind",
    [
        "wrong-width",
        "one-dimension",
        "text",
        "complex",
        "none-at-all",
        "objects",
        "several-arrays",
        "truncated",
        "empty",
        "folder",
        "missing",
    ],
)
def test_inspect_teacher_bad_latents_are_one_line_and_nothing_written(
    kind: str, imported: tuple[Path, str], tmp_path: Path
) -> None:
    latents, out = tmp_path / "z.npy", tmp_path / "out.npz"
    bad_latents(kind, latents)
    result = run("inspect-teacher", imported[0], "--latents", latents, "--out", out)
    assert_mistake(result, *([latents] if kind == "objects" else []))
    assert not out.exists()


def test_inspect_teacher_labels_for_a_teacher_without_classes_are_one_line(
    imported: tuple[Path, str], tmp_path: Path
) -> None:
    np.save(tmp_path / "z.npy", np.zeros((4, 24), np.float32))
    np.save(tmp_path / "labels.npy", np.zeros(4, np.int64))
    given = ("inspect-teacher", imported[0], "--labels", tmp_path / "labels.npy")
    out = tmp_path / "out.npz"
    result = run(*given, "--latents", tmp_path / "z.npy", "--out", out)
    assert_mistake(result, "--labels", "no classes")
    assert_mistake(run(*given), "--labels", "--latents")
    assert not out.exists()


def test_inspect_teacher_other_mistakes_are_one_line(
    imported: tuple[Path, str], tmp_path: Path
) -> None:
    folder, latents = imported[0], tmp_path / "z.npy"
    np.save(latents, np.zeros((4, 24), np.float32))
    (tmp_path / "taken").write_text("a file")
    assert_mistake(run("inspect-teacher", folder, "--latents", latents), "--out")
    assert_mistake(run("inspect-teacher", tmp_path / "nowhere"), tmp_path / "nowhere")
    for unwritable in (tmp_path / "taken" / "out.npz", tmp_path):
        result = run("inspect-teacher", folder, "--latents", latents, "--out", unwritable)
        assert_mistake(result, tmp_path.name)
