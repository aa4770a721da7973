"""The images of CIFAR-10 as class folders, from the archive that travels."""

from __future__ import annotations

import math
import tarfile
from collections import Counter
from pathlib import Path

from shards.errors import UserError


def prepare_images(source: Path, folder: Path, per_class: int | None = None) -> Path:
    """Class folders `train/<class>/*.jpg`, `test/<class>/*.jpg` of the archive `source`, in
    `folder`.

    Args:
        source: file.
        folder: complete once it has a file named `complete`.
        per_class: so many train images of every class, and a tenth of it of test images; all if
            unset.

    Raises:
        UserError: if there is nothing of the kind.
    """
    if not source.is_file():
        raise UserError(
            f"{source}: no such file; give --data FILE, an archive of train/<class>/*.jpg and "
            "test/<class>/*.jpg"
        )
    mark = folder / "complete"
    wanted = f"{source.stat().st_size} {per_class}"
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return folder
    taken: Counter[tuple[str, ...]] = Counter()
    limits = {"train": per_class or math.inf, "test": (per_class or math.inf) / 10}
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                kind = ("", "", *Path(member.name).parts)[-3:-1]
                if member.isfile() and taken[kind] < limits.get(kind[0], 0):
                    taken[kind] += 1
                    member.name = "/".join(Path(member.name).parts[-3:])
                    archive.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{source}: cannot be unpacked ({error}); bring it again") from None
    if not {split for split, _ in taken} == limits.keys():
        raise UserError(f"{source}: has no files train/<class>/* and test/<class>/*")
    mark.write_text(wanted, encoding="utf-8")
    return folder
