"""How much quicker two single-thread workers render than one: the digits' teacher, on Ray, shards
written to the disk.

Neighbours: `__main__.py` prints it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.processes import timed
from benchmarks.scale.run import digits_config
from pipeline.cluster import connection
from pipeline.generate import stage
from pipeline.generate.plan import make_plan
from pipeline.teacher.description import Teacher, read_teacher_info

_WARM_UP = 4


def take_workers(num_workers: int, num_shards: int) -> float:
    """Samples per second of `num_shards` with so many workers, each of which has rendered before;
    runs in a process of its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        num_warm_up = _WARM_UP * num_workers
        config = digits_config(Path(folder), num_warm_up + num_shards)
        ray_config = config.ray.model_copy(update={"render_workers": num_workers})
        teacher = Teacher(config.teacher_folder, config.teacher.factory)
        info = read_teacher_info(config.teacher_folder)
        connection.connect(ray_config)
        plan = make_plan(config.generate, info, config.store)
        missing = list(plan.missing.items())
        stage.fill(plan, teacher, ray_config, dict(missing[:num_warm_up]))
        left = dict(missing[num_warm_up:])
        _, seconds = timed(lambda: stage.fill(plan, teacher, ray_config, left))
        connection.disconnect()
    return num_shards * plan.recipe.samples_per_shard / seconds


def scaling_efficiency(rates: dict[int, float]) -> dict[int, float]:
    """Rate per worker, by the number of workers, as a share of one worker's."""
    return {workers: rate / rates[1] / workers for workers, rate in rates.items()}
