"""Who may import whom, held by parsing the tree; and what starting the command line loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "shards").rglob("*.py"), *(ROOT / "pipeline").rglob("*.py")])
HEAVY = {"torch", "torchvision", "ray", "faiss", "sklearn", "webdataset", "matplotlib", "umap"}

LEVELS = (
    {"shards"},
    {"config", "samples"},
    {"terminal"},
    {"records", "cluster"},
    {"engine"},
    {"student"},
    {"measures"},
    {"teacher"},
    {"results"},
    {"real", "generate", "train", "eval"},  # the stages, which meet through files alone
    {"stages"},
    {"report"},
    {"studies", "export", "store"},
    {"embed"},  # takes an exported folder, too
    {"__main__"},
)
"""Rooms from the ground up: each may import from those below it, and from itself."""
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


def room(name: str) -> str:
    """`shards`, or the name of a room or of a loose file of the pipeline."""
    top, *rest = name.split(".")
    return rest[0] if top == "pipeline" and rest else top


def walk_imports(tree: ast.AST, nested: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements; at the top level only unless `nested`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif nested or isinstance(node, ast.If | ast.Try | ast.With):
            yield from walk_imports(node, nested)


def imported_modules(path: Path, *, nested: bool = True) -> set[str]:
    """Full names of what a file imports; `from a import b` counts as `a` or, if a module, `a.b`."""
    found = set()
    for node in walk_imports(ast.parse(path.read_text(encoding="utf-8")), nested):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in MODULES else node.module)
    return found


def packages(path: Path, *, nested: bool = True) -> set[str]:
    return {name.partition(".")[0] for name in imported_modules(path, nested=nested)}


def own_modules(path: Path) -> set[str]:
    return imported_modules(path) & MODULES.keys()


def test_every_room_has_its_level_and_no_file_lies_loose() -> None:
    assert {room(name) for name in MODULES} - {"pipeline"} == set(LEVEL)
    loose = {path.stem for path in (ROOT / "pipeline").glob("*.py")}
    assert loose == {"__init__", "__main__", "stages"}


@pytest.mark.parametrize("name", MODULES)
def test_imports_point_down_and_never_from_stage_to_stage(name: str) -> None:
    own = room(name)
    wrong = {
        other
        for other in own_modules(MODULES[name])
        if room(other) != own and LEVEL.get(room(other), 0) >= LEVEL.get(own, len(LEVELS))
    }
    assert not wrong, f"{name} imports {sorted(wrong)}"


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Also not within functions, and not for type checkers alone."""
    TopologicalSorter({name: own_modules(path) for name, path in MODULES.items()}).prepare()


def test_rooms_begin_with_one_sentence_which_the_map_for_contributors_has() -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for path in (ROOT / "pipeline").glob("*/__init__.py"):
        sentence = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert sentence is not None, path
        assert "\n" not in sentence, path
        assert sentence in contributing, f"{path.parent.name}: {sentence}"


def test_ray_is_where_work_is_handed_to_it_and_faiss_in_one_file() -> None:
    on_ray = {name for name, path in MODULES.items() if "ray" in packages(path)}
    assert {name for name in on_ray if room(name) != "cluster"} == {"pipeline.engine.launch"}
    with_faiss = {name for name, path in MODULES.items() if "faiss" in packages(path)}
    assert with_faiss == {"pipeline.measures.knn"}


def test_shards_know_no_gan_no_training_and_no_ray() -> None:
    for path in (ROOT / "shards").rglob("*.py"):
        foreign = {"pipeline", "ray", "torch", "torchvision"}
        if path.name == "codecs.py":  # torchvision decodes images
            foreign -= {"torch", "torchvision"}
        assert not packages(path) & foreign, path


LIGHT = ("config", "records", "samples", "terminal", "results", "stages", "__main__")


@pytest.mark.parametrize("name", [name for name in MODULES if room(name) in LIGHT])
def test_what_decides_whether_there_is_work_imports_nothing_heavy_at_the_top(name: str) -> None:
    """It must start at once."""
    path = MODULES[name]
    code = ast.parse(path.read_text(encoding="utf-8"))
    code.body = [
        node
        for node in code.body
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    ]
    found = set()
    for node in walk_imports(code, nested=False):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {str(getattr(node, "module", "")), *names}
    assert not {package.partition(".")[0] for package in found} & HEAVY


@pytest.mark.slow
def test_command_line_and_all_stages_import_neither_torch_nor_ray() -> None:
    stages = [name for name in MODULES if name.endswith(".stage")]
    code = (
        f"import sys, {', '.join(['pipeline.__main__', *stages])}\n"
        f"print(sorted(set({sorted(HEAVY)!r}) & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
