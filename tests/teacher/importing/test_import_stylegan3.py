"""StyleGAN3 and StyleGAN-XL: the reference's numbers, and other files of the same kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.teacher.architectures.stylegan3 import StyleGAN3Architecture
from pipeline.teacher.checkpoint import load_generator
from pipeline.teacher.features import captured
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from tests.support.golden_networks import GOLDEN, assert_golden, read_golden

NAMES = ["stylegan3-t-tiny", "stylegan3-r-tiny", "styleganxl-cond-tiny"]
MARGIN = 10


@pytest.mark.parametrize("name", NAMES)
def test_import_stylegan3_golden_file_gives_the_stored_arrays(name: str, tmp_path: Path) -> None:
    info = import_teacher(GOLDEN / f"{name}.pkl", tmp_path)
    assert (info.origin["weights"], info.origin["is_averaged"]) == ("G_ema", True)
    wanted = read_golden(name)
    labels = wanted.pop("c", None)
    found = inspect_latents(tmp_path, wanted["z"], labels=labels)
    truncated = inspect_latents(tmp_path, wanted["z"], labels=labels, truncation_psi=0.7)
    found |= {f"{key}_truncated_psi_0_7": truncated[key] for key in ("ws", "image")}
    wanted = {key: array for key, array in wanted.items() if not key.startswith("pooled_no_margin")}
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        assert_golden(found[key], array, key)


@pytest.mark.parametrize("name", NAMES)
def test_import_stylegan3_golden_maps_without_their_margins_have_the_stored_means(
    name: str, tmp_path: Path
) -> None:
    import_teacher(GOLDEN / f"{name}.pkl", tmp_path)
    generator = load_generator(tmp_path)
    arrays = read_golden(name)
    labels = torch.from_numpy(arrays["c"]) if "c" in arrays else None
    start = "pooled_no_margin."
    wanted = {
        key.removeprefix(start): value for key, value in arrays.items() if key.startswith(start)
    }
    with captured(generator, list(wanted)) as found:
        generator(torch.from_numpy(arrays["z"]), labels=labels)
    for key, array in wanted.items():
        inner = found[key][:, :, MARGIN:-MARGIN, MARGIN:-MARGIN]
        assert_golden(inner.mean((2, 3)).numpy(), array, key)


def test_import_stylegan3_says_what_it_found(tmp_path: Path) -> None:
    info = import_teacher(GOLDEN / "styleganxl-cond-tiny.pkl", tmp_path)
    arch = info.generator
    assert isinstance(arch, StyleGAN3Architecture)
    assert (arch.resolution, arch.num_classes, arch.class_width) == (16, 6, 10)
    assert info.origin["layout"] == "StyleGAN-XL stem"
    assert info.origin["notes"] == [
        "its discriminator judges features of other networks, and is left out"
    ]
    assert info.discriminator is None
