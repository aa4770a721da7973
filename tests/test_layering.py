"""Who may import whom, held by parsing the tree; and what starting the command line loads."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "shards").rglob("*.py"), *(ROOT / "pipeline").rglob("*.py")])
STAGES = sorted(path.parent.name for path in (ROOT / "pipeline").glob("*/stage.py"))
HEAVY = {"torch", "torchvision", "ray", "faiss", "sklearn", "webdataset", "matplotlib", "umap"}


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def walk_imports(tree: ast.AST, nested: bool) -> Iterator[ast.stmt]:
    """Import statements; at the top level only unless `nested`. `if TYPE_CHECKING` is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif nested or isinstance(node, ast.If | ast.Try | ast.With):
            yield from walk_imports(node, nested)


def imported_modules(path: Path, *, nested: bool = True) -> set[str]:
    """Full names of what a file imports; `from a import b` counts as `a` or, if a module, `a.b`."""
    found = set()
    for node in walk_imports(ast.parse(path.read_text(encoding="utf-8")), nested):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                is_module = any(module_name(file) == inner for file in FILES)
                found.add(inner if is_module else node.module)
    return found


def top_package(name: str) -> str:
    return name.partition(".")[0]


def layer(name: str) -> str:
    """`shards`, `trunk`, the name of a package of the pipeline, or `main`."""
    parts = name.split(".")
    if parts[0] == "shards":
        return "shards"
    if parts == ["pipeline", "__main__"]:
        return "main"
    is_package = len(parts) > 1 and (ROOT / "pipeline" / parts[1]).is_dir()
    return parts[1] if is_package else "trunk"


MAY_IMPORT = {
    "shards": {"shards"},
    "trunk": {"shards", "trunk"},
    "teacher": {"shards", "trunk", "teacher"},
    **{name: {"shards", "trunk", "teacher", name} for name in ("real", "generate", "train")},
    "results": {"shards", "trunk", "results"},
    "eval": {"shards", "trunk", "teacher", "results", "logistic", "eval"},
    "report": {"shards", "trunk", "teacher", "results", "report"},
    "logistic": {"shards", "trunk", "logistic"},
    "transfer": {"shards", "trunk", "results", "logistic", "transfer"},
    "finetune": {"shards", "trunk", "results", "finetune"},
    "store": {"shards", "trunk", "teacher", "real", "generate", "store"},  # above its two writers
    "cells": {"shards", "trunk", "results", "cells"},  # runs the stages by name
    "tables": {"shards", "trunk", "report", "results", "cells", "tables"},
    "sweeps": {"shards", "trunk", "teacher", "report", "results", "cells", "sweeps"},
    "export": {"shards", "trunk", "teacher", "report", "results", "export"},
    "main": {"shards", "trunk", "teacher", "store", "tables", "sweeps", "results", "export"},
}


def test_layers_every_folder_of_the_pipeline_is_known() -> None:
    assert {layer(module_name(path)) for path in FILES} <= set(MAY_IMPORT)
    assert set(STAGES) <= set(MAY_IMPORT)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_point_down_the_layers_and_never_from_stage_to_stage(path: Path) -> None:
    allowed = MAY_IMPORT[layer(module_name(path))]
    internal = {
        name for name in imported_modules(path) if top_package(name) in ("shards", "pipeline")
    }
    forbidden = {name for name in internal if layer(name) not in allowed}
    assert not forbidden, f"{path} imports {sorted(forbidden)}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_of_ray_and_faiss_are_where_they_belong(path: Path) -> None:
    packages = {top_package(name) for name in imported_modules(path)}
    place = path.relative_to(ROOT / "pipeline").as_posix() if "pipeline" in path.parts else ""
    if "ray" in packages:
        assert place in (
            "capacity.py",
            "cluster.py",
            "meters.py",
            "submit.py",
            "workers.py",
            "cells/run.py",
            "eval/jobs.py",
        ) or (place.count("/") == 1 and path.name == "stage.py")
    if "faiss" in packages:
        assert place == "eval/knn.py"


def test_shards_know_no_gan_no_training_and_no_ray() -> None:
    foreign = {"pipeline", "ray", "torch", "torchvision"}
    for path in (ROOT / "shards").rglob("*.py"):
        packages = {top_package(name) for name in imported_modules(path)}
        if path.name == "codecs.py":  # torchvision decodes images
            packages -= {"torch", "torchvision"}
        assert not packages & foreign, path


PLANNING = {
    *("stage.py", "plan.py", "architecture.py", "__main__.py"),
    *(
        "config.py",
        "train_config.py",
        "finetune_config.py",
        "method_config.py",
        "stages.py",
        "sweep_config.py",
        "teacher_config.py",
        "rows.py",
        "points.py",
        "inputs.py",
        "perceptual.py",
    ),
    *("code.py", "cluster.py", "order.py", "progress.py", "record.py", "seeding.py"),
    *("description.py", "commands.py", "workers.py", "layouts.py", "protocols.py"),
    *("stores.py", "stream.py", "claims.py", "work.py", "inventory.py", "repair.py", "run.py"),
}


@pytest.mark.parametrize("path", [path for path in FILES if path.name in PLANNING], ids=module_name)
def test_planning_modules_import_nothing_heavy_at_the_top(path: Path) -> None:
    """What decides whether there is anything to do must start at once."""
    assert not {top_package(name) for name in imported_modules(path, nested=False)} & HEAVY


def loaded_heavy_packages(*modules: str) -> str:
    code = (
        f"import sys, {', '.join(modules)}\n"
        f"print(sorted(set({sorted(HEAVY)!r}) & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_command_line_and_all_stages_import_neither_torch_nor_ray() -> None:
    modules = ["pipeline.__main__", *(f"pipeline.{name}.stage" for name in STAGES)]
    assert loaded_heavy_packages(*modules) == "[]"
