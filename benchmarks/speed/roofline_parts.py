"""The parts of the pipeline that `roofline.py` holds against the device: each timed, its work
counted.

Parts of one function here are timed turn by turn. What is counted as work is in `operations.py`;
views and the loader, which have next to no products, read all that they are given once and write
all that they make once.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from benchmarks.measure import full_float32, interleave
from benchmarks.speed.ceilings import Route
from benchmarks.speed.operations import Work, count_work, counting, memory_bytes
from benchmarks.speed.render import Variant, build_random_generator, build_renderers
from benchmarks.speed.step_rows import StepArrays, StepReader
from benchmarks.speed.train_ours import PARTS, TrainingStep
from pipeline.engine.upload import prepare_upload
from pipeline.samples.seeding import torch_generator
from pipeline.teacher.architecture import StyleGAN2Architecture
from pipeline.teacher.training.step import TeacherTrainer
from pipeline.train.step_views import StepViews

_SHORT_TURNS = 5  # parts of milliseconds, which a busy machine easily doubles, get more turns
_WARM_UP = {"cpu": 1, "cuda": 3}  # compilers and choosers of algorithms included
_STEPS = {"cpu": 1, "cuda": 8}  # a turn: the next step is prepared while the GPU is in the last
_AUGMENT_P = 0.5  # whatever it is, ADA does the same work, but none at 0
_HALF_BLOCKS, _HALF_CLAMP = 4, 256.0  # of a teacher that was made for float32 alone


@dataclass(frozen=True)
class Part:
    """One part: what it took, and what it had to do."""

    name: str
    seconds: float
    """Median."""
    work: Work
    route: Route = "device"
    """Of its bytes."""


def render_parts(
    arch: StyleGAN2Architecture, batch: int, repeats: int, device: torch.device
) -> list[Part]:
    """Latents on the device -> images and pooled features, without TF32 as `make generate`; on a
    GPU also in bfloat16.
    """
    if device.type == "cuda" and not arch.num_half_blocks:
        clamp = arch.conv_clamp or _HALF_CLAMP
        arch = replace(arch, num_half_blocks=_HALF_BLOCKS, conv_clamp=clamp)
    variants = [Variant(torch.bfloat16, False)] if device.type == "cuda" else []
    renderers = build_renderers(build_random_generator(arch, device), batch, variants=variants)
    tasks = {"float32": renderers["ours"]} | {v.name: renderers[v.name] for v in variants}
    with full_float32():
        seconds = interleave(tasks, repeats, device, _WARM_UP[device.type])
        works = {name: count_work(task) for name, task in tasks.items()}
    return [Part(f"render, {name}", seconds[name], works[name]) for name in tasks]


def loader_parts(reader: StepReader, repeats: int, device: torch.device) -> list[Part]:
    """Gathering the rows of a step on the host; on a GPU also their way there, as
    `BatchStream` sends them.
    """
    rows = reader.read()
    num_bytes = sum(array.nbytes for array in rows.arrays)
    host = torch.device("cpu")
    seconds = interleave({"gather": reader.read}, _SHORT_TURNS * repeats, host)["gather"]
    parts = [Part("loader: gather (host)", seconds, Work(num_bytes=2 * num_bytes), "host")]
    if device.type == "cuda":
        send = prepare_upload([[torch.from_numpy(array) for array in rows.arrays]], device)
        seconds = interleave({"send": send}, _SHORT_TURNS * repeats, device)["send"]
        parts.append(Part("loader: copy to GPU", seconds, Work(num_bytes=num_bytes), "upload"))
    return parts


def view_parts(
    step: TrainingStep, rows: StepArrays, repeats: int, device: torch.device
) -> list[Part]:
    """All views of a step of `step`: drawing their parameters on the CPU, and making them of images
    that are on the device.
    """
    views = StepViews(
        step.config,
        type(step.method),
        device,
        rank=0,
        num_workers=1,
        compile_mode=step.compile_networks,
    )
    synthetic, real = (torch.from_numpy(x).to(device) for x in (rows.synthetic, rows.real))
    parameters = views.draw(0)
    on_device = [tensor.to(device) for tensor in parameters]

    def draw() -> list[Tensor]:
        return views.draw(0)

    def make() -> list[Tensor]:
        first, second = views.make(synthetic, real, on_device)
        return [*first, *second]

    tensors = [synthetic, real, *parameters, *make()]
    seconds = {
        **interleave({"draw": draw}, _SHORT_TURNS * repeats, torch.device("cpu")),
        **interleave({"make": make}, _SHORT_TURNS * repeats, device, _WARM_UP[device.type]),
    }
    drawing = Work(num_bytes=memory_bytes(parameters))
    making = replace(count_work(make), num_bytes=memory_bytes(tensors))
    return [
        Part("views: draw (host)", seconds["draw"], drawing, "host"),
        Part("views: make", seconds["make"], making),
    ]


def student_parts(step: TrainingStep, feeding: Work, repeats: int) -> list[Part]:
    """The whole step as it runs in training, and its parts, waited for one by one.

    `feeding` is the device's work of making a batch, which the products in it do not tell.
    """
    whole = time_steps({"step": step.run}, repeats, step.device)["step"]
    rows = [step.run_parts() for _ in range(repeats)]
    works = count_step(step)
    works["batch"] = replace(feeding, num_calls=works["batch"].num_calls)
    return [
        Part("student: step", whole, sum(works.values(), Work())),
        *(
            Part(f"student: {name}", statistics.median(row[name] for row in rows), works[name])
            for name in PARTS
        ),
    ]


def time_steps(
    tasks: Mapping[str, Callable[[], object]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Median seconds of one step of each task, several of them without a wait on a GPU."""
    num_steps = _STEPS[device.type]

    def repeated(task: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(num_steps):
                task()

        return run

    seconds = interleave(
        {name: repeated(task) for name, task in tasks.items()},
        repeats,
        device,
        _WARM_UP[device.type],
    )
    return {name: value / num_steps for name, value in seconds.items()}


def count_step(step: TrainingStep) -> dict[str, Work]:
    """The work of one step, by `PARTS`."""
    with counting() as counter:

        def enter(name: str) -> Callable[..., None]:
            def hook(*_: object) -> None:
                counter.part = name

            return hook

        counter.part = "batch"
        hooks = [
            step.method.register_forward_pre_hook(enter("forward")),
            step.method.register_forward_hook(enter("backward")),
        ]
        try:
            step.run()
        finally:
            for hook in hooks:
                hook.remove()
    return {name: counter.works[name] for name in PARTS}


def teacher_parts(trainer: TeacherTrainer, resolution: int, repeats: int) -> list[Part]:
    """A step of training the teacher with augmentation: an ordinary one, and one in which all the
    penalties that the config has are due.
    """
    tasks = {"teacher: step": teacher_step(trainer, resolution)}
    if trainer.config.r1_gamma or trainer.config.path_length_weight:
        tasks["teacher: with penalties"] = teacher_step(trainer, resolution, has_penalties=True)
    seconds = time_steps(tasks, repeats, trainer.device)
    return [Part(name, seconds[name], count_work(task)) for name, task in tasks.items()]


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
