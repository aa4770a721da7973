"""`python -m pipeline generate CONFIG`: renders the shards that the pool lacks, on Ray.

The driver keeps a bounded number of shards in flight, reads every result and writes the manifest.
Ray retries a shard whose worker died or whose write failed; any other failure stops the run, naming
the shard. Several runs may work on one pool: `shards/claims.py` keeps them out of each other's way.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from pipeline.cluster import monitoring
from pipeline.cluster.tasks import Places, fetch, run_tasks, share, spare_retries
from pipeline.config.ray import RayConfig
from pipeline.config.root import Config
from pipeline.generate.plan import (
    TEACHER_POOLS,
    Origin,
    Plan,
    PoolRecipe,
    is_origin_of,
    make_plan,
    make_recipe,
    write_origin,
)
from pipeline.records.products import Pool, PoolShards
from pipeline.records.record import Record, read_record, write_record
from pipeline.records.spec import Spec
from pipeline.teacher.architecture import AnyGeneratorArchitecture, GeneratorArchitecture
from pipeline.teacher.description import GENERATOR_FILE, Teacher, TeacherInfo, read_teacher_info
from pipeline.terminal.progress import progress_bar
from shards.claims import Claims, remove_leftovers
from shards.errors import UserError
from shards.schema import Schema
from shards.storage import Folder
from shards.work import Place, Work

if TYPE_CHECKING:
    from pipeline.generate.render import RenderedShard, StartedShard

_POLL_S = 1.0


def find(config: Config) -> Record[Pool] | None:
    """Record of this request if the pool has all of its shards."""
    record = read_record(config.run_dir / "generate", Pool)
    info, plan = _plan(config)
    if (
        record is None
        or Folder.at(record.outputs.folder) != plan.folder
        or plan.missing
        or not is_origin_of(plan)
        or record.fingerprint != _spec(config, info, plan).fingerprint
    ):
        return None
    return record


def run(config: Config) -> None:
    """Render what is missing and leave the manifest and this run's record."""
    info, plan = _plan(config)
    teacher = Teacher(config.teacher_folder, config.teacher.factory)
    write_origin(plan.folder, Origin.of(plan.recipe, teacher))
    waiting_share = fill(plan, teacher, config.ray, device=config.hardware.device)
    remove_leftovers(plan.folder, (shards.name for shards in plan.sets))
    num_samples = config.generate.num_samples
    feature_sets = tuple(plan.feature_sets)
    pool = PoolShards(plan.folder, feature_sets, num_samples, config.cache).open()
    product = Pool(
        folder=f"{config.paths.store}/{TEACHER_POOLS}/{plan.recipe.key}",
        key=plan.recipe.key,
        num_samples=num_samples,
        features=plan.features,
        feature_sets=feature_sets,
        resolution=info.generator.resolution,
        digest=pool.digest,
        teacher=str(config.teacher_folder),
        waiting_for_writer=waiting_share,
    )
    write_record(config.run_dir / "generate", _spec(config, info, plan), product)


def describe(config: Config, record: Record[Pool]) -> str:
    """One line for the terminal."""
    pool = record.outputs
    share = pool.waiting_for_writer
    waited = "" if share is None else f", {100 * share:.1f} % of the time waiting for the writer"
    return f"{pool.folder}, {pool.num_samples:,} samples{waited}"


def fill(
    plan: Plan,
    teacher: Teacher,
    ray_config: RayConfig,
    missing: dict[int, tuple[str, ...]] | None = None,
    device: str = "auto",
) -> float | None:
    """Render what the pool lacks, or of that only `missing` (shard index -> sets), beside other
    runs that do the same, until all of it is in the manifest. Returns the share of the rendering
    time spent waiting for the writer, None if nothing was rendered.
    """
    missing = plan.missing if missing is None else missing
    if not missing:
        return None
    per_shard = plan.recipe.samples_per_shard
    total = max(plan.num_shards, len(missing))
    rendering_s = waiting_s = 0.0
    with Claims(plan.folder) as claims, progress_bar("samples") as bar:
        work = work_of(plan, claims, missing)
        done = total - len(work)
        task = bar.add_task(
            "generate", total=total * per_shard, completed=done * per_shard, note=""
        )

        def watch(in_hand: int) -> None:
            is_idle = len(work) > 0 and not in_hand
            completed = (total - len(work) - in_hand) * per_shard
            note = "waiting for another run on this pool" if is_idle else ""
            bar.update(task, completed=completed, note=note)

        try:
            render = _render_here if ray_config.render_workers == 0 else _render_on_ray
            with closing(render(plan, teacher, ray_config, device, work, watch)) as all_rendered:
                for rendered in all_rendered:
                    work.finish(rendered.index, rendered.shards)
                    rendering_s += rendered.rendering_s
                    waiting_s += rendered.waiting_s
                    monitoring.count("shards_rendered", 1, plan.recipe.key)
                    monitoring.count("samples_rendered", per_shard, plan.recipe.key)
                    share = waiting_s / max(rendering_s + waiting_s, 1e-9)
                    monitoring.show("writer_wait_share", share, plan.recipe.key)
        finally:
            work.flush()
    return waiting_s / (rendering_s + waiting_s) if rendering_s else None


def check(config: Config) -> None:
    """Whether the teacher, which is there, can render what the config asks: before other stages
    take their time.

    Raises:
        UserError: naming the field that it cannot follow.
    """
    info = _read_info(config)
    make_recipe(config.generate, info, config.teacher.factory)
    info.select(config.generate.features)


def work_of(plan: Plan, claims: Claims, missing: dict[int, tuple[str, ...]] | None = None) -> Work:
    """The shards that a plan lacks, or a part of them: `missing`, index -> sets."""
    per_shard = plan.recipe.samples_per_shard
    places = {
        shards.name: Place(
            plan.folder / shards.name, shards.schema, lambda shard: shard.start_index // per_shard
        )
        for shards in plan.sets
    }
    return Work(places, claims, plan.missing if missing is None else missing)


def _plan(config: Config) -> tuple[TeacherInfo, Plan]:
    info = _read_info(config)
    return info, make_plan(config.generate, info, config.store, config.teacher.factory)


def _read_info(config: Config) -> TeacherInfo:
    info = read_teacher_info(config.teacher_folder)
    factory = config.teacher.factory
    if (info.generator.family == "module") != (factory is not None):
        raise UserError(
            "teacher.factory: "
            + ("only for a teacher in your own code; leave it out" if factory else
               f"{config.teacher_folder} is a module in your own code; name it as "
               "teacher.factory=package.module:callable")
        )  # fmt: skip
    return info


def _spec(config: Config, info: TeacherInfo, plan: Plan) -> Spec:
    return Spec.of(
        "generate",
        config.generate,
        {"teacher": plan.recipe.generator_sha256, "pool": plan.recipe.key},
    )


Watch = Callable[[int], None]


def _render_here(
    plan: Plan, teacher: Teacher, ray_config: RayConfig, device: str, work: Work, watch: Watch
) -> Generator[RenderedShard]:
    from pipeline.engine.device import choose_device
    from pipeline.generate.render import ShardRenderer
    from pipeline.teacher.checkpoint import load_renderer

    generator = load_renderer(teacher, choose_device(device), plan.recipe.precision)
    with ShardRenderer(generator, plan.recipe, plan.folder) as renderer:
        earlier: StartedShard | None = None
        while len(work) or earlier is not None:
            item = work.next() if len(work) else None
            watch(int(item is not None) + int(earlier is not None))
            started = None if item is None else renderer.start(_schemas(plan, item[1]), item[0])
            if earlier is not None:
                yield earlier.result()
            elif started is None:
                time.sleep(_POLL_S)
            earlier = started
        watch(0)


def _render_on_ray(
    plan: Plan, teacher: Teacher, ray_config: RayConfig, device: str, work: Work, watch: Watch
) -> Generator[RenderedShard]:
    from safetensors.numpy import load_file

    places = Places(ray_config, "render", ray_config.render_workers)
    weights = [share(load_file(teacher.folder / GENERATOR_FILE), places)]

    def arguments(item: tuple[int, tuple[str, ...]]) -> tuple[Any, ...]:
        index, names = item
        schemas = _schemas(plan, names)
        return weights, plan.recipe, plan.folder, schemas, index, device, teacher

    with run_tasks(_render_task, work, arguments, places, retry_on=[OSError], watch=watch) as ended:
        for (index, _), answer in ended:
            what = f"shard {index} of {plan.folder}"
            yield answer.get_made(what, partial(_unwritable, plan.folder, index))


def _schemas(plan: Plan, names: tuple[str, ...]) -> dict[str, Schema]:
    return {shards.name: shards.schema for shards in plan.sets if shards.name in names}


def _unwritable(folder: Folder, index: int, reason: object) -> UserError:
    return UserError(
        f"{folder}: shard {index} cannot be written ({reason}); free some space or fix the "
        "permissions"
    )


def _render_task(
    weights: list[Any],
    recipe: PoolRecipe,
    folder: Folder,
    schemas: Mapping[str, Schema],
    index: int,
    device: str,
    teacher: Teacher,
) -> RenderedShard:
    """Runs in a Ray worker; the reference to the weights travels in a list, or Ray would fetch them
    for every shard.
    """
    from pipeline.generate.render import render_shard

    architecture = json.dumps(recipe.architecture)
    generator = _load_generator(weights[0], architecture, device, recipe.precision, teacher)
    try:
        return render_shard(generator, recipe, folder, schemas, index)
    except OSError as error:
        raise spare_retries(error, partial(_unwritable, folder, index)) from None


@lru_cache(maxsize=1)
def _load_generator(
    weights: Any, architecture: str, device: str, precision: str, teacher: Teacher
) -> Any:
    """The generator of this worker process, built once."""
    import torch

    from pipeline.engine.device import choose_device
    from pipeline.teacher.checkpoint import PRECISIONS, build_generator, misfit

    arch: GeneratorArchitecture = TypeAdapter(AnyGeneratorArchitecture).validate_json(architecture)
    tensors = {name: torch.tensor(array) for name, array in fetch(weights).items()}
    try:
        generator = build_generator(arch, tensors, teacher.factory)
    except ValueError as error:
        raise misfit(teacher.folder / GENERATOR_FILE, error) from None
    generator = generator.to(choose_device(device))
    generator.set_precision(PRECISIONS[precision])
    return generator
