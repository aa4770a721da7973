"""`python -m benchmarks.speed.roofline`: how far each part is from what the device can do.

The ceilings – large matrix products and copies – are measured first and again at the end, in the
same process. Against them stands each part's work: its operations, and the fewest bytes that it has
to move, both defined in `operations.py`. The longer of the two times is the part's floor, and
"binds" says whether that is arithmetic or memory. The last column is the floor's share of the
median time measured: what is missing to 100 % is what a better implementation could gain at most.
Above 100 % the data stay in a cache, or the algorithm does with fewer operations than are counted.

Parts are those of the config's networks at its batch sizes (`--batch` sets them all): rendering,
the loader and the views, a step of training the student, and one of training the teacher. The
student's "batch" is views and, on a CPU, drawing and gathering too; on a GPU a thread gathers.

Of both steps the longest operators are listed, and on a GPU the share of the time that it is busy,
and how many kernels a step has: many short ones leave it idle between.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch

from benchmarks.measure import (
    BenchmarkRun,
    Figure,
    ResultTable,
    common_parser,
    prepare,
    publish,
)
from benchmarks.random_shards import write_random_shards
from benchmarks.speed.ceilings import Ceilings, highest, measure_ceilings
from benchmarks.speed.operations import Work
from benchmarks.speed.profiling import measure_gpu_use, profile_operators
from benchmarks.speed.roofline_parts import (
    Part,
    loader_parts,
    render_parts,
    student_parts,
    teacher_parts,
    teacher_step,
    view_parts,
)
from benchmarks.speed.step_rows import StepReader, open_random_shards
from benchmarks.speed.train_ours import TrainingStep, changed
from pipeline.config.root import Config
from pipeline.engine.gpu import CompileMode, choose_compile_mode
from pipeline.teacher.training.step import TeacherTrainer, build_architectures
from pipeline.train.data import TrainingShards

_TOP = 10
_PROFILED_STEPS = 10
_ROUTES = {"device": "copy", "host": "copy on the host", "upload": "copy to the GPU, pinned"}


def measure_student(
    config: Config, shards: TrainingShards, repeats: int, device: torch.device, mode: CompileMode
) -> tuple[list[Part], TrainingStep]:
    """Loader, views and the step itself; and the step, for more questions."""
    reader = StepReader(shards, config.train)
    step = TrainingStep(config.train, shards, device, mode)
    loading = loader_parts(reader, repeats, device)
    views = view_parts(step, reader.read(), repeats, device)
    on_device = views[1:] if device.type == "cuda" else [*loading, *views]
    feeding = sum((part.work for part in on_device), Work())
    return [*loading, *views, *student_parts(step, feeding, repeats)], step


def tabulate_parts(parts: list[Part], ceilings: Ceilings) -> ResultTable:
    """Every part beside its floor."""
    rows: list[tuple[str | float, ...]] = []
    for part in parts:
        floor = ceilings.floor(part.work, part.route)
        rows.append(
            (
                part.name,
                1e3 * part.seconds,
                part.work.total / 1e9,
                " + ".join(sorted(part.work.operations)),
                part.work.num_bytes / 1e6,
                1e3 * floor.arithmetic_s,
                1e3 * floor.memory_s,
                floor.binds,
                100 * floor.seconds / part.seconds,
            )
        )
    headings = ("part", "ms", "GFLOP", "in", "MB", "arithmetic ms", "memory ms", "binds", "floor %")
    return ResultTable("parts and their floors", headings, rows)


def tabulate_operators(title: str, step: Callable[[], object], device: torch.device) -> ResultTable:
    """The operators that take longest in a step, by the time in themselves."""
    step()
    operators = profile_operators(step, device)
    total = sum(operator.seconds for operator in operators)
    rows: list[tuple[str | float, ...]] = [
        (operator.name, operator.num_calls, 1e3 * operator.seconds, 100 * operator.seconds / total)
        for operator in operators[:_TOP]
    ]
    return ResultTable(title, ("operator", "calls", "ms", "share, %"), rows)


def measure_use(
    name: str, step: Callable[[], object], calls: int, device: torch.device
) -> list[Figure]:
    """What a step starts, and on a GPU how busy that keeps it."""
    figures = [Figure(f"{name}: operator calls", calls, "per step")]
    use = measure_gpu_use(step, _PROFILED_STEPS, device)
    if use is None:
        return figures
    return [
        *figures,
        Figure(f"{name}: kernels", use.kernels_per_step, "per step"),
        Figure(f"{name}: launches", use.launches_per_step, "per step"),
        Figure(f"{name}: GPU busy", 100 * use.busy_share, "%"),
    ]


def benchmark(
    config: Config,
    num_samples: int,
    repeats: int,
    device: torch.device,
    folder: Path,
    mode: CompileMode = "auto",
) -> BenchmarkRun:
    """Write `num_samples` random samples of each domain under `folder`, then measure everything."""
    resolution = config.real.resolution
    blocks = write_random_shards(config, num_samples, folder)
    ceilings = measure_ceilings(repeats, device)
    arch, _ = build_architectures(config.teacher, resolution)
    parts = render_parts(arch, config.generate.render_batch, repeats, device)
    shards = open_random_shards(folder, blocks)
    measured, step = measure_student(config, shards, repeats, device, mode)
    trainer = TeacherTrainer(config.teacher, resolution, device, mode)
    parts += [*measured, *teacher_parts(trainer, resolution, repeats)]
    ceilings = highest(ceilings, measure_ceilings(repeats, device))
    calls = {part.name: part.work.num_calls for part in parts}
    steps = {"student: step": step.run, "teacher: step": teacher_step(trainer, resolution)}
    figures = [
        *(
            Figure(f"matrix product, {arithmetic}", rate / 1e9, "GFLOP/s")
            for arithmetic, rate in ceilings.products.items()
        ),
        *(
            Figure(_ROUTES[route], rate / 1e9, "GB/s")
            for route, rate in ceilings.copies.items()
            if device.type == "cuda" or route == "device"
        ),
    ]
    for name, task in steps.items():
        figures += measure_use(name, task, calls[name], device)
    tables = [
        tabulate_parts(parts, ceilings),
        *(tabulate_operators(name, task, device) for name, task in steps.items()),
    ]
    step.stream.close()
    details = {**_describe(config, repeats, device), "compiled": choose_compile_mode(mode, device)}
    return BenchmarkRun("roofline", device, figures, details, tables)


def _describe(config: Config, repeats: int, device: torch.device) -> dict[str, object]:
    student = config.train.student
    return {
        "size": f"{config.real.resolution} px, {student.architecture} width {student.width}, "
        f"embedding {student.embedding_dim}, generator's channel base "
        f"{config.teacher.channel_base}",
        "batches": f"rendering {config.generate.render_batch}, student "
        f"{config.train.global_batch}, teacher {config.teacher.global_batch}",
        "repeats": repeats,
        **({"GPU busy, kernels": "not applicable on a CPU"} if device.type == "cpu" else {}),
    }


def main(argv: list[str] | None = None) -> BenchmarkRun:
    """Run the command line; `argv` defaults to the process's."""
    started = time.perf_counter()
    parser = common_parser("Each part of the pipeline against the device's own ceilings.")
    parser.add_argument("--num-samples", type=int, default=2048, help="random samples per domain")
    modes = get_args(CompileMode)
    parser.add_argument("--compile", choices=modes, default="auto", help="as hardware.compile")
    arguments = parser.parse_args(argv)
    config, device = prepare(arguments)
    if arguments.batch:
        config = _with_batch(config, arguments.batch)
    with tempfile.TemporaryDirectory() as folder:
        run = benchmark(
            config,
            arguments.num_samples,
            arguments.repeats,
            device,
            Path(folder),
            arguments.compile,
        )
    publish(run, arguments.json, started)
    return run


def _with_batch(config: Config, batch: int) -> Config:
    sections = {
        "generate": config.generate.model_copy(update={"render_batch": batch}),
        "train": changed(config.train, global_batch=batch),
        "teacher": config.teacher.model_copy(update={"global_batch": batch}),
    }
    return config.model_copy(update=sections)


if __name__ == "__main__":
    main()
