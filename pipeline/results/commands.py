"""`python -m pipeline results`: numbers of the ledger, side by side or compared."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.config.file import load_config
from pipeline.config.paths import PathsConfig
from pipeline.results.compare import compare_runs, comparison_sheet
from pipeline.results.formats import comparisons_to_csv, groups_to_csv, to_latex, to_markdown
from pipeline.results.ledger import LEDGER, Number, list_runs, read_ledger
from pipeline.results.query import Filters, group, near, parse_filters, select
from pipeline.results.table import Sheet, make_sheets
from pipeline.results.wording import Spread
from pipeline.terminal.command import announce
from pipeline.terminal.progress import console
from shards.atomic import write_atomic
from shards.errors import UserError

Format = Literal["table", "markdown", "latex", "csv"]
_SUFFIXES: dict[str, Format] = {".md": "markdown", ".tex": "latex", ".csv": "csv"}
_WIDTH = 160


def results_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG] [field=value …]",
            help="A config, to show its run only, and filters such as probe=linear or run=digits.",
        ),
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of runs, instead of the config's paths.runs.")
    ] = None,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="RUN_A RUN_B", help="B − A, for measurements that share a protocol."),
    ] = None,
    over_trainings: Annotated[
        bool,
        typer.Option(
            "--over-trainings",
            help="Mean and spread over trainings that differ in train.seed only.",
        ),
    ] = False,
    spread: Annotated[
        Spread,
        typer.Option(help="Number after ±: standard deviation, or half of the 95 % interval."),
    ] = "std",
    form: Annotated[
        Format | None,
        typer.Option("--format", help="By default a table, or from the suffix of --out."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write to, instead of the terminal.")
    ] = None,
) -> None:
    """Show what was measured, with protocol, n and spread; different protocols are never mixed."""
    folder, filters = _read_arguments(arguments or [], runs, compare is not None)
    form = form or _form_of(out)
    numbers = _numbers(folder, filters)
    if compare is not None:
        comparisons = compare_runs(numbers, *compare, over_trainings)
        sheets = [comparison_sheet(comparisons, compare)]
        text = comparisons_to_csv(comparisons) if form == "csv" else _text(sheets, form)
    else:
        groups = group(numbers, over_trainings)
        text = groups_to_csv(groups) if form == "csv" else _text(make_sheets(groups, spread), form)
    if out is None:
        print(text, end="")
    elif out.exists() and not out.is_file():
        raise UserError(f"--out={out}: is not a file; choose another name")
    else:
        write_atomic(out, text)
        console.print(f"written   {out}", soft_wrap=True)


def _form_of(out: Path | None) -> Format:
    """By the name of the file."""
    if out is None or out.suffix == ".txt":
        return "table"
    if out.suffix not in _SUFFIXES:
        raise UserError(
            f"--out={out}: name a file that ends in .md, .tex, .csv or .txt, or give --format too"
        )
    return _SUFFIXES[out.suffix]


def _read_arguments(
    arguments: list[str], runs: Path | None, compares: bool
) -> tuple[Path, dict[str, list[str]]]:
    """Folder of runs and filters."""
    first = arguments[0] if arguments else ""
    if not first.endswith((".yaml", ".yml")) or "=" in first:
        for text in filter(_is_override, arguments):
            hint = "only after a config;" if "=" in text else f"did you mean run={text}?"
            raise UserError(f"{text}: {hint} filters look like field=value, configs end in .yaml")
        filters = parse_filters(arguments)
        folder = runs or PathsConfig().runs
        if not folder.is_dir():
            raise UserError(f"--runs={folder}: no such folder; name one, or a config")
        return folder, filters
    rest = arguments[1:]
    overrides = [text for text in rest if _is_override(text)]
    filters = parse_filters([text for text in rest if text not in overrides])
    config = load_config(Path(first), overrides)
    announce(Path(first), overrides, config.name)
    if not compares:
        filters.setdefault("run", [config.name])
    return runs or config.paths.runs, filters


def _is_override(text: str) -> bool:
    """Whether an argument changes the config: `section.field=value`, `name=…` or a file."""
    field, equals, _ = text.partition("=")
    return "." in field or field == "name" or not equals


def _numbers(folder: Path, filters: Filters) -> list[Number]:
    known = list_runs(folder)
    if not known:
        raise UserError(
            f"{folder / LEDGER}: no numbers yet; `make eval CONFIG=configs/x.yaml` measures them"
        )
    for run in filters.get("run", ()):
        if run not in known:
            raise UserError(
                f"{folder / LEDGER}: no numbers of run {run}; run `make eval` with its config "
                f"({near(run, known)})"
            )
    return select(read_ledger(folder, filters.get("run")), filters)


def _text(sheets: list[Sheet], form: Format) -> str:
    if form == "markdown":
        return to_markdown(sheets)
    if form == "latex":
        return to_latex(sheets)
    buffer = io.StringIO()
    is_terminal = sys.stdout.isatty()
    width = Console().width if is_terminal else _WIDTH
    page = Console(file=buffer, width=width, highlight=False, markup=False, no_color=True)
    for sheet in sheets:
        table = Table(title=Text(sheet.title), title_justify="left", box=None, pad_edge=False)
        for index, heading in enumerate(sheet.headings):
            is_label = index < sheet.num_labels
            table.add_column(
                Text(heading),
                justify="left" if is_label else "right",
                overflow="fold",
                no_wrap=False,
            )
        for row in sheet.rows:
            table.add_row(*map(Text, row))
        page.print(table)
        for note in sheet.notes:
            page.print(Text(f"  {note}"))
        page.print()
    return buffer.getvalue()
