"""What a sweep goes over: the snapshots of a teacher's training, or sizes of the pool; and the
trainings at each point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.studies.cells import Cell
from pipeline.teacher.description import (
    GENERATOR_FILE,
    SNAPSHOTS,
    TEACHER_FILE,
    read_teacher_info,
)
from shards.errors import UserError

SWEEPS = "sweeps"
_MAX_SIZES = 5
ONLINE = "online"


@dataclass(frozen=True)
class Point:
    """A teacher, and how many of its samples are cached; None: rendered for every step."""

    teacher_name: str
    teacher: Path
    pool_size: int | None

    @property
    def row(self) -> str:
        """Names its trainings. The sweeps share those that they have in common."""
        pool = ONLINE if self.pool_size is None else f"pool{self.pool_size}"
        return f"{self.teacher_name}-{pool}"


@dataclass(frozen=True)
class Snapshot:
    """A teacher as it was after some images, and the distances of its images to the real ones."""

    name: str
    folder: Path
    images_seen: int
    frechet_distance: float
    kernel_distance: float
    feature_space: str
    num_images: int
    """Generated images that were compared."""


def read_snapshots(folder: Path) -> list[Snapshot]:
    """Those of the teacher in `folder` in the order of its training, and itself, each network once;
    none if its training kept none.

    Raises:
        UserError: if their distances were not measured, or in different feature spaces.
    """
    kept = sorted(path.parent for path in (folder / SNAPSHOTS).glob(f"*/{TEACHER_FILE}"))
    if not kept:
        return []
    found: dict[str, Snapshot] = {}
    for place in [*kept, folder]:
        info = read_teacher_info(place)
        quality = info.origin.get("quality")
        if not quality:
            raise UserError(
                f"{place / TEACHER_FILE}: no distance to the real images was measured; train a "
                "teacher with teacher.quality_images=5000"
            )
        snapshot = Snapshot(
            name="teacher" if place == folder else place.name,
            folder=place,
            images_seen=info.origin["images_seen"],
            num_images=info.origin["config"]["quality_images"],
            **quality,
        )
        found.setdefault(info.digests[GENERATOR_FILE], snapshot)
    first, *others = found.values()
    for other in others:
        if other.feature_space != first.feature_space:
            raise UserError(
                f"{other.folder} and {first.folder}: distances in different feature spaces "
                f"({other.feature_space}; {first.feature_space}); train the teacher again"
            )
    return list(found.values())


def quality_points(base: Config, snapshots: Sequence[Snapshot]) -> list[Point]:
    """One for each of `snapshots`, all with the pool size, or the rendering, of `base`."""
    size = base.generate.num_samples if base.train.source == "cached" else None
    return [Point(snapshot.name, snapshot.folder, size) for snapshot in snapshots]


def pool_points(base: Config) -> list[Point]:
    """Pool sizes in rising order, then online."""
    sizes = [*choose_sizes(base), None]
    return [Point("teacher", base.teacher_folder, size) for size in sizes]


def choose_sizes(base: Config) -> list[int]:
    """`sweep.pool_sizes` or, where that is unset, quarters of quarters of the pool, rising."""
    if base.sweep.pool_sizes is not None:
        return list(base.sweep.pool_sizes)
    sizes = [base.generate.num_samples]
    while len(sizes) < _MAX_SIZES and sizes[-1] // 4 >= base.train.num_synthetic:
        sizes.append(sizes[-1] // 4)
    return sizes[::-1]


def list_cells(path: Path, changes: Sequence[str], points: Sequence[Point]) -> list[Cell]:
    """Every training of a sweep, all points of one seed before the next."""
    base = load_config(path, changes)
    if not (base.train.reads_pool or base.train.renders):
        raise UserError(
            f"{path}: train.method and train.images leave no synthetic samples to train on; a "
            "sweep needs some"
        )
    cells = []
    for seed in base.sweep.seeds:
        for point in points:
            overrides = [
                f"name={point.row}-seed{seed}",
                f"train.seed={seed}",
                f"train.source={ONLINE if point.pool_size is None else 'cached'}",
                f"paths.runs={(base.run_dir / SWEEPS).absolute()}",
                f"teacher.checkpoint={point.teacher.absolute()}",
                "eval.baselines=false",
                "eval.embedding_samples=0",
            ]
            if point.pool_size is not None:
                overrides.append(f"generate.num_samples={point.pool_size}")
            if base.sweep.epochs is not None:
                overrides.append(f"train.epochs={base.sweep.epochs}")
            cells.append(Cell(point.row, seed, load_config(path, [*changes, *overrides])))
    return cells
