"""What the `shards` commands have in common: their options, and where they print.

Neighbours: `commands.py` and `verify.py` are the commands.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.config.paths import PathsConfig

Store = Annotated[str, typer.Option(help="Root of the store: a folder, s3://… or gs://…")]
Runs = Annotated[list[Path], typer.Option(help="Folders of runs; may be given several times.")]
Key = Annotated[str, typer.Argument(metavar="KEY", help="A key, or its first digits.")]
STORE = PathsConfig().store
out = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 160)
"""Standard output: what these commands find is meant to be piped."""
RUNS = [PathsConfig().runs]
