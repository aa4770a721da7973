"""Images that cannot be read: the list of them, for people and for the next run, and whether they
have been mended since.

Neighbours: `pack.py` finds them shard by shard, `stage.py` stops at them or does without.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config.root import Config
from pipeline.real.pack import UNREADABLE, Unreadable, read_unreadable
from pipeline.real.request import SPLITS, Request
from pipeline.real.rows import count_rows
from pipeline.real.sources.folder import FilesSource, FolderSource
from shards.atomic import write_atomic
from shards.errors import UserError
from shards.manifest import shard_name
from shards.storage import Folder

UNREADABLE_FILE = "unreadable.json"
"""In a folder of shards whose images were all gone through: those that cannot be read."""
_LIST = "unreadable.txt"
_SHOWN = 10


def leave_list(
    run_dir: Path, folder: Folder, request: Request, unreadable: Sequence[Unreadable]
) -> str:
    """Note in the store, and as text in the run's folder, which images cannot be read; returns the
    digest of which they are.
    """
    places = [_place(request, one) for one in unreadable]
    files = [(place, _stat(place)) for place in places if os.path.isabs(place)]
    note = {"unreadable": [list(one) for one in unreadable], "files": files}
    content = json.dumps(note).encode()
    if folder.size(UNREADABLE_FILE) is None:
        folder.write(UNREADABLE_FILE, content)
    pairs = zip(places, unreadable, strict=True)
    lines = "".join(f"{place}\t{one.reason}\n" for place, one in pairs)
    write_atomic(run_dir / "real" / _LIST, lines.encode())
    skipped = [[one.split, one.row] for one in unreadable]
    return hashlib.sha256(json.dumps(skipped).encode()).hexdigest()


def _place(request: Request, one: Unreadable) -> str:
    """Where an image is: of a folder or pattern its path, else what its source calls it."""
    source = request.sources.get(one.split, request.sources["train"])
    if isinstance(source, FolderSource | FilesSource):
        return source.locate(os.fsencode(one.source))
    return one.source


def _stat(path: str) -> list[int] | None:
    """Size and times of a local file, also of the last change of its permissions."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _read_note(folder: Folder) -> dict[str, Any] | None:
    try:
        note: dict[str, Any] = json.loads(folder.read(UNREADABLE_FILE))
    except FileNotFoundError:
        return None
    return note


def is_mended(folder: Folder) -> bool:
    """Whether one of the files that could not be read has changed since: a listing of very many
    files does not notice that, and none notices other permissions.
    """
    note = _read_note(folder)
    return note is not None and any(_stat(path) != found for path, found in note["files"])


def forget_unreadable(folder: Folder) -> None:
    """Let the shards that lack images be packed again."""
    for split in SPLITS:
        for index in read_unreadable(folder, split):
            (folder / split).remove(shard_name(index))
            (folder / UNREADABLE).remove(f"{split}-{index:06d}.json")
    folder.remove(UNREADABLE_FILE)


def refusal(
    config: Config, folder: Folder, request: Request, unreadable: Sequence[Unreadable]
) -> UserError:
    """What ends a run that has such images: the first of them, where all are, and what to do."""
    total = sum(count_rows(folder, split) or 0 for split in SPLITS)
    shown = ", ".join(f"{_place(request, one)} ({one.reason})" for one in unreadable[:_SHOWN])
    more = len(unreadable) - _SHOWN
    skip = ", or set real.unreadable=skip" if config.real.unreadable == "stop" else ""
    return UserError(
        f"real: {len(unreadable):,} of {total:,} images cannot be read: {shown}"
        f"{f' and {more:,} more' if more > 0 else ''}; fix or remove them{skip} (all of them: "
        f"{config.run_dir / 'real' / _LIST})"
    )
