"""DCGANs and rosinality's StyleGAN2 through the command line: imported, rendered, distilled."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.command_line import assert_mistake, succeed
from tests.support.golden_files import GOLDEN
from tests.support.stored_pools import TINY_TRAINING, Site


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("dcgan-parallel-tiny", "[main.2, main.8, main.4]"),
        ("rosinality-train-tiny.pt", "[conv1, convs.4, w]"),
    ],
)
def test_imported_teacher_and_its_discriminator_are_distilled_and_measured(
    name: str, features: str, site: Site, tmp_path: Path
) -> None:
    said = succeed("import-teacher", GOLDEN / name, "--out", tmp_path / "teacher")
    assert "32 px" in said.out + said.errors
    overrides = (f"teacher.checkpoint={tmp_path / 'teacher'}", "train.epochs=1", *TINY_TRAINING)
    for stage in ("generate", "train", "eval"):
        site.stage(stage, *overrides, f"generate.features={features}")
    assert site.verify("--audit", 24).code == 0
    for stage in ("real", "train", "eval"):
        site.stage(stage, *overrides, "name=judge", "train.method.name=discriminator")


def test_dcgan_has_no_w_and_nothing_to_truncate(site: Site, tmp_path: Path) -> None:
    succeed("import-teacher", GOLDEN / "dcgan-parallel-tiny", "--out", tmp_path / "teacher")
    given = f"teacher.checkpoint={tmp_path / 'teacher'}"
    for override in ("generate.features=[w]", "generate.truncation_psi=0.7"):
        assert_mistake(site.try_stage("generate", given, override), override.partition("=")[0])
