"""The parts of the pipeline that `roofline.py` holds against the device: each timed, its work
counted.

Parts of one function here are timed turn by turn. What is counted as work is in `operations.py`;
views and the loader, which have next to no products, read all that they are given once and write
all that they make once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from benchmarks.measure import OURS, full_float32, interleave, repeat
from benchmarks.speed.ceilings import Route
from benchmarks.speed.operations import WorkCount, count_work, memory_bytes
from benchmarks.speed.render import Variant, build_random_generator, build_renderers
from benchmarks.speed.train_ours import TrainingStep
from pipeline.config.train import TrainConfig
from pipeline.engine.upload import prepare_upload
from pipeline.samples.seeding import numpy_generator, torch_generator
from pipeline.teacher.architectures.stylegan2 import StyleGAN2Architecture
from pipeline.teacher.training.step import TeacherTrainer
from pipeline.train.data import TrainingShards
from pipeline.train.step_views import StepViews
from shards.pool import PoolReader

WARM_UP = {"cpu": 1, "cuda": 3}
"""Turns; compilers and choosers of algorithms included."""
_SHORT_TURNS = 5  # parts of milliseconds, which a busy machine easily doubles, get more turns
_STEPS = {"cpu": 1, "cuda": 8}  # a turn: the next step is prepared while the GPU is in the last
_AUGMENT_P = 0.5  # whatever it is, ADA does the same work, but none at 0
_HALF_BLOCKS, _HALF_CLAMP = 4, 256.0  # of a teacher that was made for float32 alone
_HOST = torch.device("cpu")


@dataclass(frozen=True)
class RooflinePart:
    """One part: what it took, and what it had to do."""

    name: str
    seconds: float
    """Median."""
    work: WorkCount
    route: Route = "device"
    """Of its bytes."""


def render_parts(
    arch: StyleGAN2Architecture, batch: int, repeats: int, device: torch.device
) -> list[RooflinePart]:
    """Latents on the device -> images and pooled features, without TF32 as `make generate`; on a
    GPU also in bfloat16.
    """
    variants = [Variant(torch.bfloat16, False)] if device.type == "cuda" else []
    if variants and not arch.num_half_blocks:
        clamp = arch.conv_clamp or _HALF_CLAMP
        arch = replace(arch, num_half_blocks=_HALF_BLOCKS, conv_clamp=clamp)
    renderers = build_renderers(build_random_generator(arch, device), batch, variants=variants)
    tasks = {"float32": renderers[OURS]} | {v.name: renderers[v.name] for v in variants}
    with full_float32():
        seconds = interleave(tasks, repeats, device, WARM_UP[device.type])
        works = {name: count_work(task) for name, task in tasks.items()}
    return [RooflinePart(f"render, {name}", seconds[name], works[name]) for name in tasks]


def rows_reader(shards: TrainingShards, config: TrainConfig) -> Callable[[], list[np.ndarray]]:
    """Gathers as many random rows as a step of `config` takes, as `BatchStream` does: synthetic
    images uint8 [n, 3, R, R], their pooled features float16 [n, Σ C_l], and real images.
    """
    pool = shards.synthetic
    assert isinstance(pool, PoolReader)
    generator = numpy_generator(0, "benchmark/rows")
    synthetic = generator.integers(len(pool), size=config.num_synthetic)
    real = generator.integers(len(shards.real), size=config.num_real)
    return lambda: [
        pool.images.gather("image", synthetic),
        pool.gather_features(shards.features, synthetic),
        shards.real.gather("image", real),
    ]


def loader_parts(
    read: Callable[[], list[np.ndarray]], repeats: int, device: torch.device
) -> list[RooflinePart]:
    """Gathering the rows of a step on the host; on a GPU also their way there, as
    `BatchStream` sends them.
    """
    rows, turns = read(), _SHORT_TURNS * repeats
    num_bytes = sum(array.nbytes for array in rows)
    seconds = interleave({"": read}, turns, _HOST)[""]
    parts = [
        RooflinePart("loader: gather (host)", seconds, WorkCount(num_bytes=2 * num_bytes), "host")
    ]
    if device.type == "cuda":
        send = prepare_upload([[torch.from_numpy(array) for array in rows]], device)
        seconds = interleave({"": send}, turns, device)[""]
        parts.append(
            RooflinePart("loader: copy to GPU", seconds, WorkCount(num_bytes=num_bytes), "upload")
        )
    return parts


def view_parts(step: TrainingStep, rows: list[np.ndarray], repeats: int) -> list[RooflinePart]:
    """All views of a step: drawing their parameters on the CPU, and making them of images that are
    on the device.
    """
    device, turns = step.device, _SHORT_TURNS * repeats
    views = StepViews(
        step.config,
        type(step.method),
        device,
        view_size=step.shards.view_size,
        rank=0,
        num_workers=1,
        compile_mode=step.mode,
    )
    synthetic, real = (torch.from_numpy(rows[index]).to(device) for index in (0, 2))
    parameters = views.draw(0)
    on_device = [tensor.to(device) for tensor in parameters]
    make = partial(views.make, synthetic, real, on_device)
    made = [tensor for domain in make() for tensor in domain]
    draw_s = interleave({"": partial(views.draw, 0)}, turns, _HOST)[""]
    make_s = interleave({"": make}, turns, device, WARM_UP[device.type])[""]
    drawing = WorkCount(num_bytes=memory_bytes(parameters))
    touched = memory_bytes([synthetic, real, *parameters, *made])
    return [
        RooflinePart("views: draw (host)", draw_s, drawing, "host"),
        RooflinePart("views: make", make_s, replace(count_work(make), num_bytes=touched)),
    ]


def student_part(step: TrainingStep, feeding: WorkCount, repeats: int) -> RooflinePart:
    """The whole step as it runs in training. `feeding` is the device's work of making a batch, of
    which the products in it do not tell the bytes.
    """
    seconds = time_steps({"": step.run}, repeats, step.device)[""]
    whole, batch = count_work(step.run), count_work(lambda: step.stream.batch(step.index))
    num_bytes = whole.num_bytes - batch.num_bytes + feeding.num_bytes
    return RooflinePart("student: step", seconds, replace(whole, num_bytes=num_bytes))


def time_steps(
    tasks: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of one step of each task, several of them without a wait on a GPU."""
    num_steps = _STEPS[device.type]
    turns = {name: partial(repeat, task, num_steps) for name, task in tasks.items()}
    seconds = interleave(turns, repeats, device, WARM_UP[device.type])
    return {name: value / num_steps for name, value in seconds.items()}


def teacher_parts(trainer: TeacherTrainer, resolution: int, repeats: int) -> list[RooflinePart]:
    """A step of training the teacher with augmentation: an ordinary one, and one in which all the
    penalties that the config has are due.
    """
    tasks = {"teacher: step": teacher_step(trainer, resolution)}
    if trainer.config.r1_gamma or trainer.config.path_length_weight:
        tasks["teacher: with penalties"] = teacher_step(trainer, resolution, has_penalties=True)
    seconds = time_steps(tasks, repeats, trainer.device)
    return [RooflinePart(name, seconds[name], count_work(task)) for name, task in tasks.items()]


def teacher_step(
    trainer: TeacherTrainer, resolution: int, *, has_penalties: bool = False
) -> Callable[[], object]:
    """One step on random images, the same each time, with or without lazy penalties."""
    batch = trainer.config.global_batch
    generator = torch_generator(0, "benchmark/teacher")
    real = torch.rand(batch, 3, resolution, resolution, generator=generator) * 2 - 1
    real = real.to(trainer.device).contiguous(memory_format=torch.channels_last)

    def run() -> None:
        trainer.images_seen = 0 if has_penalties else batch  # steps 0 and 1
        trainer.ada.p = _AUGMENT_P
        trainer.step(real)

    return run
