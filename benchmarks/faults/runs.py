"""Commands of the pipeline on host 1, and digests of what they leave."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.faults.hosts import command_on, environment
from benchmarks.measure import ROOT
from pipeline.engine.metrics import read_metrics
from pipeline.engine.state import load_state
from pipeline.records.digests import file_digest
from pipeline.train.loop import CHECKPOINT_FILE
from shards.errors import UserError
from shards.manifest import MANIFEST_FOLDER, read_manifest
from shards.storage import Folder

SMALL = (
    "generate.num_samples=40000",
    "generate.samples_per_shard=1000",
    "ray.render_workers=3",
    "train.epochs=20",
    "train.learning_rate=0.05",
    "train.student.width=4",
    "train.student.embedding_dim=64",
    "ray.train_workers=2",
    "eval.seeds=[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]",
    "eval.domain_samples=500",
    "eval.embedding_samples=0",
)
"""configs/digits.yaml made small: 40 shards, 100 steps."""
_STAGES = {
    "real": (),
    "generate": (),
    "train": ("real", "generate"),
    "eval": ("real", "generate", "train"),
}
"""What each stage finds done."""
_NUM_IMAGES = 10_000
_PATIENCE_S = 150.0
_LIMIT_S = 540.0


@dataclass(frozen=True)
class RunFolders:
    """A run's folders; `root` is shared by all runs of the benchmark, and seen by all hosts."""

    root: Path
    name: str
    store: str

    @property
    def run_dir(self) -> Path:
        """Folder of the run."""
        return self.root / "runs" / self.name

    @property
    def checkpoint(self) -> Path:
        """File that a training goes on from."""
        return self.run_dir / "train" / CHECKPOINT_FILE

    def arguments(self, stage: str, overrides: tuple[str, ...]) -> list[str]:
        """The command without the interpreter."""
        paths = (f"name={self.name}", f"paths.store={self.store}", f"paths.runs={self.root}/runs")
        cache = f"paths.cache={self.root}/cache"
        images = self._images() if stage == "real" and self.name != "base" else ()
        config = ("configs/digits.yaml", *SMALL, *images)
        return ["-m", "pipeline", stage, *config, *overrides, *paths, cache]

    def _images(self) -> tuple[str, ...]:
        """Those that are packed, into 40 shards."""
        size = f"real.samples_per_shard={_NUM_IMAGES // 40}"
        source = ("real.source=folder", f"real.train={self.root / 'images'}")
        return (*source, "real.resolution=32", size, "ray.pack_workers=3")

    def num_shards(self) -> int:
        """Shards of images that there are so far, of a pool or of real ones."""
        return len(
            [
                path
                for pattern in ("teacher/*/images", "real/*/train")
                for path in Path(self.store).glob(f"{pattern}/shard-*.tar")
            ]
        )

    def metrics(self) -> list[dict[str, float]]:
        """Lines of metrics that the training has written."""
        return read_metrics(self.run_dir / "train" / "metrics.jsonl")

    def num_lines(self) -> int:
        """How many of them."""
        return len(self.metrics())


def prepare_base(root: Path, stages: set[str]) -> None:
    """Do once, in single processes, what the `stages` under test find done."""
    if "real" in stages:
        _write_images(root / "images")
    base = RunFolders(root, "base", str(root / "store"))
    alone = ("ray.render_workers=0", "ray.train_workers=1")
    earlier = {done for stage in stages for done in _STAGES[stage]}
    for stage in (stage for stage in ("real", "generate", "train") if stage in earlier):
        command = [sys.executable, *base.arguments(stage, alone)]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise UserError(f"{stage}: {done.stdout[-500:]}{done.stderr[-500:]}")


def _write_images(folder: Path) -> None:
    """Photograph-like JPEGs of 384 px, 20 different ones."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    contents = []
    for _ in range(20):
        coarse = generator.integers(0, 256, (48, 48, 3)).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((384, 384)).save(file, "JPEG", quality=90)
        contents.append(file.getvalue())
    for number in range(_NUM_IMAGES):
        (folder / f"{number:06d}.jpg").write_bytes(contents[number % len(contents)])


def make_place(root: Path, name: str, stage: str, store: str | None = None) -> RunFolders:
    """A fresh run in which the stages before `stage` are done."""
    earlier = _STAGES[stage]
    place = RunFolders(root, name, store or str(root / ("store" if earlier else f"store-{name}")))
    for done in earlier:
        shutil.copytree(root / "runs" / "base" / done, place.run_dir / done)
    return place


class RunningStage:
    """A stage at work on host 1."""

    def __init__(self, place: RunFolders, stage: str, overrides: tuple[str, ...]) -> None:
        self.place, self.stage, self.overrides = place, stage, overrides
        self._log = place.root / f"{place.name}.log"
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                command_on(1, sys.executable, *place.arguments(stage, overrides)),
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._started_at = time.monotonic()

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started_at

    @property
    def last_line(self) -> str:
        """Of what it said, for what failed."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line[:200] for line in reversed(lines) if line.strip()), "nothing")

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Return once `condition` holds; raises if the command ends before or takes too long."""
        while not condition():
            if self.process.poll() is not None or self.age_s > _PATIENCE_S:
                raise RuntimeError(f"ended before it was disturbed, said {self.last_line}")
            time.sleep(0.05)

    def result(self) -> int:
        """Exit code; waits for the end, and ends what takes too long (code -9)."""
        try:
            return self.process.wait(max(_LIMIT_S - self.age_s, 1))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def digests(place: RunFolders, stage: str) -> dict[str, str]:
    """SHA-256 of what `stage` left, by name: every shard as its manifest has it and as it is, the
    student, or the results.
    """
    if stage not in ("real", "generate"):
        name = "train/student.safetensors" if stage == "train" else "results.json"
        path = place.run_dir / name
        return {name: file_digest(path)} if path.exists() else {}
    kind = "teacher" if stage == "generate" else "real"
    pools, found = Folder.at(place.store) / kind, {}
    for folder in (
        pools / key / name for key in pools.list_folders() for name in _sets(pools / key)
    ):
        manifest = read_manifest(folder)
        for shard in manifest.shards if manifest else ():
            is_right = hashlib.sha256(folder.read(shard.name)).hexdigest() == shard.sha256
            found[f"{folder.name}/{shard.name}"] = shard.sha256 if is_right else "damaged"
    return found


def _sets(pool: Folder) -> list[str]:
    return [name for name in pool.list_folders() if MANIFEST_FOLDER in (pool / name).list_folders()]


def saved_steps(place: RunFolders) -> int:
    """Steps that are in the training's checkpoint."""
    state = load_state(place.checkpoint, torch.device("cpu"))
    return 0 if state is None else int(state["samples_seen"]) // 256


def largest_difference(place: RunFolders, other: RunFolders) -> float:
    """Largest relative difference of the losses of two trainings, line by line; infinite where
    they have other lines.
    """
    ours, theirs = (
        {row["samples_seen"]: row["loss"] for row in run.metrics()} for run in (place, other)
    )
    if ours.keys() != theirs.keys() or not ours:
        return float("inf")
    return max(abs(ours[seen] - theirs[seen]) / abs(theirs[seen]) for seen in ours)
