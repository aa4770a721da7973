"""`python -m pipeline export CONFIG`: the run's student as a folder that a stranger can use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from pipeline.config.file import load_config
from pipeline.terminal.command import announce
from pipeline.terminal.progress import console
from shards.errors import UserError

_LICENCE = re.compile(r"[a-z0-9][a-z0-9.-]*")


def export_command(
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="Config of a run with a student.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[section.field=value | FILE …]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; by default runs/NAME/export.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option(
            "--license", help="Licence in the card, such as apache-2.0; by default the one it has."
        ),
    ] = None,
    push_to: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Also upload it to the model hub.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Make a new repository there public.")
    ] = False,
) -> None:
    """Write weights, config and card of the student; checked to be the run's own."""
    if licence is not None and not _LICENCE.fullmatch(licence):
        raise UserError(f"--license={licence}: use the hub's names, such as apache-2.0 or mit")
    if public and push_to is None:
        raise UserError("--public: only with --push-to OWNER/NAME")
    resolved = load_config(config, overrides or [])
    announce(config, overrides or [], resolved.name)
    from pipeline.export.folder import write_export
    from pipeline.export.hub import connect, push

    api = None if push_to is None else connect()
    export = write_export(resolved, out or resolved.run_dir / "export", licence)
    done = f"written {', '.join(export.written)}" if export.written else "up to date"
    console.print(f"export    {export.folder}: {done}", soft_wrap=True)
    if not export.has_licence:
        console.print("licence   none yet; name one, as --license apache-2.0")
    if api is not None and push_to is not None:
        console.print(f"pushed    {push(api, export.folder, push_to, public=public)}")
