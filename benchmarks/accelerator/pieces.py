"""`python -m benchmarks.accelerator.pieces PIECE --json FILE`: one measurement in a process of its
own, which `measure.py` and `train.py` start under a limit.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.accelerator.findings import Findings
from benchmarks.accelerator.place import METHODS, Setting, method_file, of_width, open_findings
from benchmarks.measure import OURS, full_float32, interleave, waits_raise
from benchmarks.random_shards import write_random_shards
from benchmarks.speed import roofline
from benchmarks.speed.render import Renderer, Variant, build_random_generator, build_renderers
from benchmarks.speed.roofline_parts import WARM_UP, teacher_step, time_steps
from benchmarks.speed.train_ours import TrainingStep
from pipeline.config.hardware import CompileMode
from pipeline.engine.device import choose_device
from pipeline.teacher.training.step import TeacherTrainer, build_architectures

_SAMPLES = 2048
_REPEATS = {"cpu": 1, "cuda": 5}
_HALF, _FULL = torch.bfloat16, torch.float32
_SHOWN = ("student: step", "teacher: step", "teacher: with penalties")


def measure_floors(findings: Findings, setting: Setting, mode: CompileMode) -> None:
    """`benchmarks.speed.roofline`: every part of the pipeline beside its floor."""
    device = setting.device
    with tempfile.TemporaryDirectory() as folder:
        repeats = _REPEATS[device.type]
        run = roofline.benchmark(setting.config(), _SAMPLES, repeats, device, Path(folder), mode)
    tables = {table.title: table.by_heading() for table in run.tables}
    findings.write(details=run.details, tables=tables)
    for row in tables[roofline.PARTS_TITLE]:
        if row["part"] in _SHOWN:
            floor = max(float(row["arithmetic ms"]), float(row["memory ms"]))
            findings.add(str(row["part"]), float(row["ms"]), "ms", mode)
            findings.add(f"{row['part']}, floor", floor, "ms")
    for figure in run.figures:
        findings.add(*figure, mode)


def measure_waits(findings: Findings, setting: Setting, mode: CompileMode) -> None:
    """Waits for the GPU in a step of each trainer: 0, or where the first one is."""
    config, device = setting.config(), setting.device
    resolution = config.real.resolution
    for method in METHODS:
        with _opened_step(setting, method, mode) as step:
            count = partial(_count_waits, step.run, device)
            findings.attempt(f"{method} step: waits", "", count, mode)
    trainer = TeacherTrainer(config.teacher, resolution, device, mode)
    for name, has_penalties in (("teacher step", False), ("teacher step with penalties", True)):
        task = teacher_step(trainer, resolution, has_penalties=has_penalties)
        findings.attempt(f"{name}: waits", "", partial(_count_waits, task, device), mode)


def _count_waits(step: Callable[[], object], device: torch.device) -> float | None:
    """0 if `step` does not wait for the GPU, an error if it does; None on a CPU, where it just
    runs.
    """
    for _ in range(WARM_UP[device.type]):
        step()
    if device.type != "cuda":
        return None
    with waits_raise():
        step()
    return 0.0


def measure_methods(findings: Findings, setting: Setting, mode: CompileMode) -> None:
    """Milliseconds of a step of each method, and its views."""
    for method in METHODS:
        with _opened_step(setting, method, mode) as step:
            findings.add(f"{method}: views", step.num_views, "per step")
            measure = partial(_time, step.run, setting.device)
            findings.attempt(f"{method}: step", "ms", measure, mode)


@contextmanager
def _opened_step(setting: Setting, method: str, mode: CompileMode) -> Iterator[TrainingStep]:
    """Steps of `method` on random samples."""
    config = setting.config([method_file(method)])
    with tempfile.TemporaryDirectory() as folder:
        shards = write_random_shards(config, _SAMPLES, Path(folder))
        step = TrainingStep(config.train, shards, setting.device, mode)
        yield step
        step.stream.close()


def measure_widths(findings: Findings, setting: Setting, mode: CompileMode) -> None:
    """Images/s rendered and milliseconds of a teacher's step at every width; what is compiled comes
    last, in the order of its worth, for it may take all the time that there is. On a CPU, which
    compiles for minutes, that is one rendering.
    """
    renderers = {channels: _build_renderers(setting, channels) for channels in setting.widths}
    compiled = setting.widths if setting.device.type == "cuda" else ()

    def render(how: Variant, widths: Sequence[int]) -> None:
        for channels in widths:
            _add_rendering(findings, setting, channels, renderers[channels], how)

    render(Variant(_HALF, False), setting.widths)
    render(Variant(_FULL, False), setting.widths)
    for channels in setting.widths:
        _add_teacher_step(findings, setting, channels, "off")
    render(Variant(_HALF, True), compiled)
    for channels in setting.widths:
        _add_teacher_step(findings, setting, channels, mode)
    render(Variant(_FULL, True), compiled or setting.widths[:1])


def _build_renderers(setting: Setting, channels: int) -> dict[str, Renderer]:
    config = setting.config(of_width(channels))
    arch, _ = build_architectures(config.teacher, config.real.resolution)
    variants = [Variant(_HALF, False), Variant(_HALF, True), Variant(_FULL, True)]
    generator = build_random_generator(arch, setting.device)
    return build_renderers(generator, config.generate.render_batch, variants=variants)


def _add_rendering(
    findings: Findings, setting: Setting, channels: int, built: dict[str, Renderer], how: Variant
) -> None:
    batch, device = setting.config().generate.render_batch, setting.device
    render = built[OURS if how == Variant(_FULL, False) else how.name]
    repeats, warm_up = _REPEATS[device.type], WARM_UP[device.type]

    def measure() -> float:
        with full_float32():
            return batch / interleave({"": render}, repeats, device, warm_up)[""]

    precision = str(how.precision).removeprefix("torch.")
    mode = "default" if how.is_compiled else "off"
    findings.attempt(f"rendering, {channels} channels, {precision}", "images/s", measure, mode)


def _add_teacher_step(
    findings: Findings, setting: Setting, channels: int, mode: CompileMode
) -> None:
    config, device = setting.config(of_width(channels)), setting.device
    resolution, name = config.real.resolution, f"teacher step, {channels} channels"

    def measure() -> float | None:
        if mode != "off" and device.type != "cuda":
            return None
        trainer = TeacherTrainer(config.teacher, resolution, device, mode)
        return _time(teacher_step(trainer, resolution), device)

    findings.attempt(name, "ms", measure, mode)


def _time(step: Callable[[], object], device: torch.device) -> float:
    return 1e3 * time_steps({"": step}, _REPEATS[device.type], device)[""]


PIECES = {
    "floors": (measure_floors, "off"),
    "waits": (measure_waits, "off"),
    "methods": (measure_methods, "off"),
    "widths": (measure_widths, "default"),
}


def main(
    piece: Annotated[str, typer.Argument(metavar="PIECE", help=", ".join(PIECES))],
    changes: Annotated[list[str] | None, typer.Argument(metavar="[section.field=value …]")] = None,
    json: Annotated[Path, typer.Option(help="Gets the figures.")] = Path("figures.json"),
    toy: Annotated[bool, typer.Option(help="Narrow networks: for a CPU.")] = False,
    mode: Annotated[
        str | None, typer.Option(help="As hardware.compile; each piece has one.")
    ] = None,
) -> None:
    """Measure PIECE."""
    measure, usual = PIECES[piece]
    setting = Setting(toy, tuple(changes or ()), choose_device("auto"))
    findings = open_findings(json, setting)
    measure(findings, setting, mode or usual)  # type: ignore[arg-type]
    if findings.has_failed:
        sys.exit("some of it failed; the figures say what")


if __name__ == "__main__":
    typer.run(main)
