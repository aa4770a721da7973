"""Official pickles with a tensor that does not fit: messages have names and shapes of the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.teacher.importing import source
from pipeline.teacher.importing.checkpoint import import_teacher
from shards.errors import UserError
from tests.support.official_files.cases import Case
from tests.support.official_files.specification import OfficialSpec

SPEC = OfficialSpec(resolution=16, mapping_layers=2)


def module_tensors(content: Any, name: str) -> dict[str, Any]:
    """Of a module of a PyTorch pickle: parameters and buffers, by name."""
    network, *path = name.split(".")
    state = content[network].state
    for part in path:
        state = state["_modules"][part].state
    found: dict[str, Any] = state["_parameters"]
    return found


def replace_variable(content: Any, index: int, name: str, other: str | None) -> None:
    """Give a variable of a TensorFlow pickle the array of another, or take it away."""
    state = content[index].state
    component, _, inner = name.partition("/")
    if component in (state["components"] or {}):
        state, name = state["components"][component].state, inner
        other = other and other.partition("/")[2]
    arrays = dict(state["variables"])
    if other is None:
        del arrays[name]
    else:
        arrays[name] = arrays[other]
    state["variables"] = list(arrays.items())


def refusal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Any], None],
    *,
    is_tensorflow: bool,
    spec: OfficialSpec = SPEC,
) -> str:
    file = tmp_path / "network.pkl"
    Case("misfit", spec).write(file, is_tensorflow=is_tensorflow)
    content = source.read_file(file)
    change(content)
    monkeypatch.setattr(source, "read_file", lambda _: content)
    with pytest.raises(UserError) as raised:
        import_teacher(file, tmp_path / "teacher")
    return str(raised.value).removeprefix(f"{file}: cannot be imported: ")


@pytest.mark.parametrize(
    ("module", "name", "other", "mention"),
    [
        ("G_ema.synthesis.b8.conv0", "bias", "weight", "G_ema.synthesis.b8.conv0.bias is ["),
        ("G_ema.synthesis.b8.conv0", "bias", None, "missing G_ema.synthesis.b8.conv0.bias"),
        ("G_ema.synthesis.b8.conv1", "weight", "bias", "G_ema.synthesis.b8.conv1.weight: expected"),
        ("G_ema.synthesis.b16.torgb", "weight", None, "G_ema.synthesis.b16.torgb.weight is miss"),
        ("D.b8.conv1", "bias", None, "missing D.b8.conv1.bias"),
        ("D.b4.conv", "weight", None, "D.b4.conv.weight is missing"),
    ],
)
def test_import_pytorch_misfit_has_the_names_of_the_file(
    module: str,
    name: str,
    other: str | None,
    mention: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def change(content: Any) -> None:
        tensors = module_tensors(content, module)
        tensors[name] = None if other is None else tensors[other]

    assert mention in refusal(tmp_path, monkeypatch, change, is_tensorflow=False)


@pytest.mark.parametrize(
    ("index", "name", "other", "mention"),
    [
        (2, "synthesis/8x8/Conv0_up/bias", None, "missing synthesis/8x8/Conv0_up/bias"),
        (2, "synthesis/8x8/Conv1/weight", None, "missing synthesis/8x8/Conv1/weight"),
        (2, "synthesis/16x16/ToRGB/weight", None, "synthesis/16x16/ToRGB/weight is missing"),
        (2, "synthesis/4x4/Const/const", None, "synthesis/4x4/Const/const is missing"),
        (2, "dlatent_avg", None, "dlatent_avg is missing"),
        (2, "mapping/Dense1/bias", None, "missing mapping/Dense1/bias"),
        (
            2,
            "synthesis/8x8/Conv1/mod_weight",
            "synthesis/16x16/Conv1/mod_weight",
            "synthesis/8x8/Conv1/mod_weight is [20, 8], expected [20, 16]",
        ),
        (
            2,
            "synthesis/8x8/Conv0_up/weight",
            "synthesis/16x16/Conv0_up/weight",
            "synthesis/8x8/Conv0_up/weight is [3, 3, 16, 8], expected [3, 3, 16, 16]",
        ),
        (
            2,
            "synthesis/noise2",
            "synthesis/noise0",
            "synthesis/noise2 is [1, 1, 4, 4], expected [1, 1, 8, 8]",
        ),
        (2, "synthesis/8x8/Conv1/weight", "synthesis/8x8/Conv1/bias", "Conv1/weight: [16] is no"),
        (1, "8x8/Conv1_down/bias", None, "missing 8x8/Conv1_down/bias"),
        (1, "4x4/Conv/weight", None, "4x4/Conv/weight is missing"),
        (1, "Output/bias", "4x4/Dense0/bias", "Output/bias is [16], expected [1]"),
    ],
)
def test_import_tensorflow_misfit_has_the_names_and_shapes_of_the_file(
    index: int,
    name: str,
    other: str | None,
    mention: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def change(content: Any) -> None:
        replace_variable(content, index, name, other)

    assert mention in refusal(tmp_path, monkeypatch, change, is_tensorflow=True)


def test_import_tensorflow_misfit_of_a_level_of_detail_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = OfficialSpec(
        resolution=16, has_lod_names=True, generator_skips="orig", discriminator_skips="orig"
    )

    def change(content: Any) -> None:
        name, other = "synthesis/ToRGB_lod0/bias", "synthesis/ToRGB_lod0/mod_bias"
        replace_variable(content, 2, name, other)

    said = refusal(tmp_path, monkeypatch, change, is_tensorflow=True, spec=spec)
    assert "synthesis/ToRGB_lod0/bias is [8], expected [3]" in said
