"""`python -m pipeline quality-sweep CONFIG` and `pool-sweep CONFIG`: accuracy against the quality
of the teacher, and against the size of the pool.

Each training is an ordinary run under `runs/NAME/sweeps/`. Neighbours: `points.py` lists them,
`cells` runs them, `page.py` shows what they left.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.records.log import logged
from pipeline.stages import is_teacher_given, load_stage, needed_stages, run_stage
from pipeline.studies.cells import Cell, is_done, print_cells, run_cells
from pipeline.studies.sweeps.points import (
    list_cells,
    pool_points,
    quality_points,
    read_snapshots,
)
from pipeline.terminal.command import typed_command
from pipeline.terminal.progress import console
from shards.errors import UserError


def run_quality_sweep(path: Path, changes: Sequence[str], dry_run: bool = False) -> bool:
    """Train students of every snapshot of the teacher and of itself, as far as that is not done,
    and write what came of it. A teacher to be trained is trained first.

    Returns:
        Whether all trainings could be run.

    Raises:
        UserError: if the teacher has no snapshots, saying how to get some.
    """
    base = load_config(path, changes)
    if base.teacher.snapshot_images and not is_teacher_given(base):
        if dry_run and (why := _why_missing("teacher", base)) is not None:
            console.print(f"teacher   {why}", soft_wrap=True)
            return True
        _bring_up_to_date(("real", "teacher"), base)
    snapshots = read_snapshots(base.teacher_folder)
    if not snapshots:
        raise UserError(_ask_for_snapshots(base, path))
    points = quality_points(base, snapshots)
    cells = list_cells(path, changes, points)
    if dry_run:
        print_cells(cells)
        return True
    problems = _run(cells, base, "quality")
    from pipeline.studies.sweeps.page import write_quality_sweep

    of_rows = {point.row: snapshot for point, snapshot in zip(points, snapshots, strict=True)}
    return _show(write_quality_sweep(base, of_rows, _done(cells), problems), problems)


def run_pool_sweep(path: Path, changes: Sequence[str], dry_run: bool = False) -> bool:
    """Train students on prefixes of the pool and on samples rendered for every step, as far as that
    is not done, and write what came of it.

    Returns:
        Whether all trainings could be run.
    """
    base = load_config(path, changes)
    points = pool_points(base)
    cells = list_cells(path, changes, points)
    if dry_run:
        print_cells(cells)
        return True
    _bring_up_to_date([n for n in needed_stages(base) if n in ("real", "teacher")], base)
    problems = _run(cells, base, "pools")
    from pipeline.studies.sweeps.page import write_pool_sweep

    of_rows = {point.row: point.pool_size for point in points}
    return _show(write_pool_sweep(base, of_rows, _done(cells), problems), problems)


def _ask_for_snapshots(base: Config, path: Path) -> str:
    counts = ", ".join(str(base.teacher.num_images // part) for part in (16, 8, 4, 2))
    return (
        f"{base.teacher_folder}: a teacher without snapshots; set teacher.snapshot_images and let "
        f"the sweep train one: `python -m pipeline quality-sweep {path} name={base.name}-quality "
        f"teacher.checkpoint=null 'teacher.snapshot_images=[{counts}]'`"
    )


def _why_missing(name: str, config: Config) -> str | None:
    """`to do`, or what a stage that is not done waits for."""
    try:
        return "to do" if load_stage(name).find(config) is None else None
    except UserError as problem:
        return f"waits: {typed_command().advise(str(problem))}"


def _bring_up_to_date(names: Sequence[str], config: Config) -> None:
    for name in names:
        if load_stage(name).find(config) is None:
            run_stage(name, config)


def _run(cells: Sequence[Cell], base: Config, title: str) -> dict[str, str]:
    """Render each teacher's largest pool, of which the others are prefixes, then train."""
    largest: dict[Path, Config] = {}
    for config in (cell.config for cell in cells if not is_done(cell)):
        known = largest.setdefault(config.teacher_folder, config)
        if _num_cached(config) > _num_cached(known):
            largest[config.teacher_folder] = config
    for config in largest.values():
        if config.train.reads_pool:
            _bring_up_to_date(("real", "generate"), config)
    with logged(base.run_dir, f"sweep {title}"):
        return run_cells(cells, base.ray, title)


def _num_cached(config: Config) -> int:
    return config.generate.num_samples if config.train.reads_pool else 0


def _done(cells: Sequence[Cell]) -> list[Cell]:
    """Those with results of these settings, not of earlier ones."""
    return [cell for cell in cells if is_done(cell)]


def _show(files: Sequence[Path], problems: dict[str, str]) -> bool:
    for file in files:
        console.print(f"sweep     {file}", soft_wrap=True)
    return not problems
