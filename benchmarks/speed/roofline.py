"""`python -m benchmarks.speed.roofline`: how far each part is from what the device can do.

The ceilings – large matrix products and copies – are measured first and again at the end, in the
same process. Against them stands each part's work: its operations, and the fewest bytes that it has
to move, both defined in `operations.py`. The longer of the two times is the part's floor, and
"binds" says whether that is arithmetic or memory. The last column is the floor's share of the
median time measured: what is missing to 100 % is what a better implementation could gain at most.
Above 100 % the data stay in a cache, or the algorithm does with fewer operations than are counted.

Parts are those of the config's networks at its batch sizes (`--batch` sets them all). A student's
step has views in it and, on a CPU, drawing and gathering too; on a GPU a thread gathers. Of both
steps the longest operators are listed, and on a GPU the share of the time that it is busy, and how
many kernels a step has: many short ones leave it idle between.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.measure import (
    ResultTable,
    TableCell,
    common_parser,
    describe_device,
    prepare,
)
from benchmarks.random_shards import write_random_shards
from benchmarks.speed.ceilings import Ceilings, highest, measure_ceilings
from benchmarks.speed.operations import WorkCount
from benchmarks.speed.profiling import measure_gpu_use, profile_operators
from benchmarks.speed.roofline_parts import (
    RooflinePart,
    loader_parts,
    render_parts,
    rows_reader,
    student_part,
    teacher_parts,
    teacher_step,
    view_parts,
)
from benchmarks.speed.train_ours import TrainingStep, changed
from pipeline.config.hardware import CompileMode
from pipeline.config.root import Config
from pipeline.engine.gpu import choose_compile_mode
from pipeline.teacher.training.step import TeacherTrainer, build_architectures

PARTS_TITLE = "parts and their floors"
_SAMPLES = 2048
_TOP = 10
_PROFILED_STEPS = 10
_ROUTES = {"device": "copy", "host": "copy on the host", "upload": "copy to the GPU, pinned"}


@dataclass(frozen=True)
class Roofline:
    """Everything found on a device."""

    figures: list[tuple[str, float, str]]
    """Name, number and unit: the ceilings, and what steps start."""
    tables: list[ResultTable]
    """Parts, then the longest operators of both steps."""
    details: dict[str, Any]


def tabulate_parts(parts: list[RooflinePart], ceilings: Ceilings) -> ResultTable:
    """Every part beside its floor."""
    headings = ("part", "ms", "GFLOP", "in", "MB", "arithmetic ms", "memory ms", "binds", "floor %")
    rows: list[tuple[TableCell, ...]] = []
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
    return ResultTable(PARTS_TITLE, headings, rows)


def tabulate_operators(title: str, step: Callable[[], object], device: torch.device) -> ResultTable:
    """The operators that take longest in a step, by the time in themselves."""
    step()
    operators = profile_operators(step, device)
    total = sum(operator.seconds for operator in operators)
    rows: list[tuple[TableCell, ...]] = [
        (operator.name, operator.num_calls, 1e3 * operator.seconds, 100 * operator.seconds / total)
        for operator in operators[:_TOP]
    ]
    return ResultTable(title, ("operator", "calls", "ms", "share, %"), rows)


def measure_use(
    name: str, step: Callable[[], object], device: torch.device
) -> list[tuple[str, float, str]]:
    """What a step starts on a GPU, and how busy that keeps it; nothing on a CPU."""
    use = measure_gpu_use(step, _PROFILED_STEPS, device)
    if use is None:
        return []
    return [
        (f"{name}: kernels", use.kernels_per_step, "per step"),
        (f"{name}: launches", use.launches_per_step, "per step"),
        (f"{name}: GPU busy", 100 * use.busy_share, "%"),
    ]


def benchmark(
    config: Config,
    num_samples: int,
    repeats: int,
    device: torch.device,
    folder: Path,
    mode: CompileMode = "auto",
) -> Roofline:
    """Write `num_samples` random samples of each domain under `folder`, then measure everything."""
    resolution = config.real.resolution
    shards = write_random_shards(config, num_samples, folder)
    ceilings = measure_ceilings(repeats, device)
    arch, _ = build_architectures(config.teacher, resolution)
    rendering = render_parts(arch, config.generate.render_batch, repeats, device)
    read = rows_reader(shards, config.train)
    step = TrainingStep(config.train, shards, device, mode)
    loading = loader_parts(read, repeats, device)
    views = view_parts(step, read(), repeats)
    feeding = views[1:] if device.type == "cuda" else [*loading, *views]
    student = student_part(step, sum((part.work for part in feeding), WorkCount()), repeats)
    trainer = TeacherTrainer(config.teacher, resolution, device, mode)
    teacher = teacher_parts(trainer, resolution, repeats)
    ceilings = highest(ceilings, measure_ceilings(repeats, device))
    parts = [*rendering, *loading, *views, student, *teacher]
    steps = {"student: step": step.run, "teacher: step": teacher_step(trainer, resolution)}
    figures = [
        (f"matrix product, {name}", rate / 1e9, "GFLOP/s")
        for name, rate in ceilings.products.items()
    ]
    figures += [
        (_ROUTES[route], rate / 1e9, "GB/s")
        for route, rate in ceilings.copies.items()
        if device.type == "cuda" or route == "device"
    ]
    for name, task in steps.items():
        figures += measure_use(name, task, device)
    tables = [tabulate_parts(parts, ceilings)]
    tables += [tabulate_operators(name, task, device) for name, task in steps.items()]
    step.stream.close()
    compiled = choose_compile_mode(mode, device)
    details = {**_sizes(config), "repeats": repeats, "compiled": compiled}
    return Roofline(figures, tables, details)


def _sizes(config: Config) -> dict[str, str]:
    student, teacher = config.train.student, config.teacher
    return {
        "size": f"{config.real.resolution} px, {student.architecture} width {student.width}, "
        f"embedding {student.embedding_dim}, generator's channel base {teacher.channel_base}",
        "batches": f"rendering {config.generate.render_batch}, student "
        f"{config.train.global_batch}, teacher {teacher.global_batch}",
    }


def main() -> None:
    """Run the command line."""
    arguments = common_parser("Parts of the pipeline against the device's ceilings.").parse_args()
    config, device = prepare(arguments)
    if arguments.batch:
        sections = {
            "generate": config.generate.model_copy(update={"render_batch": arguments.batch}),
            "train": changed(config.train, global_batch=arguments.batch),
            "teacher": config.teacher.model_copy(update={"global_batch": arguments.batch}),
        }
        config = config.model_copy(update=sections)
    with tempfile.TemporaryDirectory() as folder:
        found = benchmark(config, _SAMPLES, arguments.repeats, device, Path(folder))
    on = describe_device(device)
    title = f"roofline – {on['name']}, {on['precision']}"
    ResultTable(title, ("", "rate", "unit"), found.figures).show()
    for table in found.tables:
        table.show()
    for name, text in found.details.items():
        print(f"{name}: {text}")


if __name__ == "__main__":
    main()
