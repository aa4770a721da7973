"""What `train` decides by what was measured: width of the teacher, numbers of epochs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.accelerator.findings import Figure, find_value
from benchmarks.accelerator.parts import PartError
from pipeline.teacher.description import SNAPSHOTS, TEACHER_FILE

ENOUGH_IMAGES = 800_000
"""Of a teacher's training, below which a narrower one is taken: a choice, not a measurement."""


def choose_width(
    figures: Sequence[Figure], widths: Sequence[int], batch: int, seconds: float
) -> int | None:
    """Channels of the widest teacher that sees `ENOUGH_IMAGES` in `seconds` of ordinary steps, else
    of the fastest one; None if no step was measured.
    """
    images = {}
    for channels in widths:
        name = f"teacher step, {channels} channels"
        found = [find_value(figures, name, mode) for mode in ("default", "off")]
        step_ms = next((value for value in found if value is not None), None)
        if step_ms is not None:
            images[channels] = batch * seconds / (step_ms / 1e3)
    enough = [channels for channels, count in images.items() if count >= ENOUGH_IMAGES]
    return max(enough, default=max(images, key=images.__getitem__, default=None))


def choose_compilation(
    figures: Sequence[Figure], methods: Sequence[str]
) -> tuple[str, dict[str, float]]:
    """The mode of torch.compile in which all `methods` were timed, and the milliseconds of their
    steps: `default` if that ended in time, else `off`.

    Raises:
        PartError: if neither did.
    """
    for mode in ("default", "off"):
        found = {method: find_value(figures, f"{method}: step", mode) for method in methods}
        timed = {method: value for method, value in found.items() if value}
        if len(timed) == len(methods):
            return mode, timed
    raise PartError("failed", "no step of every method was timed")


def equal_views(
    views: Mapping[str, int], step_s: Mapping[str, float], epoch_steps: int, seconds: float
) -> dict[str, int]:
    """Epochs of each method, as many as `seconds` allow the slower one, at least those of one
    common multiple; views per step times epochs is the same for all.

    Args:
        views: method -> views per step.
        step_s: method -> seconds per step.
        epoch_steps: steps of an epoch.
        seconds: for each training.
    """
    common = math.lcm(*views.values())
    unit = {method: common // count for method, count in views.items()}
    unit = {method: count // math.gcd(*unit.values()) for method, count in unit.items()}
    slowest_s = max(unit[method] * epoch_steps * step_s[method] for method in unit)
    times = max(1, int(seconds / slowest_s))
    return {method: times * count for method, count in unit.items()}


def find_teacher(folder: Path) -> Path:
    """The teacher that a training left in `folder`, else its last snapshot.

    Raises:
        PartError: if there is neither.
    """
    snapshots = sorted(path.parent for path in (folder / SNAPSHOTS).glob(f"*/{TEACHER_FILE}"))
    if (folder / TEACHER_FILE).exists():
        return folder
    if not snapshots:
        raise PartError("failed", "no teacher, and no snapshot of one; see its log")
    return snapshots[-1]
