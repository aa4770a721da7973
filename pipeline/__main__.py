"""`python -m pipeline STAGE CONFIG [section.field=value …]`: the only entry point.

Neighbours: `stages.py` knows the stages. `run` goes through all of them in one process on one Ray
session, `tables` runs the paper's tables, the sweeps its Fig. 4 and pools of several sizes.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

from pipeline.cluster.openmp import limit_spinning

os.environ.setdefault("WDS_SECURE", "1")
limit_spinning()
signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the imports below run: end without a word

import typer
import yaml
from rich.text import Text

from pipeline.cluster import connection
from pipeline.config import manual
from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.embed.commands import embed_command, neighbours_command
from pipeline.engine.launch import is_first_process
from pipeline.export.commands import export_command
from pipeline.records.sets import packed_sets, set_config
from pipeline.results.commands import results_command
from pipeline.stages import (
    EXTRAS,
    STAGES,
    check_images,
    find_set,
    load_stage,
    needed_stages,
    pack_set,
    run_stage,
    uses_teacher,
)
from pipeline.store.commands import app as shards_app
from pipeline.teacher.commands import import_command, inspect_command
from pipeline.terminal.command import announce, typed_command
from pipeline.terminal.failures import describe, describe_usage, is_told
from pipeline.terminal.interrupt import Interrupted, ignore_interrupts, interrupt_at_once
from pipeline.terminal.progress import console
from shards.atomic import exclusive
from shards.errors import UserError
from shards.storage import StorageError

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
_UsageError: Any = typer.BadParameter.__bases__[0]  # it has no public name of its own
ConfigPath = Annotated[
    Path,
    typer.Argument(metavar="CONFIG", help="YAML file of the run, such as configs/digits.yaml."),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[section.field=value | FILE …]",
        help="Overrides, or a YAML file of overrides such as configs/methods/vicreg-real.yaml.",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Show the resolved config and what would run, and stop.")
]


def _load(path: Path, overrides: list[str] | None) -> Config:
    """The config, of which the first line of every command speaks."""
    config = load_config(path, overrides or [])
    announce(path, overrides or [], config.name)
    return config


def _show(config: Config) -> None:
    print(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False), end="")


def _run_stages(names: list[str], config: Config, dry_run: bool) -> None:
    for name in names:
        stage = load_stage(name)
        if name == "eval" and "real" not in names:
            _pack_sets(config, dry_run)
        try:
            record = stage.find(config)
            if record is None and "real" not in names:
                check_images(name, config)
        except UserError as problem:
            if not dry_run:
                raise
            _say_waits(f"{name:<9}", problem)
            continue
        if record is not None:
            console.print(f"{name:<9} done: {stage.describe(config, record)}", soft_wrap=True)
        elif dry_run:
            console.print(f"{name:<9} to do", soft_wrap=True)
        else:
            record = run_stage(name, config)
            console.print(f"{name:<9} finished: {stage.describe(config, record)}", soft_wrap=True)
        if name == "real":
            _pack_sets(config, dry_run)


def _pack_sets(config: Config, dry_run: bool) -> None:
    """Bring the labelled sets up to date, a line for each."""
    stage = load_stage("real")
    for name in packed_sets(config):
        title = f"real      set {name}"
        try:
            record = find_set(name, config)
        except UserError as problem:
            if not dry_run:
                raise
            _say_waits(title, problem)
            continue
        state = "done"
        if record is None and dry_run:
            console.print(f"{title} to do", soft_wrap=True)
            continue
        own = set_config(config, name)
        if record is None:
            console.print(f"{title}: {own.real.location}", soft_wrap=True)
            record, state = pack_set(name, config), "finished"
        note = "" if record.outputs.num_samples["test"] else ", cross-validated"
        text = stage.describe(own, record)
        console.print(f"{title} {state}: {text}{note}", soft_wrap=True)


def _say_waits(title: str, problem: UserError) -> None:
    waits = typed_command().advise(str(problem))
    console.print(f"{title} waits: {waits}", soft_wrap=True)


def _add_command(name: str, help_text: str) -> None:
    @app.command(name, help=help_text)
    def command(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False) -> None:
        resolved = _load(config, overrides)
        if dry_run:
            _show(resolved)
        _run_stages([name], resolved, dry_run)


for _name, _help in {**STAGES, **EXTRAS}.items():
    _add_command(_name, _help)


_STUDIES = {
    "tables": ("Run every row of the paper's tables 1, 2 and 5, and write them.", "tables"),
    "quality-sweep": (
        "Plot accuracy against the teacher's quality, as the paper's Fig. 4.",
        "sweeps",
    ),
    "pool-sweep": (
        "Plot accuracy against the size of the pool, and compare with online rendering.",
        "sweeps",
    ),
    "worth": ("Measure what the teacher adds: train with and without it.", "worth"),
}
"""Studies: what they do, and their room in `studies/`, which has a `run_NAME`."""


def _add_study(name: str, help_text: str, room: str) -> None:
    @app.command(name, help=help_text)
    def command(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False) -> None:
        _load(config, overrides)
        stage = import_module(f"pipeline.studies.{room}.stage")
        run = getattr(stage, f"run_{name.replace('-', '_')}")
        if not run(config, overrides or [], dry_run):
            raise typer.Exit(1)


_ON_CLUSTERS = {*STAGES, *EXTRAS, *_STUDIES, "run", "embed"}

for _name, (_help, _room) in _STUDIES.items():
    _add_study(_name, _help, _room)


app.add_typer(shards_app, name="shards")
app.command("import-teacher")(import_command)
app.command("inspect-teacher")(inspect_command)
app.command("results")(results_command)
app.command("export")(export_command)
app.command("embed")(embed_command)
app.command("neighbours")(neighbours_command)


@app.command("help", help="Explain the sections and fields of a config.")
def help_command(
    place: Annotated[
        str | None, typer.Argument(metavar="[SECTION | SECTION.FIELD]", show_default=False)
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the whole page docs/configuration.md.")
    ] = False,
) -> None:
    """Print what the manual says of a section or field; without one, list the sections."""
    if markdown:
        print(manual.page(), end="")
    else:
        print(manual.overview() if place is None else manual.explain(place))


@app.command("finish", help="Make the student of an interrupted training that of its run.")
def finish(config: ConfigPath, overrides: Overrides = None) -> None:
    """End a training by hand: its student can then be measured and exported."""
    resolved = _load(config, overrides)
    stage = load_stage("train")
    record = stage.find(resolved)
    state = "done" if record is not None else "finished"
    if record is None:
        with exclusive(resolved.run_dir / "train"):
            record = stage.finish(resolved)
    console.print(f"train     {state}: {stage.describe(resolved, record)}", soft_wrap=True)


@app.command("run", help="Run all stages; finished ones are skipped.")
def run_all(config: ConfigPath, overrides: Overrides = None, dry_run: DryRun = False) -> None:
    """Run every stage that is needed and not done; train a teacher if the config names none."""
    from pipeline.studies.control import load_control

    resolved = _load(config, overrides)
    control = load_control(config, overrides or [])
    if dry_run:
        _show(resolved)
    *names, report = needed_stages(resolved)
    if uses_teacher(resolved) and resolved.teacher.checkpoint and "teacher" not in names:
        from pipeline.teacher.description import read_teacher_info

        origin = read_teacher_info(resolved.teacher.checkpoint).origin
        seen = f", {origin['images_seen']:,} images seen" if "images_seen" in origin else ""
        console.print(f"teacher   given: {resolved.teacher.checkpoint}{seen}", soft_wrap=True)
        if "generate" in names and not dry_run:
            load_stage("generate").check(resolved)
    if not dry_run and not (resolved.run_dir / "train").exists():
        load_stage("train").check(resolved)
    _run_stages(names, resolved, dry_run)
    if control is not None:
        console.print(f"control   run {control.name}, shown beside the results")
        _run_stages(needed_stages(control)[:-1], control, dry_run)
    _run_stages([report], resolved, dry_run)
    if not dry_run:
        load_stage("report").print_results(resolved)
        console.print(f"report    {resolved.run_dir / 'report.html'}", soft_wrap=True)


def main() -> int:
    """Run the command line; returns the exit code (2 for a user's mistake)."""
    interrupt_at_once()
    console.quiet = not is_first_process()
    try:
        if connection.is_job_server() and not _ON_CLUSTERS.isdisjoint(sys.argv[1:2]):
            from pipeline.cluster.job import submit

            return submit(sys.argv[1:])
        ended = app(standalone_mode=False)
        return ended if isinstance(ended, int) else 0
    except _UsageError as error:
        if not error.format_message():  # no command: its help was asked for, and printed
            return 2
        message = describe_usage(error)
    except typer.Abort:
        console.print("stopped; nothing was changed")
        return 1
    except SystemExit as exit_:  # how the command-line library ends, well or with a usage error
        return exit_.code if isinstance(exit_.code, int) else 0
    except UserError as error:
        message = str(error)
    except StorageError as error:
        message = (
            f"{error.filename}: {error.strerror}; check the address, the network and the "
            "credentials in the environment, and run the command again"
        )
    except OSError as error:
        if not is_told(error):
            raise
        message = describe(error, typed_command())
    except Interrupted:
        ignore_interrupts()
        console.print("" if console.is_terminal else "\n", end="")
        console.print("interrupted; run the same command again to resume")
        return 130
    finally:
        connection.disconnect()
    console.quiet = False
    message = typed_command().advise(" ".join(message.split()))
    console.print(Text("error: ", style="red") + message, soft_wrap=True)
    return 2


if __name__ == "__main__":
    sys.exit(main())
