"""`python -m benchmarks.accelerator …`: runs for a borrowed GPU, one command each.

`list` says what there is, `run STEP` runs a step for some minutes, `table` prints what came out.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.accelerator.commands import console, run_step
from benchmarks.accelerator.dry_run import NOT_DONE, DryRun
from benchmarks.accelerator.images import prepare_images
from benchmarks.accelerator.results import RESULTS, STUDENT_COLUMNS, read_results, students_table
from benchmarks.accelerator.stage_runs import Workplace
from benchmarks.accelerator.steps import STEPS, find_step
from benchmarks.accelerator.travel import unpack
from shards.errors import UserError

TOY_PER_CLASS = 500
app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
Data = Annotated[Path, typer.Option(help="Archive or folder of class folders.")]
Folder = Annotated[Path, typer.Option(help="Images, store and runs; keep it between commands.")]


@app.command("list")
def list_steps() -> None:
    """What to run, in order, with estimated minutes."""
    done = read_results(RESULTS)
    table = Table("step", "minutes", "what", "result")
    for step in STEPS:
        table.add_row(step.name, f"{step.minutes:g}", step.text, "yes" if step.name in done else "")
    console.print(table)


@app.command("run")
def run(
    name: Annotated[str, typer.Argument(metavar="STEP", help="One of `list`.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[section.field=value …]", help="For the pipeline."),
    ] = None,
    data: Data = Path("data/cifar10-jpeg.tar.xz"),
    folder: Folder = Path("runs/accelerator"),
    carried: Annotated[Path | None, typer.Option(help="States packed on another machine.")] = None,
    out: Annotated[Path, typer.Option(help="Gets results and packed states.")] = Path(
        "runs/accelerator/out"
    ),
    minutes: Annotated[float, typer.Option(help="To stop after, packing included.")] = 9.0,
    toy: Annotated[bool, typer.Option(help="Narrow networks, few images: for a CPU.")] = False,
) -> None:
    """Run STEP, or go on with it; exit code 3: not done yet, type it again."""
    step = find_step(name)
    if step is None:
        known = ", ".join(step.name for step in STEPS)
        raise UserError(f"{name}: no such step; there are {known}")
    images = data
    if step.kind != "throughput":
        images = prepare_images(data, folder / "images", TOY_PER_CLASS if toy else None)
    command = " ".join(["python -m benchmarks.accelerator", *map(shlex.quote, sys.argv[1:])])
    workplace = Workplace(folder, images, toy, tuple(changes or ()), command)
    if carried is not None:
        for parcel in unpack(carried, workplace.runs):
            console.print(f"unpacked  {parcel.run}, {parcel.stage} at {parcel.position:,}")
    if run_step(step, workplace, minutes, out):
        console.print(f"{name} is done; results are in {out}")
        return
    console.print(f"{name} is not done; type it again (elsewhere with --carried {out})")
    raise typer.Exit(NOT_DONE)


@app.command("table")
def show_table(folder: Annotated[Path, typer.Argument(help="Of results.")] = RESULTS) -> None:
    """The students so far, beside the paper's; another data set's, strictly speaking."""
    results = read_results(folder)
    rows = students_table(results)
    if not rows:
        console.print(f"{folder}: no results of students yet; see `list`")
        return
    table = Table(*STUDENT_COLUMNS)
    for row in rows:
        table.add_row(*row)
    console.print(table)
    console.print(next(iter(results.values()))["data"])


@app.command("dry-run")
def dry_run(
    data: Data = Path("data/cifar10-jpeg.tar.xz"),
    folder: Folder = Path("runs/accelerator-dry-run"),
) -> None:
    """Every step at toy length on a CPU, stopped, carried, killed and taken up again."""
    prepare_images(data, folder / "probe", per_class=10)  # a wrong archive is named at once
    DryRun(data, folder).run()


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        app()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0
    except UserError as error:
        console.print(f"[red]error:[/red] {error}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
