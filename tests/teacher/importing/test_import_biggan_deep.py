"""BigGAN-deep as pytorch-pretrained-BigGAN keeps it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.speed.reference_biggan_deep import divide_deep_by_norms, render_deep_reference
from pipeline.teacher.description import TeacherInfo
from pipeline.teacher.features import pool
from pipeline.teacher.importing.checkpoint import import_teacher
from pipeline.teacher.inspection import inspect_latents
from shards.errors import UserError
from tests.support.biggan_files import DEEP, DEEPS, write_deep
from tests.support.nearness import assert_near, draw

GOLDEN = Path(__file__).parents[2] / "golden"


def imported(folder: Path, **options: Any) -> tuple[Path, TeacherInfo]:
    teacher = folder.parent / f"{folder.name}-teacher"
    return teacher, import_teacher(folder, teacher, **options)


def test_import_golden_deep_generator_computes_what_the_reference_does(tmp_path: Path) -> None:
    import_teacher(GOLDEN / "biggan-hf-tiny", tmp_path / "teacher")
    with np.load(GOLDEN / "biggan-hf-tiny.npz") as arrays:
        expected = dict(arrays)
    z, labels = expected["z"], expected["c"]
    found = inspect_latents(tmp_path / "teacher", z, labels=labels)
    assert_near(found["image"], expected["image_truncation_1"])
    pooled = {key: value for key, value in expected.items() if key.startswith("pooled.")}
    assert len(pooled) == 7
    for key, value in pooled.items():
        assert_near(found[key], value)
    for truncation, key in ((0.705, "image_truncation_0_705"), (0.4, "image_truncation_0_4")):
        rows = len(expected[key])
        truncated = inspect_latents(
            tmp_path / "teacher", z[:rows], labels=labels[:rows], truncation_psi=truncation
        )
        assert_near(truncated["image"], expected[key])


@pytest.mark.parametrize("name", DEEPS)
def test_import_deep_generator_of_any_size_equals_plain_torch(name: str, tmp_path: Path) -> None:
    sizes = DEEPS[name]
    state = divide_deep_by_norms(write_deep(tmp_path / "deep", sizes))
    teacher, info = imported(tmp_path / "deep")
    z, labels = draw(5, sizes.z_dim), torch.eye(sizes.num_classes)[torch.arange(5) % 3]
    for truncation in (1.0, 0.33, 0.2, 0.0):
        image, features = render_deep_reference(state, sizes, z, labels, truncation)
        found = inspect_latents(
            teacher, z.numpy(), labels=labels.numpy(), truncation_psi=truncation
        )
        assert_near(found["image"], image)
        for key, map_ in features.items():
            assert_near(found[f"pooled.{key}"], pool(map_))
    assert list(info.blocks) == list(features)
    assert info.discriminator is None


def test_import_deep_files_with_a_prefix_in_todays_format(tmp_path: Path) -> None:
    write_deep(tmp_path / "deep", DEEP, "biggan-deep-32-", is_zip=True)
    for source in (tmp_path / "deep", tmp_path / "deep" / "biggan-deep-32-pytorch_model.bin"):
        info = import_teacher(source, tmp_path / source.name)
        assert (info.generator.resolution, info.generator.num_classes) == (32, 3)


def test_import_deep_generator_without_a_config_asks_for_it(tmp_path: Path) -> None:
    write_deep(tmp_path / "deep", DEEP)
    (tmp_path / "deep" / "config.json").unlink()
    with pytest.raises(UserError, match=r"no config\.json beside pytorch_model\.bin"):
        imported(tmp_path / "deep")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layers": [[True, 8, 8]]}, "1 layers, the weights 5"),
        ({"layers": "many"}, "expected layers"),
        ({"eps": "small"}, "bn_eps"),
    ],
)
def test_import_deep_generator_with_another_config_is_refused(
    change: dict[str, Any], words: str, tmp_path: Path
) -> None:
    write_deep(tmp_path / "deep", DEEP)
    (tmp_path / "deep" / "config.json").write_text(json.dumps(DEEP.config | change))
    with pytest.raises(UserError, match=words):
        imported(tmp_path / "deep")
