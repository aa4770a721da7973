"""`python -m pipeline embed | neighbours CONFIG IMAGES …`: a student put to use."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pipeline.config.file import is_file
from pipeline.store.options import out as standard_output
from pipeline.terminal.command import is_override
from pipeline.terminal.progress import console
from shards.errors import UserError

_Subject = Annotated[
    Path,
    typer.Argument(metavar="CONFIG", help="Config of a run with a student, or an exported folder."),
]
_Images = Annotated[
    str,
    typer.Argument(
        metavar="IMAGES",
        help="A folder, zip, tar, Parquet file, URL or pattern, as for real.train; a folder with "
        "splits; digits; or cifar10:FOLDER and the like.",
    ),
]
_NEIGHBOURS = 8
_PLACES = "With an exported folder, files are kept in runs/ and store/ here; paths.runs=… and "
_PLACES += "paths.store=… choose other places."


def embed_command(
    subject: _Subject,
    images: _Images,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[section.field=value | FILE …]", help=f"Overrides. {_PLACES}"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write (.parquet, .npz or .safetensors); by default in runs/NAME/embed/."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--format", help="parquet, npz or safetensors; by default from the suffix of --out."
        ),
    ] = None,
) -> None:
    """Write the student's representations of any images: rows `source`, `embedding`, `label`."""
    from pipeline.embed.table import choose_format

    if out is not None and out.is_dir():
        raise UserError(
            f"--out={out}: is a folder; name a file, such as {out / 'embeddings.parquet'}"
        )
    chosen = choose_format(out, kind)
    for word in changes or []:
        if not is_file(word) and not is_override(word):
            raise UserError(
                f"{word}: IMAGES is one place (quote a pattern); overrides look like "
                "section.field=value"
            )
    from pipeline.embed.embedded import embed
    from pipeline.embed.images import home_of, pack_images
    from pipeline.embed.naming import resolve
    from pipeline.embed.subject import open_subject
    from pipeline.embed.table import write_table
    from pipeline.records.log import logged

    opened = open_subject(subject, changes or [])
    with logged(opened.config.run_dir, "embed", images=images):
        embedded = embed(opened, pack_images(opened.config, images, changes or []))
        path = out or home_of(opened.config, images) / f"embeddings.{chosen}"
        write_table(path, chosen, embedded, {"images": resolve(images), **opened.description})
    console.print(
        f"embedded  {path}, {len(embedded):,} images, {embedded.num_dims:,} numbers each",
        soft_wrap=True,
    )


def neighbours_command(
    subject: _Subject,
    images: _Images,
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="QUERY… [section.field=value | FILE …]",
            help=f"Image files to find the neighbours of, and overrides. {_PLACES}",
        ),
    ],
    k: Annotated[
        int | None,
        typer.Option(help=f"Number of neighbours of each query; by default {_NEIGHBOURS}."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; by default in runs/NAME/embed/.")
    ] = None,
) -> None:
    """Find the images that are nearest to others by the student: a page, and a table."""
    queries, changes = _sort_words(words)
    if not queries:
        raise UserError("QUERY: missing; name image files after IMAGES")
    if k is not None and k < 1:
        raise UserError(f"--k={k}: must be at least 1")
    if out is not None and out.exists() and not out.is_dir():
        raise UserError(f"--out={out}: is a file; name a folder")
    from pipeline.embed.embedded import embed
    from pipeline.embed.images import home_of, pack_images
    from pipeline.embed.naming import resolve
    from pipeline.embed.neighbours import choose_count, find_neighbours, read_queries
    from pipeline.embed.page import terminal_table, write_page
    from pipeline.embed.subject import open_subject
    from pipeline.records.log import logged

    opened = open_subject(subject, changes)
    with logged(opened.config.run_dir, "neighbours", images=images):
        asked = read_queries(opened, queries)
        packed = pack_images(opened.config, images, changes)
        count = choose_count(k, packed, _NEIGHBOURS)
        embedded = embed(opened, packed)
        found = list(zip(asked, find_neighbours(opened, embedded, asked, count), strict=True))
        standard_output.print(terminal_table(found))
        command = shlex.join(["python", "-m", "pipeline", *sys.argv[1:]])
        folder = out or home_of(opened.config, images)
        for path in write_page(folder, opened, embedded, found, resolve(images), command):
            console.print(f"written   {path}", soft_wrap=True)


def _sort_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Queries, and changes of the config; a file that is there is a query, whatever its name."""
    changes = [
        word for word in words if is_file(word) or (is_override(word) and not Path(word).exists())
    ]
    return [word for word in words if word not in changes], changes
