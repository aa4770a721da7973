"""The parts of `python -m benchmarks.accelerator train`: images, a teacher, a pool, and students of
two methods at equal views with their probes.
"""

from __future__ import annotations

import json
import math
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.accelerator.choices import (
    choose_compilation,
    choose_width,
    equal_views,
    find_teacher,
)
from benchmarks.accelerator.findings import Findings, find_value, read_figures
from benchmarks.accelerator.images import prepare_images
from benchmarks.accelerator.parts import Clock, Part, PartError
from benchmarks.accelerator.place import METHODS, Place, method_file, of_width
from pipeline.config.root import Config
from pipeline.engine.metrics import read_metrics
from pipeline.generate.plan import make_plan
from pipeline.records.products import Pool, RealImages, Student
from pipeline.records.record import P, read_record
from pipeline.teacher.architectures.stylegan2 import StyleGAN2Architecture
from pipeline.teacher.description import read_teacher_info

BASE = "base"
"""The run that has images, teacher and pool."""
_TOY_IMAGES = 128  # of every class
_STARTING_S = 22.0  # of a training: imports, shards, networks that are compiled already
_COMPILING_S = 45.0  # of two methods' networks and views
_SAFETY = 0.85
_RECORDING_S = 10.0
_CURVE_POINTS = 100


@dataclass(frozen=True)
class Limits:
    """Seconds of each part, 447 together; and the most that a student trains, its start not
    counted.
    """

    images: float = 50
    teacher: float = 110
    pool: float = 30
    methods: float = 65
    student: float = 70
    probe: float = 26
    training: float = math.inf


TOY_LIMITS = Limits(60, 10, 60, 90, 90, 60, training=3)  # for a CPU that others use, too


@dataclass
class Road:
    """From images to probes; what a part leaves for those after it is kept here."""

    place: Place
    findings: Findings
    limits: Limits
    data: Path
    teacher: Path | None = None
    pool_size: int | None = None
    compile: str = "off"
    epochs: dict[str, int] = field(default_factory=dict)

    def parts(self) -> list[Part]:
        """All parts, in order."""
        limits = self.limits
        students = [
            part
            for method in METHODS
            for part in (
                Part(method, limits.student, partial(self.train_student, method)),
                Part(f"{method}-probe", limits.probe, partial(self.probe_student, method)),
            )
        ]
        return [
            Part("images", limits.images, self.pack_images),
            Part("teacher", limits.teacher, self.train_teacher),
            Part("pool", limits.pool, self.render_pool),
            Part("methods", limits.methods, self.choose_epochs),
            *students,
        ]

    def pack_images(self, clock: Clock) -> str:
        """Archive -> class folders -> shards."""
        since = time.monotonic()
        per_class = _TOY_IMAGES if self.place.setting.is_toy else None
        prepare_images(self.data, self.place.folder / "images", per_class)
        if not self.place.run_stage("real", BASE, clock):
            raise PartError("out of time", "stopped")
        seconds = time.monotonic() - since
        self.findings.add("images: unpacked and packed", seconds, "s")
        return f"{self._num_real():,} train images"

    def train_teacher(self, clock: Clock) -> str:
        """A teacher, stopped in time."""
        self._require("real", RealImages)
        setting = self.place.setting
        batch = setting.config().teacher.global_batch
        seconds = max(self.limits.teacher - _STARTING_S - _RECORDING_S, 0.0)
        channels = choose_width(self.place.earlier_figures(), setting.widths, batch, seconds)
        changes = () if channels is None else of_width(channels)
        problem = None
        try:
            self.place.run_stage("teacher", BASE, clock, changes)
        except PartError as error:
            problem = error  # a snapshot may be there, which is enough for what follows
        folder = self._config(*changes).trained_teacher_folder
        self.teacher = find_teacher(folder)
        metrics = read_metrics(folder / "metrics.jsonl")
        write_json(self.place.results / "teacher-curve.json", {"curve": thin(metrics)})
        grids = sorted(folder.glob("samples*.png"), key=lambda path: path.stat().st_mtime)
        if grids:
            shutil.copy(grids[-1], self.place.results / "teacher.png")
        seen = read_teacher_info(self.teacher).origin["images_seen"]
        distances = [row["frechet_distance"] for row in metrics if "frechet_distance" in row]
        self.findings.add("teacher: channels", self._channels(), "")
        self.findings.add("teacher: images seen", seen, "")
        if distances:
            self.findings.add("teacher: last Fréchet distance (not FID)", distances[-1], "")
        if problem is not None:
            raise problem
        return f"{seen:,} images, {self._channels()} channels"

    def render_pool(self, clock: Clock) -> str:
        """As many samples as there is time for."""
        if self.teacher is None:
            raise PartError("skipped", "no teacher")
        since = time.monotonic()
        first = Clock(clock.deadline - _RECORDING_S)
        changes = [f"teacher.checkpoint={self.teacher}"]
        is_done = self.place.run_stage("generate", BASE, first, changes)
        size = self._config(*changes).generate.num_samples if is_done else self._count_samples()
        seconds = time.monotonic() - since
        if not is_done and (
            not size
            or not self.place.run_stage(
                "generate", BASE, clock, [*changes, f"generate.num_samples={size}"]
            )
        ):
            raise PartError("out of time", "not even one shard")
        self.pool_size = size
        self.findings.add("pool: samples", size, "")
        self.findings.add("pool: rendered, drawn and written, start included", size / seconds, "/s")
        return f"{size:,} samples"

    def choose_epochs(self, clock: Clock) -> str:
        """As many as there is time for, at equal views."""
        channels = of_width(self._require_pool())
        self.place.run_piece("methods", Clock(clock.deadline - _COMPILING_S), channels, "off")
        if not self.place.setting.is_toy:  # whose CPU compiles for minutes
            with suppress(PartError):  # then students are not compiled
                self.place.run_piece("methods", clock, channels, "default")
        figures = read_figures(self.place.results)
        self.compile, step_ms = choose_compilation(figures, METHODS)
        step_s = {method: value / 1e3 for method, value in step_ms.items()}
        views = {method: round(find_value(figures, f"{method}: views") or 0) for method in METHODS}
        after = len(METHODS) * self.limits.student
        available = (clock.left_s() + after) / len(METHODS) - _STARTING_S
        seconds = min(_SAFETY * available, self.limits.training)
        steps = self._config().train.steps_per_epoch(self._num_real())
        self.epochs = equal_views(views, step_s, steps, seconds)
        return ", ".join(f"{method} {count} epochs" for method, count in self.epochs.items())

    def train_student(self, method: str, clock: Clock) -> str:
        """The student, by a schedule that ends in time."""
        self._require_pool()
        if method not in self.epochs:
            raise PartError("skipped", "no number of epochs")
        for record in ("real", "generate"):
            source, target = (self.place.runs / run / record for run in (BASE, method))
            shutil.copytree(source, target, dirs_exist_ok=True)
        since = time.monotonic()
        if not self.place.run_stage("train", method, clock, self._changes(method)):
            raise PartError("out of time", "stopped before its schedule was over")
        seconds = time.monotonic() - since
        config = self._config(*self._changes(method))
        num_steps = config.train.epochs * config.train.steps_per_epoch(self._num_real())
        figures = read_figures(self.place.results)
        views = num_steps * (find_value(figures, f"{method}: views") or 0)
        self.findings.add(f"{method}: epochs", config.train.epochs, "")
        self.findings.add(f"{method}: views in all", views, "")
        self.findings.add(f"{method}: trained, start included", seconds, "s")
        return f"{num_steps:,} steps"

    def probe_student(self, method: str, clock: Clock) -> str:
        """kNN and the paper's linear probe, of few epochs."""
        folder = self.place.runs / method
        if read_record(folder / "train", Student) is None:
            raise PartError("skipped", "no student")
        if not self.place.run_stage("eval", method, clock, self._changes(method)):
            raise PartError("out of time", "stopped")
        rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        metrics = read_metrics(folder / "train" / "metrics.jsonl")
        train = self._config(*self._changes(method)).train.model_dump(mode="json")
        content = {"config": train, "results": rows, "curve": thin(metrics)}
        write_json(self.place.results / f"{method}-results.json", content)
        notes = []
        for row in rows:
            if row["labels"] == "all":
                self.findings.add(f"{method}: {row['probe']} top-1", row["top1_mean"], "%")
                notes.append(f"{row['probe']} {row['top1_mean']:.1f} %")
        return ", ".join(notes)

    def _changes(self, method: str) -> list[str]:
        return [
            str(method_file(method)),
            f"teacher.checkpoint={self.teacher}",
            f"generate.num_samples={self.pool_size}",
            f"train.epochs={self.epochs.get(method, 1)}",
            f"hardware.compile={self.compile}",
        ]

    def _config(self, *changes: str) -> Config:
        return self.place.setting.config([*changes, *self.place.overrides(BASE)])

    def _num_real(self) -> int:
        return int(self._require("real", RealImages).num_samples["train"])

    def _require(self, stage: str, product: type[P]) -> P:
        record = read_record(self.place.runs / BASE / stage, product)
        if record is None:
            raise PartError("skipped", {"real": "no images", "generate": "no pool"}[stage])
        return record.outputs

    def _require_pool(self) -> int:
        """Channels of the pool's teacher; raises `PartError` without a pool."""
        self._require("generate", Pool)
        if self.teacher is None or self.pool_size is None:
            raise PartError("skipped", "no pool")
        return self._channels()

    def _channels(self) -> int:
        """Of the teacher, in every block."""
        assert self.teacher is not None
        arch = read_teacher_info(self.teacher).generator
        assert isinstance(arch, StyleGAN2Architecture)
        return arch.num_channels(arch.resolution)

    def _count_samples(self) -> int:
        """Samples of the shards that are there, up to the first gap."""
        assert self.teacher is not None
        config = self._config(f"teacher.checkpoint={self.teacher}")
        plan = make_plan(config.generate, read_teacher_info(self.teacher), config.store)
        return min(plan.missing, default=plan.num_shards) * plan.recipe.samples_per_shard


def thin(metrics: list[dict[str, float]]) -> list[dict[str, float]]:
    """Some lines of many, the last one among them."""
    every = max(1, len(metrics) // _CURVE_POINTS)
    return metrics[::-1][::every][::-1]


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Leave `content` for the pack."""
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
