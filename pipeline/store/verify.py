"""`python -m pipeline shards verify KEY`: every byte checked, damaged shards made again or audited.

Neighbours: `repair.py` does it; this prints.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.config.paths import PathsConfig
from pipeline.config.ray import RayConfig
from pipeline.generate.plan import TEACHER_POOLS
from pipeline.store import inventory
from pipeline.store.inventory import Entry
from pipeline.store.options import STORE, Key, Store, out
from pipeline.terminal.progress import progress_bar
from shards.cache import Cache
from shards.errors import UserError
from shards.storage import Folder

if TYPE_CHECKING:
    from pipeline.store.repair import Damage


def verify_command(
    key: Key,
    store: Store = STORE,
    mend: Annotated[bool, typer.Option("--repair", help="Render damaged shards again.")] = False,
    audit: Annotated[
        int,
        typer.Option(
            min=0, help="Render this many random samples and compare them with the store."
        ),
    ] = 0,
    teacher: Annotated[
        Path | None, typer.Option(help="The teacher's folder, if it has moved.")
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Shards rendered at once on Ray; 0 renders in this process.")
    ] = 0,
    cache: Annotated[
        Path, typer.Option(help="Folder for copies of a remote store's shards.")
    ] = PathsConfig().cache,
) -> None:
    """Print what is wrong; exit with 1 if anything stays wrong."""
    from pipeline.store import repair

    entry = inventory.find_entry(Folder.at(store), key)
    problems = [*entry.problems, *repair.find_gaps(entry)]
    total = sum(len(manifest.shards) for manifest in entry.sets.values())
    damages = []
    with progress_bar("shards") as bar:
        task = bar.add_task("verify", total=total, note="")
        for found in repair.check(entry):
            if found is not None:
                damages.append(found)
                out.print(str(found), soft_wrap=True)
            bar.advance(task)
    for problem in problems:
        out.print(problem, soft_wrap=True)
    if mend and damages:
        _mend(entry, damages, teacher, workers)
        damages = []
    elif not damages and not problems:
        out.print(f"{entry.key}: {total:,} shards, all as the manifest says")
    if audit and not damages:
        problems += _audit(entry, audit, teacher, cache)
    if damages:
        out.print(
            f"{len(damages):,} of {total:,} shards are damaged; "
            f"`python -m pipeline shards verify {entry.key} --repair` makes them again",
            soft_wrap=True,
        )
    if damages or problems:
        raise typer.Exit(1)


def _mend(entry: Entry, damages: list[Damage], teacher: Path | None, workers: int) -> None:
    from pipeline.store import repair

    if entry.place != TEACHER_POOLS:
        for damage in damages:
            (entry.folder / damage.set_name).remove(damage.shard.name)
        out.print(
            f"{len(damages):,} damaged shards removed; `make real` with their config packs them "
            "again"
        )
        return
    origin, found = repair.open_origin(entry, teacher)
    ray = RayConfig(render_workers=workers)
    done = repair.repair(entry, damages, origin, found, ray)
    outcome = "to the very same bytes"
    if done.changed:
        outcome = (
            "to other bytes than before (another kind of machine, or other versions): "
            + ", ".join(done.changed)
        )
    out.print(f"{done.num_shards:,} damaged shards rendered again, {outcome}", soft_wrap=True)


def _audit(entry: Entry, num_samples: int, teacher: Path | None, cache: Path) -> list[str]:
    from pipeline.store import repair

    if entry.place != TEACHER_POOLS:
        raise UserError(f"{entry.key}: real images have no teacher to be audited against")
    origin, found = repair.open_origin(entry, teacher)
    copies = Cache(cache, int(PathsConfig().cache_gb * 1e9))
    problems = []
    for column in repair.audit(entry, origin, found, num_samples, copies, "auto"):
        verdict = "agree" if not column.failed else f"{len(column.failed):,} DIFFER"
        line = (
            f"audit {column.column}: {column.num_samples:,} samples {verdict}; largest difference "
            f"{column.difference:.2g}, tolerance {column.tolerance:.2g} {column.unit}"
        )
        out.print(line, soft_wrap=True)
        if column.failed:
            shown = ", ".join(map(str, column.failed[:10]))
            problems.append(f"{column.column}: samples {shown} are not the teacher's")
            out.print(problems[-1], soft_wrap=True)
    return problems
