"""`python -m pipeline generate CONFIG`: renders the shards that the pool lacks, on Ray.

The driver keeps a bounded number of shards in flight, reads every result and is the only writer of
the manifest. Ray retries a shard whose worker died or whose write failed; any other failure stops
the run, naming the shard.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from pipeline import cluster
from pipeline.config import Config
from pipeline.generate.plan import Plan, make_plan, write_recipe
from pipeline.progress import progress_bar
from pipeline.record import Recipe, Record, read_record, write_record
from pipeline.teacher.architecture import AnyGeneratorArchitecture, GeneratorArchitecture
from pipeline.teacher.description import GENERATOR_FILE, TeacherInfo, read_teacher_info
from shards.atomic import remove_stale
from shards.errors import UserError
from shards.manifest import Manifest, ShardInfo, write_manifest
from shards.reader import ShardReader

_MANIFEST_INTERVAL_S = 2.0
_MAX_RETRIES = 4


def find(config: Config) -> Record | None:
    """Record of this request if the pool has all of its shards."""
    info, plan = _plan(config)
    record = read_record(config.run_dir / "generate")
    if (
        record is None
        or plan.missing
        or record.fingerprint != _recipe(config, info, plan).fingerprint
    ):
        return None
    return record


def run(config: Config) -> None:
    """Render what is missing and leave the manifest and this run's record."""
    info, plan = _plan(config)
    started_at = time.time()
    shards = dict(plan.existing)
    write_recipe(plan)
    with progress_bar("samples") as bar:
        per_shard = plan.recipe.samples_per_shard
        total = (len(shards) + len(plan.missing)) * per_shard
        task = bar.add_task("generate", total=total, completed=len(shards) * per_shard, note="")
        written_at = time.monotonic()
        try:
            for index, shard in _render(config, plan):
                shards[index] = shard
                bar.advance(task, shard.num_samples)
                if time.monotonic() - written_at > _MANIFEST_INTERVAL_S:
                    write_manifest(plan.folder, Manifest(plan.schema, tuple(shards.values())))
                    written_at = time.monotonic()
        finally:
            write_manifest(plan.folder, Manifest(plan.schema, tuple(shards.values())))
    remove_stale(plan.folder, started_at)
    reader = ShardReader(
        plan.folder, remedy="run `make generate` again", num_samples=config.generate.num_samples
    )
    outputs = {
        "folder": str(plan.folder),
        "key": plan.recipe.key,
        "num_samples": config.generate.num_samples,
        "resolution": info.generator.resolution,
        "digest": reader.digest,
        "teacher": str(config.teacher_folder),
    }
    write_record(config.run_dir / "generate", _recipe(config, info, plan), outputs)


def describe(config: Config, record: Record) -> str:
    """One line for the terminal."""
    return f"{record.outputs['folder']}, {record.outputs['num_samples']:,} samples"


def _plan(config: Config) -> tuple[TeacherInfo, Plan]:
    info = read_teacher_info(config.teacher_folder)
    if info.generator.resolution != config.real.resolution:
        raise UserError(
            f"{config.teacher_folder}: renders {info.generator.resolution} px, but "
            f"real.resolution is {config.real.resolution}; set teacher.checkpoint=null and run "
            f"`make teacher`, or set real.resolution={info.generator.resolution}"
        )
    factory = config.teacher.factory
    if (info.generator.family == "module") != (factory is not None):
        raise UserError(
            "teacher.factory: "
            + ("only for a teacher of one's own code; leave it out" if factory else
               f"{config.teacher_folder} is one's own module; name its code as "
               "teacher.factory=package.module:callable")
        )  # fmt: skip
    return info, make_plan(config.generate, info, config.paths.store, factory)


def _recipe(config: Config, info: TeacherInfo, plan: Plan) -> Recipe:
    return Recipe.of(
        "generate",
        config.generate,
        {"teacher": plan.recipe.generator_sha256, "pool": plan.recipe.key},
    )


def _render(config: Config, plan: Plan) -> Iterator[tuple[int, ShardInfo]]:
    """Render the missing shards in any order; yields (shard index, its manifest row)."""
    if not plan.missing:
        return
    if config.ray.render_workers == 0:
        yield from _render_here(config, plan)
    else:
        yield from _render_on_ray(config, plan)


def _render_here(config: Config, plan: Plan) -> Iterator[tuple[int, ShardInfo]]:
    from pipeline.device import choose_device
    from pipeline.generate.render import DTYPES, render_shard
    from pipeline.teacher.checkpoint import load_generator

    generator = load_generator(config.teacher_folder, config.teacher.factory)
    generator.to(choose_device(config.ray.device))
    generator.set_precision(DTYPES[plan.recipe.precision])
    for index in plan.missing:
        yield index, render_shard(generator, plan.recipe, plan.schema, plan.folder, index)


def _render_on_ray(config: Config, plan: Plan) -> Iterator[tuple[int, ShardInfo]]:
    cluster.connect(config.ray)
    import ray
    from safetensors.numpy import load_file

    weights = ray.put(load_file(config.teacher_folder / GENERATOR_FILE))
    task = ray.remote(_render_task).options(
        num_cpus=1,
        num_gpus=config.ray.gpus_per_worker,
        max_retries=_MAX_RETRIES,
        retry_exceptions=[OSError],
    )
    folder = plan.folder.resolve()
    waiting = iter(plan.missing)
    in_flight: dict[Any, int] = {}

    def submit() -> None:
        for index in waiting:
            reference = task.remote(
                [weights], plan, str(folder), index, config.ray.device, config.teacher.factory
            )
            in_flight[reference] = index
            return

    try:
        for _ in range(2 * config.ray.render_workers):
            submit()
        while in_flight:
            finished, _ = ray.wait(list(in_flight), num_returns=1, timeout=1)  # lets signals in
            if not finished:
                continue
            (done,) = finished
            index = in_flight.pop(done)
            yield index, _result(done, plan, index)
            submit()
    finally:
        for reference in in_flight:
            ray.cancel(reference)


def _result(reference: Any, plan: Plan, index: int) -> ShardInfo:
    import ray

    try:
        result: ShardInfo = ray.get(reference)
        return result
    except UserError as error:
        raise UserError(str(getattr(error, "cause", error))) from None
    except OSError as error:
        cause = getattr(error, "cause", error)
        raise UserError(
            f"{plan.folder}: shard {index} cannot be written ({cause}); make room or mend the "
            "rights"
        ) from None
    except ray.exceptions.WorkerCrashedError:
        raise RuntimeError(
            f"shard {index} of {plan.folder}: its renderer died {_MAX_RETRIES + 1} times"
        ) from None
    except Exception as error:
        error.add_note(f"while rendering shard {index} of {plan.folder}")
        raise


def _render_task(
    weights: list[Any], plan: Plan, folder: str, index: int, device: str, factory: str | None
) -> ShardInfo:
    """Runs in a Ray worker; the reference travels in a list so that Ray does not fetch the weights
    every time.
    """
    from pipeline.generate.render import render_shard

    recipe = plan.recipe
    architecture = json.dumps(recipe.architecture)
    generator = _load_generator(weights[0], architecture, device, recipe.precision, factory)
    return render_shard(generator, recipe, plan.schema, Path(folder), index)


@lru_cache(maxsize=1)
def _load_generator(
    weights: Any, architecture: str, device: str, precision: str, factory: str | None
) -> Any:
    """The generator of this worker process, built once."""
    import ray
    import torch

    from pipeline.device import choose_device
    from pipeline.generate.render import DTYPES
    from pipeline.teacher.checkpoint import build_generator

    arch: GeneratorArchitecture = TypeAdapter(AnyGeneratorArchitecture).validate_json(architecture)
    tensors = {name: torch.tensor(array) for name, array in ray.get(weights).items()}
    generator = build_generator(arch, tensors, factory).to(choose_device(device))
    generator.set_precision(DTYPES[precision])
    return generator
