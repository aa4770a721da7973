"""Other people's teachers through the command line: imported, looked at, distilled."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from pipeline.__main__ import main
from pipeline.teacher.checkpoint import save_teacher
from pipeline.teacher.module import wrap_module
from shards.reader import ShardReader
from tests import own_generator
from tests.workspace import ROOT, Workspace, environment, make_teacher

GOLDEN = ROOT / "tests" / "golden" / "stylegan2ada-cifar-tiny.pkl"
FACTORY = "own_package.generators:build"
Cli = Callable[..., tuple[int, str, str]]


def pipeline(*arguments: object, code: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`python -m pipeline …` in a process of its own; `code` is put on its PYTHONPATH."""
    path = {} if code is None else {"PYTHONPATH": str(code)}
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *map(str, arguments)],
        cwd=ROOT,
        env=environment() | path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The golden checkpoint as a teacher, and what the command said; read only."""
    folder = tmp_path_factory.mktemp("imported") / "teacher"
    done = pipeline("import-teacher", GOLDEN, "--out", folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout + done.stderr


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """The command line in this process; returns (exit code, standard output, standard error)."""
    monkeypatch.setenv("COLUMNS", "1000")
    for name in ("RAY_ADDRESS", "RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pipeline", *map(str, arguments)])
        capsys.readouterr()
        code = main()
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


def assert_mistake(result: tuple[int, str, str], *mentions: object) -> None:
    """Exit code 2 and one line that says why."""
    code, _, errors = result
    assert code == 2, errors
    lines = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, errors
    assert errors.rstrip().endswith(lines[0].rstrip())
    assert "Traceback" not in errors
    for mention in mentions:
        assert str(mention) in lines[0]


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


def test_import_teacher_again_changes_no_weights(imported: tuple[Path, str], cli: Cli) -> None:
    folder, _ = imported
    before = {
        path: path.stat().st_mtime_ns for path in folder.glob("*.[sj]*") if "png" not in path.name
    }
    assert cli("import-teacher", GOLDEN, "--out", folder)[0] == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_import_teacher_of_something_else_is_one_line(
    imported: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    other = GOLDEN.with_name("stylegan2ada-tf-tiny.pkl")
    assert_mistake(cli("import-teacher", other, "--out", imported[0]), "another teacher")
    (tmp_path / "notes.pkl").write_text("no pickle")
    result = cli("import-teacher", tmp_path / "notes.pkl", "--out", tmp_path / "teacher")
    assert_mistake(result, tmp_path / "notes.pkl")
    result = cli("import-teacher", tmp_path / "nowhere.pkl", "--out", tmp_path / "teacher")
    assert_mistake(result, tmp_path / "nowhere.pkl")
    assert not (tmp_path / "teacher").exists()


def test_import_teacher_out_that_cannot_be_written_is_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    result = cli("import-teacher", GOLDEN, "--out", tmp_path / "taken" / "teacher")
    assert_mistake(result, "taken")


def test_inspect_teacher_shows_table_and_grid(
    imported: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    folder, _ = imported
    (folder / "samples.png").unlink()
    code, out, errors = cli("inspect-teacher", folder)
    assert code == 0, errors
    assert_table(out + errors)
    assert_grid(folder / "samples.png")
    assert cli("inspect-teacher", folder, "--out", tmp_path / "sub" / "grid.png")[0] == 0
    assert (tmp_path / "sub" / "grid.png").read_bytes() == (folder / "samples.png").read_bytes()


def test_inspect_teacher_in_a_process_of_its_own_gives_the_golden_arrays(
    imported: tuple[Path, str], tmp_path: Path
) -> None:
    golden = dict(np.load(GOLDEN.with_suffix(".npz")))
    np.save(tmp_path / "z.npy", golden["z"])
    out = tmp_path / "arrays.npz"
    done = pipeline("inspect-teacher", imported[0], "--latents", tmp_path / "z.npy", "--out", out)
    assert done.returncode == 0, done.stderr
    found = dict(np.load(out))
    names = {"image": "image_const_noise"}
    assert found.keys() >= {"z", "ws", "image", "logits", "pooled.synthesis.b32"}
    for name, array in found.items():
        wanted = golden[names.get(name, name)]
        assert array.dtype == np.float32
        assert array.shape == wanted.shape
        # of the largest magnitude: float32 sums in another order than the reference's
        assert np.abs(array - wanted).max() <= 1e-4 * np.abs(wanted).max(), name
    assert all(name in done.stdout + done.stderr for name in found)


def test_inspect_teacher_options_reach_the_computation(
    imported: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    golden = dict(np.load(GOLDEN.with_suffix(".npz")))
    np.save(tmp_path / "z.npy", golden["z"])
    given = ("inspect-teacher", imported[0], "--latents", tmp_path / "z.npy", "--out")
    for options, name, wanted in (
        (("--noise", "none"), "image", "image_no_noise"),
        (("--truncation-psi", 0.7), "ws", "ws_truncated_psi_0_7"),
    ):
        assert cli(*given, tmp_path / "a.npz", *options)[0] == 0
        found = np.load(tmp_path / "a.npz")[name]
        np.testing.assert_allclose(found, golden[wanted], atol=1e-4 * np.abs(golden[wanted]).max())
    images = []
    for seed in (0, 0, 1):
        assert cli(*given, tmp_path / "a.npz", "--noise", "random", "--seed", seed)[0] == 0
        images.append(np.load(tmp_path / "a.npz")["image"])
    np.testing.assert_array_equal(images[0], images[1])
    assert (images[0] != images[2]).any()


@pytest.mark.parametrize("option", [("--truncation-psi", "0.5"), ("--noise", "none")])
def test_inspect_teacher_option_without_latents_is_not_ignored(
    option: tuple[str, str], imported: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    """Either the grid follows it, or the command says that it cannot."""
    plain, changed = tmp_path / "plain.png", tmp_path / "changed.png"
    assert cli("inspect-teacher", imported[0], "--out", plain)[0] == 0
    result = cli("inspect-teacher", imported[0], "--out", changed, *option)
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
    kind: str, imported: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    latents, out = tmp_path / "z.npy", tmp_path / "out.npz"
    bad_latents(kind, latents)
    assert_mistake(cli("inspect-teacher", imported[0], "--latents", latents, "--out", out))
    assert not out.exists()


def test_inspect_teacher_pickled_latents_in_a_process_of_its_own_are_one_line(
    imported: tuple[Path, str], tmp_path: Path
) -> None:
    latents, out = tmp_path / "z.npy", tmp_path / "out.npz"
    bad_latents("objects", latents)
    done = pipeline("inspect-teacher", imported[0], "--latents", latents, "--out", out)
    assert_mistake((done.returncode, done.stdout, done.stderr), latents)


def test_inspect_teacher_labels_for_a_teacher_without_classes_are_one_line(
    imported: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    np.save(tmp_path / "z.npy", np.zeros((4, 24), np.float32))
    np.save(tmp_path / "labels.npy", np.zeros(4, np.int64))
    given = ("inspect-teacher", imported[0], "--labels", tmp_path / "labels.npy")
    out = tmp_path / "out.npz"
    result = cli(*given, "--latents", tmp_path / "z.npy", "--out", out)
    assert_mistake(result, "--labels", "no classes")
    assert_mistake(cli(*given), "--labels", "--latents")
    assert not out.exists()


def test_inspect_teacher_other_mistakes_are_one_line(
    imported: tuple[Path, str], cli: Cli, tmp_path: Path
) -> None:
    folder, latents = imported[0], tmp_path / "z.npy"
    np.save(latents, np.zeros((4, 24), np.float32))
    (tmp_path / "taken").write_text("a file")
    assert_mistake(cli("inspect-teacher", folder, "--latents", latents), "--out")
    assert_mistake(cli("inspect-teacher", tmp_path / "nowhere"), tmp_path / "nowhere")
    for unwritable in (tmp_path / "taken" / "out.npz", tmp_path):
        result = cli("inspect-teacher", folder, "--latents", latents, "--out", unwritable)
        assert_mistake(result, tmp_path.name)


@pytest.fixture
def golden_run(imported: tuple[Path, str], tmp_path: Path) -> Workspace:
    config = {
        "name": "tiny",
        "paths": {"store": str(tmp_path / "store"), "runs": str(tmp_path / "runs")},
        "ray": {"render_workers": 0, "device": "cpu"},
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
def test_imported_teacher_is_distilled_from_chosen_features(
    golden_run: Workspace, cli: Cli
) -> None:
    assert cli("real", golden_run.config)[0] == 0
    for stage in ("generate", "train"):
        assert "finished" in golden_run.succeed(stage)
    (manifest,) = (golden_run.folder / "store" / "teacher").rglob("manifest.parquet")
    pool = ShardReader(manifest.parent, remedy="render", num_samples=60)
    assert [(block.name, block.num_channels) for block in pool.schema.features] == [
        ("synthesis.b8", 20),
        ("synthesis.b16.conv0", 20),
        ("w", 24),
    ]
    rows = np.arange(60)
    np.testing.assert_array_equal(pool.gather("features", rows)[:, 40:], pool.gather("w", rows))
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
        ("real.resolution=64", "real.resolution"),
    ],
)
def test_generate_mistake_about_an_imported_teacher_is_one_line_and_leaves_nothing(
    override: str, mention: str, golden_run: Workspace, cli: Cli
) -> None:
    assert_mistake(cli("generate", golden_run.config, override), mention)
    assert not (golden_run.folder / "store").exists()


def test_generate_half_precision_of_a_teacher_without_it_leaves_nothing(
    golden_run: Workspace, cli: Cli
) -> None:
    make_teacher(golden_run.folder / "plain", resolution=32)
    overrides = (
        f"teacher.checkpoint={golden_run.folder / 'plain'}",
        "generate.features=blocks",
        "generate.precision=float16",
    )
    assert_mistake(cli("generate", golden_run.config, *overrides), "generate.precision")
    assert not (golden_run.folder / "store").exists()


def test_train_on_a_feature_that_the_pool_has_not_is_one_line(
    golden_run: Workspace, cli: Cli
) -> None:
    for stage in ("real", "generate"):
        assert cli(stage, golden_run.config)[0] == 0
    result = cli("train", golden_run.config, "train.features=[w, synthesis.b4]")
    assert_mistake(result, "train.features", "'synthesis.b4'", "synthesis.b16.conv0")
    assert not (golden_run.folder / "runs" / "tiny" / "train" / "student.safetensors").exists()
    assert cli("train", golden_run.config)[0] == 0, "the mistake can be mended in the same run"


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
    config["generate"]["features"] = ["second", "first.conv", "w"]
    workspace.config.write_text(yaml.safe_dump(config))
    yield workspace
    for name in [name for name in sys.modules if name.partition(".")[0] == "own_package"]:
        del sys.modules[name]


def tars(store: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.rglob("shard-*.tar")}


@pytest.mark.slow
@pytest.mark.ray
def test_generate_from_ones_own_code_gives_the_same_bytes_on_ray(
    own_run: Workspace, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A renderer is another process, which has to find the code by itself."""
    code, stores = own_run.folder / "code", [own_run.folder / name for name in ("here", "ray")]
    given = ("generate", own_run.config, "ray.render_workers=1", f"paths.store={stores[1]}")
    done = pipeline(*given, code=code)
    assert done.returncode == 0, done.stderr
    monkeypatch.syspath_prepend(code)
    assert cli("generate", own_run.config, f"paths.store={stores[0]}")[0] == 0
    here, on_ray = map(tars, stores)
    assert len(here) == 3
    assert here == on_ray


def test_generate_from_ones_own_code_that_cannot_be_imported_is_one_line(
    own_run: Workspace, cli: Cli
) -> None:
    result = cli("generate", own_run.config)
    assert_mistake(result, f"teacher.factory={FACTORY}", "PYTHONPATH")
    assert not (own_run.folder / "store").exists()


@pytest.mark.parametrize(
    ("override", "mention"),
    [
        ("teacher.factory=null", "teacher.factory"),
        ("generate.truncation_psi=0.5", "generate.truncation_psi"),
        ("generate.precision=float16", "generate.precision"),
        ("generate.features=[third]", "third"),
    ],
)
def test_generate_mistake_about_ones_own_code_is_one_line_and_leaves_nothing(
    override: str,
    mention: str,
    own_run: Workspace,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(own_run.folder / "code")
    assert_mistake(cli("generate", own_run.config, override), mention)
    assert not (own_run.folder / "store").exists()
    assert cli("generate", own_run.config)[0] == 0


@pytest.mark.parametrize("name", ["nowhere", "build_nothing", "build_with_a_condition"])
def test_generate_from_ones_own_code_that_makes_no_module_is_one_line(
    name: str, own_run: Workspace, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(own_run.folder / "code")
    factory = f"teacher.factory=own_package.generators:{name}"
    assert_mistake(cli("generate", own_run.config, factory), factory)
    assert not tars(own_run.folder / "store")


def test_inspect_teacher_of_ones_own_code_takes_the_factory(
    own_run: Workspace, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(own_run.folder / "code")
    folder = own_run.folder / "own"
    code, out, errors = cli("inspect-teacher", folder, "--factory", FACTORY)
    assert code == 0, errors
    assert "first" in out + errors
    assert_mistake(cli("inspect-teacher", folder), "factory")
