"""BigGANs through the command line: imported, rendered by classes, distilled, measured, audited."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from shards.pool import PoolReader, read_feature_sets
from shards.storage import Folder
from tests.support.command_line import GOLDEN, assert_mistake, succeed
from tests.support.stored_pools import TINY_TRAINING, Site


def import_golden(name: str, folder: Path) -> str:
    """The override that makes the golden checkpoint `name` a run's teacher."""
    succeed("import-teacher", GOLDEN.parent / name, "--out", folder / "biggan")
    return f"teacher.checkpoint={folder / 'biggan'}"


def open_pool(site: Site) -> PoolReader:
    names = [name for name, _ in read_feature_sets(Folder.at(site.pool))]
    return PoolReader(Folder.at(site.pool), names, remedy="")


@pytest.mark.slow
def test_biggan_is_distilled_and_measured_and_its_pool_audited(site: Site, tmp_path: Path) -> None:
    overrides = (
        import_golden("biggan-pytorch-tiny", tmp_path),
        "generate.classes=[5, 2]",
        "generate.features=[blocks.2.1, blocks.3.0.conv1]",
        "train.epochs=1",
        *TINY_TRAINING,
    )
    for stage in ("generate", "train", "eval"):
        site.stage(stage, *overrides)
    texts = open_pool(site).images.gather("meta", np.arange(24))
    assert {json.loads(text)["label"] for text in texts} == {2, 5}
    assert site.verify("--audit", 24).code == 0
    judged = (*overrides, "name=judge", "train.method.name=discriminator")
    for stage in ("real", "train", "eval"):
        site.stage(stage, *judged)
    for name in ("tiny", "judge"):
        rows = json.loads((site.runs / name / "results.json").read_text())
        assert {row["representation"] for row in rows} >= {"student", "raw_pixels"}


@pytest.mark.slow
def test_biggan_deep_of_a_truncation_is_another_pool_of_truncated_latents(
    site: Site, tmp_path: Path
) -> None:
    teacher, latents = import_golden("biggan-hf-tiny", tmp_path), []
    for truncation in (1.0, 0.5):
        site.stage("generate", teacher, f"generate.truncation_psi={truncation}")
        latents.append(open_pool(site).images.gather("w", np.arange(24)))
    assert np.abs(latents[1]).max() <= 1 < np.abs(latents[0]).max()
    assert site.verify("--audit", 10).code == 0


@pytest.mark.slow
def test_mapped_latent_of_a_biggan_is_refused(site: Site, tmp_path: Path) -> None:
    teacher = import_golden("biggan-pytorch-cifar-tiny", tmp_path)
    result = site.try_stage("generate", teacher, "generate.features=[w]")
    assert_mistake(result, "generate.features", "no mapped latent", "blocks.0.0")
    site.stage("generate", teacher)
    for source in ("cached", "online"):
        options = (f"train.source={source}", "train.features=[w]", *TINY_TRAINING)
        result = site.try_stage("train", teacher, *options)
        assert_mistake(result, "train.features", "no mapped latent")


@pytest.mark.parametrize(
    ("override", "mention"),
    [
        ("generate.truncation_psi=0.5", "generate.truncation_psi"),
        ("generate.classes=[10]", "from 0 to 9"),
        ("generate.features=[blocks.3.0]", "blocks.3.0"),
    ],
)
def test_generate_mistake_about_a_biggan_is_one_line_and_leaves_nothing(
    override: str, mention: str, site: Site, tmp_path: Path
) -> None:
    before = sorted((site.store / "teacher").iterdir())
    teacher = import_golden("biggan-pytorch-cifar-tiny", tmp_path)
    assert_mistake(site.try_stage("generate", teacher, override), mention)
    assert sorted((site.store / "teacher").iterdir()) == before
