"""`python -m pipeline shards list | show | diff | verify | gc`."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.config.file import load_config
from pipeline.generate.plan import TEACHER_POOLS, make_plan
from pipeline.real.request import spec_of
from pipeline.records.sets import SETS_FOLDER
from pipeline.records.spec import Spec, list_differences
from pipeline.store import inventory
from pipeline.store.options import RUNS, STORE, Key, Runs, Store, out
from pipeline.store.verify import verify_command
from pipeline.teacher.description import read_teacher_info
from shards.errors import UserError
from shards.storage import Folder

app = typer.Typer(no_args_is_help=True, help="List, check, repair and clean the store of shards.")


@app.command("list", help="List every recipe in the store, and the runs that use it.")
def list_command(store: Store = STORE, runs: Runs = RUNS) -> None:
    """Print one row per recipe."""
    references = inventory.find_references(runs)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("key", "kind", "samples", "size", "age", "from", "used by"):
        is_text = heading in ("from", "used by")
        table.add_column(
            heading,
            justify="right" if heading in ("samples", "size", "age") else "left",
            no_wrap=not is_text,
            overflow="fold",
        )
    entries = list(inventory.list_entries(_open_store(store)))
    for entry in entries:
        users = references.get((entry.place, entry.key), [])
        table.add_row(
            entry.key,
            entry.kind,
            f"{entry.num_samples:,}",
            _size(entry.num_bytes),
            _age(entry.written_at),
            _short(entry.source),
            ", ".join(map(_user, users)) or "no run",
        )
    if not entries:
        out.print(f"{Folder.at(store)}: nothing here yet; `make real` and `make generate` fill")
        return
    out.print(table)
    for entry in entries:
        for problem in entry.problems:
            out.print(f"note: {problem}", soft_wrap=True)


@app.command("show", help="Show one recipe: its sets, columns and record.")
def show_command(key: Key, store: Store = STORE) -> None:
    """Print sets as a table and the recipe as JSON on standard output."""
    entry = inventory.find_entry(Folder.at(store), key)
    out.print(f"{entry.folder} ({entry.kind})", soft_wrap=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("set", "samples", "shards", "size", "columns", "age"):
        table.add_column(heading)
    for name, manifest in entry.sets.items():
        columns = [f"{c.name} {c.codec} {list(c.shape)} {c.dtype}" for c in manifest.schema.columns]
        columns += [f"  {block.name} {block.num_channels}" for block in manifest.schema.features]
        table.add_row(
            name,
            f"{manifest.num_samples:,}",
            f"{len(manifest.shards):,}",
            _size(sum(shard.num_bytes for shard in manifest.shards)),
            "\n".join(columns),
            _age(max((shard.written_at for shard in manifest.shards), default=None)),
        )
    out.print(table)
    for problem in entry.problems:
        out.print(f"note: {problem}", soft_wrap=True)
    print(json.dumps(entry.recipe, indent=2))


@app.command("diff", help="List the fields in which a config differs from KEY.")
def diff_command(
    key: Key,
    config: Annotated[Path, typer.Argument(metavar="CONFIG")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[section.field=value …]")
    ] = None,
    store: Store = STORE,
) -> None:
    """Print a line for each difference; exit with 1 if there is one."""
    entry = inventory.find_entry(Folder.at(store), key)
    wanted = load_config(config, overrides or [])
    if entry.recipe is None:
        raise UserError(f"{entry.folder}: its recipe.json cannot be read")
    lines: list[str] = []
    if entry.place == TEACHER_POOLS:
        info = read_teacher_info(wanted.teacher_folder)
        plan = make_plan(wanted.generate, info, Folder.at(store), wanted.teacher.factory)
        recipe = json.loads(json.dumps(asdict(plan.recipe)))
        found = Spec("generate", entry.recipe.get("recipe", {}), {})
        lines = list_differences(found, Spec("generate", recipe, {}))
        if not lines:
            lines = [
                f"{shards.name}: {plan.num_shards - have:,} of {plan.num_shards:,} shards are "
                "still to be rendered"
                for shards in plan.sets
                if (have := len(shards.existing.keys() & set(range(plan.num_shards))))
                < plan.num_shards
            ]
    else:
        found = Spec("real", entry.recipe.get("config", {}), entry.recipe.get("inputs", {}))
        lines = list_differences(found, spec_of(wanted))
    for line in lines:
        out.print(line, soft_wrap=True)
    if lines:
        raise typer.Exit(1)
    out.print(f"{entry.key}: no difference from {config}")


app.command("verify", help="Check every shard of KEY, render damaged ones again, or audit some.")(
    verify_command
)


@app.command("gc", help="List recipes that no run refers to; --delete removes them.")
def gc_command(
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY …]", help="Only these recipes; by default all."),
    ] = None,
    store: Store = STORE,
    runs: Runs = RUNS,
    delete: Annotated[bool, typer.Option("--delete", help="Delete them; asks first.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
) -> None:
    """List unreferenced recipes, and delete them on request."""
    root = _open_store(store)
    for folder in runs:
        if not folder.is_dir():
            raise UserError(f"--runs={folder}: no such folder; what its runs use is not known")
    references = inventory.find_references(runs)
    named = [inventory.find_entry(root, key) for key in keys or []]
    entries = list(
        {entry.folder: entry for entry in named or inventory.list_entries(root)}.values()
    )
    used = [entry for entry in entries if (entry.place, entry.key) in references]
    if keys and used:
        user = references[used[0].place, used[0].key][0]
        raise UserError(f"{used[0].key}: {user} refers to it; delete that run first")
    unused = [entry for entry in entries if entry not in used]
    for entry in unused:
        out.print(
            f"{entry.key}  {entry.kind:<9}  {entry.num_samples:>12,} samples  "
            f"{_size(entry.num_bytes):>9}  {_age(entry.written_at)}  {entry.source}",
            soft_wrap=True,
        )
    total = _size(sum(entry.num_bytes for entry in unused))
    where = ", ".join(map(str, runs))
    out.print(f"{len(unused)} recipes, {total}, that no run in {where} refers to")
    if not unused or not delete:
        return
    if not yes:
        typer.confirm("Delete them?", abort=True)
    kept = False
    for entry in unused:
        users = inventory.find_references(runs).get((entry.place, entry.key))  # since the question
        try:
            if users:
                raise UserError(f"{entry.folder}: now {users[0]} refers to it")
            inventory.delete(entry)
        except UserError as error:
            out.print(f"kept: {error}", soft_wrap=True)
            kept = True
            continue
        out.print(f"deleted {entry.folder}", soft_wrap=True)
    if kept:
        raise typer.Exit(1)


def _open_store(store: str) -> Folder:
    """The root of a store that exists."""
    root = Folder.at(store)
    if not root.is_there():
        kind = "folder" if root.is_local else "bucket"
        raise UserError(f"--store={store}: no such {kind}; name the one of paths.store")
    return root


def _user(folder: str) -> str:
    """A run, or the labelled set of one, by its folder."""
    user = Path(folder)
    is_set = user.parent.name == SETS_FOLDER
    return f"{user.parent.parent.name}/{SETS_FOLDER}/{user.name}" if is_set else user.name


def _short(source: str) -> str:
    """A path, relative where that is shorter."""
    if not source.startswith("/"):
        return source
    relative = os.path.relpath(source)
    return min(source, relative, key=len)


def _size(num_bytes: int) -> str:
    value: Any = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def _age(written_at: float | None) -> str:
    if written_at is None:
        return "–"
    seconds = max(0.0, time.time() - written_at)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
