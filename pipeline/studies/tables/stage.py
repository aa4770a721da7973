"""`python -m pipeline tables CONFIG`: every row of the paper's tables, each an ordinary run.

A run is named by its row and seed, under `runs/NAME/tables/`. Neighbours: `cells` runs them,
`page.py` shows what they left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.file import load_config
from pipeline.records.log import logged
from pipeline.stages import load_stage, needed_stages, run_stage
from pipeline.studies.cells import Cell, is_done, print_cells, run_cells
from pipeline.studies.methods import find_methods
from pipeline.studies.tables.rows import choose_configs
from pipeline.terminal.progress import console


def run_tables(path: Path, changes: Sequence[str], dry_run: bool = False) -> bool:
    """Bring every row of the tables of the config in `path` up to date and write the tables.

    Returns:
        Whether all rows could be run; those that could not are named on the way and in the tables.
    """
    base = load_config(path, changes)
    cells = list_cells(path, changes)
    if dry_run:
        print_cells(cells)
        return True
    for name in needed_stages(base):
        if name in ("real", "teacher", "generate") and load_stage(name).find(base) is None:
            run_stage(name, base)
    with logged(base.run_dir, "tables"):
        problems = run_cells(cells, base.ray, "tables")
    from pipeline.studies.tables.page import write_tables

    done = [cell for cell in cells if is_done(cell)]  # what is left of other settings is not meant
    for file in write_tables(base, done, problems):
        console.print(f"tables    {file}", soft_wrap=True)
    return not problems


def list_cells(path: Path, changes: Sequence[str]) -> list[Cell]:
    """Every training of the tables, all rows of one seed before the next."""
    base = load_config(path, changes)
    methods = find_methods(path)
    teacher = base.teacher_folder
    cells = []
    for seed in base.tables.seeds:
        for row in choose_configs(base.tables.rows):
            overrides = [
                f"name={row}-seed{seed}",
                f"train.seed={seed}",
                f"paths.runs={(base.run_dir / 'tables').absolute()}",
                f"teacher.checkpoint={teacher.absolute()}",
                "eval.baselines=false",
                "eval.embedding_samples=0",
            ]
            if base.tables.epochs is not None:
                overrides.append(f"train.epochs={base.tables.epochs}")
            config = load_config(path, [*changes, str(methods / f"{row}.yaml"), *overrides])
            cells.append(Cell(row, seed, config))
    return cells
