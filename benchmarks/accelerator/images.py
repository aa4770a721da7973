"""The images of CIFAR-10 as class folders, from the archive that travels or from a folder."""

from __future__ import annotations

import tarfile
from collections import Counter
from pathlib import Path

from shards.errors import UserError

SPLITS = ("train", "test")


def prepare_images(source: Path, folder: Path, per_class: int | None = None) -> Path:
    """Class folders `train/<class>/*.jpg`, `test/<class>/*.jpg` of `source`, an archive of such
    folders or one of them; what is extracted goes to `folder`.

    Args:
        source: file or folder.
        folder: for the extracted files; complete once it has a file named `complete`.
        per_class: so many train images of every class, and a tenth of it of test images; all if
            unset.

    Raises:
        UserError: if there is nothing of the kind.
    """
    if source.is_dir():
        return source
    if not source.exists():
        raise UserError(
            f"{source}: no such file; give --data FILE, an archive of train/<class>/*.jpg and "
            "test/<class>/*.jpg, or a folder of them"
        )
    mark = folder / "complete"
    wanted = f"{source.stat().st_size} {per_class}"
    if mark.exists() and mark.read_text(encoding="utf-8") == wanted:
        return folder
    taken: Counter[tuple[str, str]] = Counter()
    try:
        with tarfile.open(source) as archive:
            for member in archive:
                split, class_name = ("", "", *Path(member.name).parts)[-3:-1]
                limit = None if per_class is None else per_class // (1 if split == "train" else 10)
                if (
                    not member.isfile()
                    or split not in SPLITS
                    or (limit is not None and taken[split, class_name] >= limit)
                ):
                    continue
                taken[split, class_name] += 1
                member.name = f"{split}/{class_name}/{Path(member.name).name}"
                archive.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{source}: cannot be unpacked ({error}); bring it again") from None
    if not all(any(found == split for found, _ in taken) for split in SPLITS):
        raise UserError(f"{source}: has no files train/<class>/* and test/<class>/*")
    mark.write_text(wanted, encoding="utf-8")
    return folder
