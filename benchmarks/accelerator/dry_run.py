"""Both commands at toy size on a CPU, without the packages that a borrowed machine lacks."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from benchmarks.absent import NOT_ON_A_BORROWED_GPU, environment_without
from benchmarks.accelerator.parts import console


def run_dry(data: Path, folder: Path) -> bool:
    """Run `measure` and `train`, unpack what they would bring back to `folder`/back, and print the
    table of it; whether every part passed.

    Args:
        data: as of `train`.
        folder: emptied first.
    """
    shutil.rmtree(folder, ignore_errors=True)
    place, back = folder / "machine", folder / "back"
    environment, passed = environment_without(*NOT_ON_A_BORROWED_GPU), True
    for command, options in (("measure", []), ("train", ["--data", str(data)])):
        since, before = time.monotonic(), _cpu_s()
        arguments = [command, "--toy", "--folder", str(place), "--out", str(folder), *options]
        program = [sys.executable, "-m", "benchmarks.accelerator", *arguments]
        code = subprocess.run(program, env=environment).returncode
        console.print(
            f"{command}: exit code {code}, {time.monotonic() - since:.0f} s, "
            f"{_cpu_s() - before:.0f} s of processor time"
        )
        passed = passed and code == 0
        with tarfile.open(folder / f"{command}.tar.gz") as pack:
            pack.extractall(back, filter="data")
    subprocess.run([sys.executable, "-m", "benchmarks.accelerator", "table", str(back)], check=True)
    console.print("All of it is a toy's: on a CPU, of networks too small to learn much.")
    return passed


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
