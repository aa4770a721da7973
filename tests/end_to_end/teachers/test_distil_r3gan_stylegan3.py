"""R3GAN and StyleGAN3 through the command line: imported, rendered, distilled, measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command_line import assert_mistake, succeed
from tests.support.golden_networks import GOLDEN
from tests.support.stored_pools import TINY_TRAINING, Site


def import_golden(name: str, folder: Path) -> str:
    """The override that makes the golden checkpoint `name` a run's teacher."""
    succeed("import-teacher", GOLDEN / f"{name}.pkl", "--out", folder / name)
    return f"teacher.checkpoint={folder / name}"


def read_representations(site: Site, name: str) -> set[str]:
    rows = json.loads((site.runs / name / "results.json").read_text())
    return {row["representation"] for row in rows}


@pytest.mark.slow
def test_r3gan_is_distilled_and_measured_and_so_is_its_discriminator(
    site: Site, tmp_path: Path
) -> None:
    overrides = (import_golden("r3gan-tiny", tmp_path), "train.epochs=1", *TINY_TRAINING)
    features = "generate.features=[Model.MainLayers.1, Model.MainLayers.3.Layers.1]"
    for stage in ("generate", "train", "eval"):
        site.stage(stage, *overrides, features)
    assert site.verify("--audit", 24).code == 0
    assert read_representations(site, "tiny") >= {"student"}
    for level in ("multi", "single"):
        judged = ("train.method.name=discriminator", f"train.method.level={level}")
        for stage in ("real", "train", "eval"):
            site.stage(stage, *overrides, f"name={level}", *judged)
        assert read_representations(site, level) >= {"student"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["stylegan3-r-tiny", "styleganxl-cond-tiny"])
def test_stylegan3_is_distilled_truncated_and_measured(
    name: str, site: Site, tmp_path: Path
) -> None:
    overrides = (
        import_golden(name, tmp_path),
        "generate.features=[synthesis.L3_36_14, w]"
        if "xl" in name
        else "generate.features=[synthesis.L9_52_20, synthesis.input, w]",
        "generate.truncation_psi=0.8",
        "train.epochs=1",
        *TINY_TRAINING,
    )
    for stage in ("generate", "train", "eval"):
        site.stage(stage, *overrides)
    assert read_representations(site, "tiny") >= {"student"}
    assert site.verify("--audit", 24).code == 0


@pytest.mark.parametrize(
    ("override", "mention"),
    [
        ("generate.truncation_psi=0.5", "generate.truncation_psi"),
        ("generate.features=[Model.MainLayers.0, w]", "generate.features"),
        ("generate.precision=float16", "generate.precision"),
        ("generate.classes=[0]", "generate.classes"),
    ],
)
def test_generate_mistake_about_an_r3gan_is_one_line_and_leaves_nothing(
    override: str, mention: str, site: Site, tmp_path: Path
) -> None:
    before = sorted((site.store / "teacher").iterdir())
    teacher = import_golden("r3gan-tiny", tmp_path)
    assert_mistake(site.try_stage("generate", teacher, override), mention)
    assert sorted((site.store / "teacher").iterdir()) == before
