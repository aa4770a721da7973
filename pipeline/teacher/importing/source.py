"""What a person names to import: a file or a folder, read into plain data.

Pickles, torch files of both formats, safetensors and JSON, each recognised by its first bytes.
Nothing in them is executed, and tensors stay in the file until a layout asks for them. Neighbour:
`layouts.py` says what the data is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from pipeline.records.digests import file_digest
from pipeline.teacher.importing.inert import brief
from pipeline.teacher.importing.module_tree import ModuleTree, find_trees
from pipeline.teacher.importing.safe_pickle import load_pickle
from pipeline.teacher.importing.states import StateDict, find_states
from pipeline.teacher.importing.stored_tensors import StoredEntry
from pipeline.teacher.importing.torch_files import OLD_HEAD, read_old_torch, read_torch_zip
from shards.errors import UserError

MAX_FILE_BYTES = 16 * 2**30
MAX_JSON_BYTES = 2**20
PICKLE_HEADS = {bytes((0x80, protocol)) for protocol in (2, 3, 4, 5)}


@dataclass(frozen=True)
class Source:
    """A file, or a folder of several."""

    path: Path
    architecture: Mapping[str, Any] | None = None
    """What the person says of it in a JSON."""
    discriminator: Source | None = None
    """The file that the person names for the discriminator."""
    _members: dict[str, Source] = field(default_factory=dict, repr=False, compare=False)

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder, whose files are then read by name."""
        return self.path.is_dir()

    @cached_property
    def content(self) -> Any:
        """What the file holds (see `load_pickle`; of safetensors a dictionary of `StoredEntry`); of
        a folder None.
        """
        return None if self.is_folder else read_file(self.path)

    @cached_property
    def trees(self) -> dict[str, ModuleTree]:
        """Whole networks in the file by the keys that lead to them, "" where it is one."""
        return find_trees(self.content)

    @cached_property
    def states(self) -> dict[str, StateDict]:
        """State dicts in the file by the keys that lead to them, weights of whole networks too."""
        trees = {place: tree.weights for place, tree in self.trees.items()}
        return find_states(self.content) | trees

    @cached_property
    def names(self) -> list[str]:
        """Files of the folder, or beside the file, in order."""
        folder = self.path if self.is_folder else self.path.parent
        return sorted(path.name for path in folder.iterdir() if path.is_file())

    def matching(self, *patterns: str) -> list[str]:
        """Those of `names` that fit one of `patterns`, such as `G_ema*.pth`."""
        return [name for name in self.names if any(fnmatch(name, pattern) for pattern in patterns)]

    def member(self, name: str) -> Source:
        """The file `name` of the folder, or beside the file; it counts as part of the source from
        then on.
        """
        if name not in self._members:
            self._members[name] = Source(self._locate(name))
        return self._members[name]

    def read(self, name: str) -> Any:
        """What `member` holds."""
        return self.member(name).content

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file that was read, by its name in `teacher.json`."""
        found = {} if self.is_folder else {"sha256": file_digest(self.path)}
        for name in sorted(self._members):
            found[f"{name}_sha256"] = file_digest(self._locate(name))
        if self.discriminator is not None:
            found["discriminator_sha256"] = file_digest(self.discriminator.path)
        return found

    def _locate(self, name: str) -> Path:
        return (self.path if self.is_folder else self.path.parent) / name


def read_file(path: Path) -> Any:
    """What `path` holds, as plain data; nothing in it is executed.

    Raises:
        UserError: naming the file, if it is of no known kind, damaged or made to do harm.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; name a checkpoint")
    try:
        with path.open("rb") as file:
            size, head = path.stat().st_size, file.read(len(OLD_HEAD))
            if not 0 < size <= MAX_FILE_BYTES:
                problem = "too large" if size else "empty"
                raise UserError(f"{path}: {problem}; fetch the file again")
            if head == OLD_HEAD:
                return read_old_torch(path)
            if head[:2] in PICKLE_HEADS:
                file.seek(0)
                return load_pickle(path, file, size)
        if head[:2] == b"PK":
            return read_torch_zip(path)
        if head[8:9] == b"{":
            return _read_safetensors(path)
        if path.suffix == ".json":
            return read_json(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({brief(error)}); check the disk") from None
    raise UserError(
        f"{path}: neither a pickle, a torch file nor safetensors; name a checkpoint of a GAN"
    )


def read_json(path: Path) -> Any:
    """The content of a small JSON file.

    Raises:
        UserError: if it is none.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("too large")
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: cannot be read as JSON ({brief(error)}); correct the file or its path"
        ) from None


def _read_safetensors(path: Path) -> dict[str, StoredEntry]:
    try:
        with safe_open(path, "pt") as file:
            names = sorted(file.keys(), key=natural_order)  # stored by type, not as networks are
            return {
                name: StoredEntry(path, name, tuple(file.get_slice(name).get_shape()))
                for name in names
            }
    except SafetensorError as error:
        raise UserError(f"{path}: damaged ({brief(error)}); fetch it again") from None


def natural_order(name: str) -> list[tuple[int, str]]:
    """Sorts `main.10` after `main.9`, and `netG_epoch_10` after `netG_epoch_9`."""
    parts = re.split(r"(\d{1,9})", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
