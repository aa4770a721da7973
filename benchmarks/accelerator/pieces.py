"""`python -m benchmarks.accelerator.pieces PIECE --json FILE`: one measurement in a process of its
own, which `measure.py` and `train.py` start under a limit.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.accelerator.findings import NEEDS_GPU, Findings
from benchmarks.accelerator.place import METHODS, Setting, method_file, of_width, open_findings
from benchmarks.measure import OURS, full_float32, interleave, waits_raise
from benchmarks.random_shards import write_random_shards
from benchmarks.speed import roofline
from benchmarks.speed.render import Renderer, Variant, build_random_generator, build_renderers
from benchmarks.speed.roofline_parts import WARM_UP, teacher_step, time_steps
from benchmarks.speed.train_ours import TrainingStep
from pipeline.engine.device import choose_device
from pipeline.engine.gpu import CompileMode
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
        with tempfile.TemporaryDirectory() as folder:
            step = _open_step(setting, method, Path(folder), mode)
            count = partial(_count_waits, step.run, device)
            findings.attempt(f"{method} step: waits", "", count, mode)
            step.stream.close()
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
        with tempfile.TemporaryDirectory() as folder:
            step = _open_step(setting, method, Path(folder), mode)
            findings.add(f"{method}: views", step.num_views, "per step")
            findings.attempt(
                f"{method}: step", "ms", partial(_time, step.run, setting.device), mode
            )
            step.stream.close()


def _open_step(setting: Setting, method: str, folder: Path, mode: CompileMode) -> TrainingStep:
    """Steps of `method` on random samples, which go to `folder`."""
    config = setting.config([method_file(method)])
    shards = write_random_shards(config, _SAMPLES, folder)
    return TrainingStep(config.train, shards, setting.device, mode)


def measure_widths(findings: Findings, setting: Setting, mode: CompileMode) -> None:
    """Images/s rendered and milliseconds of a teacher's step at every width; what is compiled comes
    last, in the order of its worth, for it may take all the time that there is. On a CPU, which
    compiles for minutes, that is one rendering.
    """
    renderers = {channels: _build_renderers(setting, channels) for channels in setting.widths}
    is_gpu = setting.device.type == "cuda"
    for precision in (_HALF, _FULL):
        for channels, built in renderers.items():
            _add_rendering(findings, setting, channels, built, Variant(precision, False))
    for channels in setting.widths:
        _add_teacher_step(findings, setting, channels, "off")
    for channels, built in renderers.items() if is_gpu else ():
        _add_rendering(findings, setting, channels, built, Variant(_HALF, True))
    for channels in setting.widths:
        _add_teacher_step(findings, setting, channels, mode)
    for channels, built in renderers.items() if is_gpu else list(renderers.items())[:1]:
        _add_rendering(findings, setting, channels, built, Variant(_FULL, True))


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

    def measure() -> float:
        warm_up, repeats = WARM_UP[device.type], _REPEATS[device.type]
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
    if mode != "off" and device.type != "cuda":
        findings.add(name, None, "ms", mode, NEEDS_GPU)
        return

    def measure() -> float:
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
