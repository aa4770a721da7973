"""Runs of `generate`, as the stage makes them, on an embedded Ray.

`take_run` leaves the rendering out: plan, claims, Ray tasks, manifest and record are the stage's
own, and only the task's body is replaced, by one that leaves empty files of the right sizes. What
remains is what the driver costs. `take_workers` renders, with one worker or several.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.measure import ROOT, peak_mb, resident_mb, timed
from pipeline.cluster import connection
from pipeline.config.file import load_config
from pipeline.config.root import Config
from pipeline.generate import stage
from pipeline.generate.plan import PoolRecipe, make_plan
from pipeline.generate.render import RenderedShard
from pipeline.teacher.description import Teacher, read_teacher_info
from shards.manifest import ShardInfo, shard_name
from shards.schema import Schema
from shards.storage import Folder

_WARM_UP = {"run": 16, "workers": 4}
_BARE_TASKS = 2000


@dataclass(frozen=True)
class RunTurn:
    """What one run found."""

    num_shards: int
    plan_s: float
    """Comparing the request with an empty store."""
    run_s: float
    """The whole stage, Ray and its workers being up."""
    hit_s: float
    """Finding that there is nothing to do, afterwards."""
    grown_mb: float
    """The driver's memory at most, above what it held when Ray was up."""
    peak_mb: float
    bare_tasks_per_s: float
    """Ray tasks that do nothing, with as many in flight and nothing else around them."""


def take_run(num_shards: int) -> RunTurn:
    """`generate` for `num_shards` of the digits' recipe; runs in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        config = digits_config(Path(folder), num_shards)
        teacher = Teacher(config.teacher_folder, config.teacher.factory)
        info = read_teacher_info(config.teacher_folder)
        connection.connect(config.ray)
        with mock.patch.object(stage, "_render_task", leave_empty_files):
            warm_up = make_plan(config.generate, info, config.store / "warm-up")
            missing = dict(list(warm_up.missing.items())[: _WARM_UP["run"]])
            stage.fill(warm_up, teacher, config.ray, missing)
            before = resident_mb()
            _, plan_s = timed(lambda: make_plan(config.generate, info, config.store).missing)
            _, run_s = timed(lambda: stage.run(config))
        found, hit_s = timed(lambda: stage.find(config))
        if found is None:
            raise RuntimeError("the run did not leave what it was asked for")
        peak = peak_mb()
        _, bare_s = timed(lambda: _run_bare_tasks(2 * int(config.ray.render_workers)))
        connection.disconnect()
    return RunTurn(num_shards, plan_s, run_s, hit_s, peak - before, peak, _BARE_TASKS / bare_s)


def take_workers(num_workers: int, num_shards: int) -> float:
    """Samples per second of `num_shards` with so many single-thread workers, each of which has
    rendered before; runs in a process of its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        num_warm_up = _WARM_UP["workers"] * num_workers
        config = digits_config(Path(folder), num_warm_up + num_shards)
        ray_config = config.ray.model_copy(update={"render_workers": num_workers})
        teacher = Teacher(config.teacher_folder, config.teacher.factory)
        connection.connect(ray_config)
        plan = make_plan(config.generate, read_teacher_info(config.teacher_folder), config.store)
        missing = list(plan.missing.items())
        stage.fill(plan, teacher, ray_config, dict(missing[:num_warm_up]))
        left = dict(missing[num_warm_up:])
        _, seconds = timed(lambda: stage.fill(plan, teacher, ray_config, left))
        connection.disconnect()
    return num_shards * plan.recipe.samples_per_shard / seconds


def digits_config(folder: Path, num_shards: int) -> Config:
    """The shipped digits, with a pool of so many shards, all under `folder`."""
    path = ROOT / "configs" / "digits.yaml"
    changes = [
        f"generate.num_samples={num_shards * load_config(path).generate.samples_per_shard}",
        f"paths.store={folder / 'store'}",
        f"paths.runs={folder / 'runs'}",
        f"teacher.checkpoint={ROOT / 'teachers' / 'digits'}",
    ]
    return load_config(path, changes)


def leave_empty_files(
    weights: list[Any],
    recipe: PoolRecipe,
    folder: Folder,
    schemas: Mapping[str, Schema],
    index: int,
    *_: object,
) -> RenderedShard:
    """In place of the stage's task: files of holes, in no time."""
    count = recipe.samples_per_shard
    shards = {
        name: leave_empty_file(folder / name, schema, index * count, count)
        for name, schema in schemas.items()
    }
    return RenderedShard(index, shards, 0.0, 0.0)


def leave_empty_file(
    folder: Folder, schema: Schema, start: int, count: int, blocks: bytes | None = None
) -> ShardInfo:
    """A shard of holes and its manifest row: `count` samples from `start` on, of `blocks` where
    their sizes differ.
    """
    name = shard_name(start // count)
    num_bytes = int(schema.sample_offsets(count, blocks)[-1]) + 1024
    folder.path.mkdir(parents=True, exist_ok=True)
    with (folder.path / name).open("wb") as file:
        file.truncate(num_bytes)
    digest = hashlib.sha256(f"{folder.name}/{name}".encode()).hexdigest()
    return ShardInfo(name, start, count, num_bytes, digest, blocks, time.time())


def _run_bare_tasks(in_flight: int) -> None:
    import ray

    task = ray.remote(_do_nothing).options(num_cpus=1)
    pending: set[Any] = set()
    for _ in range(_BARE_TASKS):
        if len(pending) == in_flight:
            done = connection.wait_for_any(pending)
            ray.get(done)
            pending.difference_update(done)
        pending.add(task.remote())
    ray.get(list(pending))


def _do_nothing() -> None:
    pass
