"""`python -m benchmarks.accelerator measure` and `train`: a GPU lent for a quarter of an hour.

Both leave one file, `measure.tar.gz` and `train.tar.gz`; `table` prints what came out of committed
ones, `dry-run` tries both on a CPU.
"""

from __future__ import annotations

import shutil
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.accelerator import table
from benchmarks.accelerator.dry_run import run_dry
from benchmarks.accelerator.findings import Findings
from benchmarks.accelerator.images import prepare_images
from benchmarks.accelerator.measure import measure_parts
from benchmarks.accelerator.parts import Part, console, run_parts
from benchmarks.accelerator.place import COMMITTED, Place, Setting, open_findings
from benchmarks.accelerator.train import TOY_LIMITS, Limits, Road
from pipeline.engine.device import choose_device
from shards.errors import UserError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
Changes = Annotated[
    list[str] | None, typer.Argument(metavar="[section.field=value …]", help="For the pipeline.")
]
Data = Annotated[Path, typer.Option(help="Archive of class folders.")]
FolderOption = Annotated[Path, typer.Option(help="Of both commands; on one machine, keep it.")]
Out = Annotated[Path | None, typer.Option(help="Gets the one file to bring back [FOLDER].")]
Toy = Annotated[bool, typer.Option(help="Narrow networks, few images: for a CPU.")]
DATA, FOLDER = Path("cifar10-jpeg.tar.xz"), Path("runs/accelerator")


@app.command()
def measure(
    changes: Changes = None, folder: FolderOption = FOLDER, out: Out = None, toy: Toy = False
) -> None:
    """Tests, floors, and the time of every part; 330 s at most."""
    place, findings = _open("measure", folder, toy, changes, out)
    _run(place, measure_parts(place), findings, out)


@app.command()
def train(
    changes: Changes = None,
    data: Data = DATA,
    folder: FolderOption = FOLDER,
    out: Out = None,
    toy: Toy = False,
) -> None:
    """A teacher, its pool, two students and their probes; 450 s at most."""
    if not data.is_file():
        raise UserError(f"{data}: no such file; give --data FILE")
    place, findings = _open("train", folder, toy, changes, out)
    shutil.rmtree(place.runs, ignore_errors=True)
    road = Road(place, findings, TOY_LIMITS if toy else Limits(), data)
    _run(place, road.parts(), findings, out)


def _open(
    command: str, folder: Path, toy: bool, changes: list[str] | None, out: Path | None
) -> tuple[Place, Findings]:
    """Before minutes are spent, the folders are seen to be there."""
    for option, path in {"--folder": folder, "--out": out or folder}.items():
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{option}={path}: {error.strerror}; name another folder") from None
    setting = Setting(toy, tuple(changes or ()), choose_device("auto"))
    place = Place(command, folder, setting)
    shutil.rmtree(place.results, ignore_errors=True)
    return place, open_findings(place.results / f"{command}.json", setting)


def _run(place: Place, parts: list[Part], findings: Findings, out: Path | None) -> None:
    pack = (out or place.folder) / f"{place.command}.tar.gz"
    outcomes = run_parts(parts, place.results, pack, findings)
    _print_table([place.results])
    console.print(f"{pack}: {pack.stat().st_size / 2**20:.2f} MiB, the file to bring back")
    if any(outcome.state != "passed" for outcome in outcomes):
        raise typer.Exit(1)


@app.command("table")
def show_table(
    folder: Annotated[Path, typer.Argument(help="With `measure/` and `train/`.")] = COMMITTED,
) -> None:
    """Predicted and measured, side by side, in Markdown."""
    _print_table([folder / "measure", folder / "train"])


def _print_table(folders: list[Path]) -> None:
    print(table.as_markdown(table.tabulate(folders)), *table.describe(folders), sep="\n")


@app.command("dry-run")
def dry_run(data: Data = DATA, folder: FolderOption = Path("runs/accelerator-dry-run")) -> None:
    """Both commands at toy size on a CPU, without the packages that the machine lacks."""
    prepare_images(data, folder / "probe", per_class=10)  # a wrong archive is named at once
    if not run_dry(data, folder):
        raise typer.Exit(1)


def main() -> int:
    """Run the command line; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # no part outlives its command
    try:
        app()
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 0
    except UserError as error:
        console.print(f"error: {error}")
    return 2


if __name__ == "__main__":
    sys.exit(main())
