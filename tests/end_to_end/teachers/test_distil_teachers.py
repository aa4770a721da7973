"""Other people's teachers and one's own code through the command line: rendered and distilled."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline.config.ray import RayConfig
from pipeline.teacher.checkpoint import save_teacher
from pipeline.teacher.networks.module import wrap_module
from shards.pool import PoolReader, read_feature_sets
from shards.storage import Folder
from tests.support import own_generator
from tests.support.command_line import assert_mistake, run, succeed
from tests.support.ray_session import own_session
from tests.support.workspace import Workspace, tars

FACTORY = "own_package.generators:build"


@pytest.fixture
def golden_run(imported: tuple[Path, str], tmp_path: Path) -> Workspace:
    config = {
        "name": "tiny",
        "paths": {"store": str(tmp_path / "store"), "runs": str(tmp_path / "runs")},
        "ray": {"render_workers": 0},
        "hardware": {"device": "cpu"},
        "real": {"source": "digits", "resolution": 32, "samples_per_shard": 500},
        "teacher": {"checkpoint": str(imported[0])},
        "generate": {
            "num_samples": 60,
            "samples_per_shard": 20,
            "render_batch": 20,
            "features": ["synthesis.b8", "synthesis.b16.conv0", "w"],
        },
        "train": {
            "epochs": 1,
            "global_batch": 256,
            "features": ["w"],
            "student": {"width": 4, "embedding_dim": 16},
            "augment": {"flip_p": 0},
        },
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return Workspace(tmp_path, path)


@pytest.mark.slow
def test_imported_teacher_is_distilled_from_chosen_features(golden_run: Workspace) -> None:
    succeed("real", golden_run.config)
    for stage in ("generate", "train"):
        assert "finished" in succeed(stage, golden_run.config).errors
    (folder,) = (golden_run.folder / "store" / "teacher").iterdir()
    names = [name for name, _ in read_feature_sets(Folder.at(folder))]
    pool = PoolReader(folder, names, remedy="render", num_samples=60)
    (features,) = pool.feature_sets
    assert [(block.name, block.num_channels) for block in features.schema.features] == [
        ("synthesis.b8", 20),
        ("synthesis.b16.conv0", 20),
        ("w", 24),
    ]
    rows = np.arange(60)
    latents = pool.images.gather("w", rows)
    np.testing.assert_array_equal(features.gather("features", rows)[:, 40:], latents)
    assert (golden_run.folder / "runs" / "tiny" / "train" / "student.safetensors").exists()


@pytest.mark.parametrize(
    ("override", "mention"),
    [
        ("generate.features=[synthesis.b64]", "synthesis.b64"),
        ("generate.features=synthesis.b8", "generate.features"),
        ("generate.features=[]", "generate.features"),
        ("generate.features=[w, w]", "generate.features"),
        ("generate.features=[3]", "generate.features"),
        ("generate.precision=half", "generate.precision"),
        ("generate.truncation_cutoff=-1", "generate.truncation_cutoff"),
        (f"teacher.factory={FACTORY}", "teacher.factory"),
        ("teacher.factory=nonsense", "teacher.factory"),
    ],
)
def test_generate_mistake_about_an_imported_teacher_is_one_line_and_leaves_nothing(
    override: str, mention: str, golden_run: Workspace
) -> None:
    assert_mistake(run("generate", golden_run.config, override), mention)
    assert not (golden_run.folder / "store").exists()


@pytest.mark.slow
def test_train_on_a_feature_that_the_pool_has_not_is_one_line(golden_run: Workspace) -> None:
    for stage in ("real", "generate"):
        succeed(stage, golden_run.config)
    result = run("train", golden_run.config, "train.features=[w, synthesis.b4]")
    assert_mistake(result, "train.features", "'synthesis.b4'", "synthesis.b16.conv0")
    assert not (golden_run.folder / "runs" / "tiny" / "train" / "student.safetensors").exists()
    succeed("train", golden_run.config)  # the mistake can be mended in the same run


@pytest.fixture
def own_run(workspace: Workspace) -> Iterator[Workspace]:
    """A run on a teacher of one's own code, which lies in `code/`."""
    folder = workspace.folder / "code" / "own_package"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    shutil.copy(own_generator.__file__, folder / "generators.py")
    module = own_generator.build_random(width=5)
    blocks, arguments = ["first", "second"], {"width": 5}
    wrapped = wrap_module(module, z_dim=6, blocks=blocks, arguments=arguments)
    save_teacher(workspace.folder / "own", wrapped)
    config = yaml.safe_load(workspace.config.read_text())
    config["teacher"] = {"checkpoint": str(workspace.folder / "own"), "factory": FACTORY}
    config["generate"]["features"] = ["second", "first.conv"]
    workspace.config.write_text(yaml.safe_dump(config))
    yield workspace
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_package"]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.ray
def test_generate_from_ones_own_code_gives_the_same_bytes_on_ray(
    own_run: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renderer is another process, which has to find the code by itself."""
    code, stores = own_run.folder / "code", [own_run.folder / name for name in ("here", "ray")]
    monkeypatch.syspath_prepend(code)
    monkeypatch.setenv("PYTHONPATH", str(code))
    with own_session(RayConfig(render_workers=1)):
        succeed("generate", own_run.config, "ray.render_workers=1", f"paths.store={stores[1]}")
    succeed("generate", own_run.config, f"paths.store={stores[0]}")
    here, on_ray = map(tars, stores)
    assert len(here) == 2 * 3, "images and features"
    assert here == on_ray


def test_generate_from_ones_own_code_that_cannot_be_imported_is_one_line(
    own_run: Workspace,
) -> None:
    result = run("generate", own_run.config)
    assert_mistake(result, f"teacher.factory={FACTORY}", "PYTHONPATH")
    assert not (own_run.folder / "store").exists()


@pytest.mark.parametrize(
    ("override", "mention"),
    [
        ("teacher.factory=null", "teacher.factory"),
        ("generate.truncation_psi=0.5", "generate.truncation_psi"),
        ("generate.features=[third]", "third"),
        ("generate.features=[second, w]", "no mapped latent"),
        ("generate.classes=[0]", "generate.classes"),
    ],
)
def test_generate_mistake_about_ones_own_code_is_one_line_and_leaves_nothing(
    override: str,
    mention: str,
    own_run: Workspace,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(own_run.folder / "code")
    assert_mistake(run("generate", own_run.config, override), mention)
    assert not (own_run.folder / "store").exists()
    succeed("generate", own_run.config)


@pytest.mark.parametrize("name", ["nowhere", "build_nothing", "build_with_a_condition"])
def test_generate_from_ones_own_code_that_makes_no_module_is_one_line(
    name: str, own_run: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(own_run.folder / "code")
    factory = f"teacher.factory=own_package.generators:{name}"
    assert_mistake(run("generate", own_run.config, factory), factory)
    assert not tars(own_run.folder / "store")


def test_inspect_teacher_of_ones_own_code_takes_the_factory(
    own_run: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(own_run.folder / "code")
    folder = own_run.folder / "own"
    code, out, errors = run("inspect-teacher", folder, "--factory", FACTORY)
    assert code == 0, errors
    assert "first" in out + errors
    assert_mistake(run("inspect-teacher", folder), "factory")
