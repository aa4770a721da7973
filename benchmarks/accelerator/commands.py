"""One step of the list, within some minutes: goes on where it stopped, packs what travels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.accelerator.results import student_result, teacher_result, write_result
from benchmarks.accelerator.stage_runs import Clock, Workplace
from benchmarks.accelerator.steps import CHANNELS, Step
from benchmarks.accelerator.travel import pack
from shards.errors import UserError

console = Console(width=None if sys.stdout.isatty() else 140, highlight=False, soft_wrap=True)
_PACKING_S = 30.0
_SIZE_MINUTES = 2.0


def run_step(step: Step, workplace: Workplace, minutes: float, out: Path) -> bool:
    """Run `step` for at most `minutes`; returns whether it is done.

    Args:
        step: what to run.
        workplace: where.
        minutes: until everything has been written, packing included.
        out: gets results and, of what is not done, the state in parts.

    Raises:
        UserError: if something failed.
    """
    clock = Clock.of(minutes - _PACKING_S / 60)
    out.mkdir(parents=True, exist_ok=True)
    if step.kind == "throughput":
        return _measure_throughput(workplace, clock, out)
    if not workplace.run_stage("real", clock, workplace.base):
        return False
    if step.kind == "sizes":
        return _compare_sizes(workplace, clock, out)
    if step.kind == "teacher":
        return _train_teacher(workplace, clock, out)
    if step.kind == "pool":
        return workplace.run_stage("generate", clock, workplace.base)
    return _train_student(step, workplace, clock, out)


def _measure_throughput(workplace: Workplace, clock: Clock, out: Path) -> bool:
    """The benchmarks of the parts, each in a process of its own; one that fails stops no other."""
    done = True
    for name, arguments in throughput_commands(workplace.is_toy):
        if clock.left_s() <= 0:
            return False
        command = [sys.executable, "-m", *arguments, "--json", str(out / f"{name}.json")]
        console.print(" ".join(command))
        try:
            code = subprocess.run(command, timeout=clock.left_s()).returncode
        except subprocess.TimeoutExpired:
            code = -1
        if code:
            console.print(f"{name}: {'out of time' if code == -1 else f'failed ({code})'}")
            done = False
    return done


def throughput_commands(is_toy: bool) -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of every benchmark."""
    if is_toy:
        toy = ["--threads", "1", "--repeats", "1"]
        yield "roofline", ["benchmarks.roofline", *toy, "--batch", "16"]
        yield "train_step", ["benchmarks.train_step", *toy, "--batch", "16", "--num-samples", "64"]
        return
    cifar = ["--cifar", "--repeats", "10"]
    for mode in ("default", "off", "reduce-overhead", "max-autotune"):
        yield f"roofline-{mode}", ["benchmarks.roofline", *cifar, "--compile", mode]
    half = ["--batch", "100", "--half", "bfloat16", "--compile"]
    yield "render", ["benchmarks.render", *cifar, *half]
    yield "train_step", ["benchmarks.train_step", *cifar, "--num-samples", "8192"]


def _compare_sizes(workplace: Workplace, clock: Clock, out: Path) -> bool:
    """Teachers of several widths for the same time each."""
    widths = (8, 16) if workplace.is_toy else CHANNELS
    for width in widths:
        run = f"teacher-{width}-channels"
        share = Clock.of(min(_SIZE_MINUTES, clock.left_s() / 60, 0.3 if workplace.is_toy else 1e9))
        changes = [
            f"teacher.channel_base={32 * width}",
            f"teacher.channel_max={width}",
            "teacher.snapshot_images=[]",
            f"teacher.quality_interval={1600 if workplace.is_toy else 100_000}",
        ]
        if clock.left_s() <= 0 or not workplace.run_stage("real", clock, run, changes=changes):
            return False
        workplace.run_stage("teacher", share, run, changes=changes)
        write_result(out, run, teacher_result(workplace, run))
    return True


def _train_teacher(workplace: Workplace, clock: Clock, out: Path) -> bool:
    run = workplace.base
    finished = workplace.run_stage("teacher", clock, run)
    write_result(out, "teacher", teacher_result(workplace, run))
    _pack(workplace, run, out)
    return finished


def _train_student(step: Step, workplace: Workplace, clock: Clock, out: Path) -> bool:
    run, changes = step.name, ([] if workplace.is_toy else list(step.changes))
    if not (workplace.runs / workplace.base / "teacher" / "teacher.json").exists():
        raise UserError("there is no teacher yet: run step `teacher` first, or carry its parts")
    stages = ("real", "generate", "train", "eval")
    for stage in stages:
        if stage == "generate" and (
            step.method == "vicreg-real" or "train.source=online" in changes
        ):
            continue
        if not workplace.run_stage(stage, clock, run, step.method, changes):
            _pack(workplace, run, out)
            return False
    write_result(out, run, student_result(workplace, step))
    _pack(workplace, run, out)
    return True


def _pack(workplace: Workplace, run: str, out: Path) -> None:
    for parcel in pack(workplace.runs, run, out):
        console.print(
            f"packed    {parcel.run}, {parcel.stage} at {parcel.position:,}: "
            f"{parcel.num_bytes / 2**20:.1f} MiB"
        )
