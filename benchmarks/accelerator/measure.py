"""The parts of `python -m benchmarks.accelerator measure`, the most important first."""

from __future__ import annotations

import sys
from functools import partial

from benchmarks.accelerator.findings import NEEDS_GPU
from benchmarks.accelerator.parts import Clock, Part, PartError, run_command
from benchmarks.accelerator.place import ROOT, Place

_TOY_PATIENCE = 4  # times the limits: a CPU that others use too


def measure_parts(place: Place) -> list[Part]:
    """325 s of them at most."""

    def piece(name: str, limit_s: float, mode: str = "") -> Part:
        def run(clock: Clock) -> str:
            if place.setting.is_toy and mode not in ("", "off"):
                return NEEDS_GPU  # the CPU's compiler takes minutes for so many networks
            return place.run_piece(name, clock, mode=mode)

        return Part(f"{name} {mode}".strip(), limit_s, run)

    parts = [
        piece("waits", 45),
        piece("floors", 50, "off"),
        piece("methods", 55, "default"),
        piece("widths", 80),
        Part("gpu tests", 30, partial(_run_gpu_tests, place)),
        piece("floors", 45, "default"),
        piece("methods", 20, "reduce-overhead"),
    ]
    patience = _TOY_PATIENCE if place.setting.is_toy else 1
    return [Part(part.name, patience * part.limit_s, part.run) for part in parts]


def gpu_tests(*options: str) -> list[str]:
    """The command that runs the tests marked `gpu`, of the files that have any: to collect all
    takes half the time.
    """
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    marked = [str(path) for path in files if "pytest.mark.gpu" in path.read_text(encoding="utf-8")]
    pytest = [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"]
    return [*pytest, *options, *marked]


def _run_gpu_tests(place: Place, clock: Clock) -> str:
    log = place.results / "gpu-tests.log"
    quiet = ("-W", "default")  # a warning of another version there is no failure
    if not run_command(gpu_tests("-v", *quiet), clock, log):
        raise PartError("out of time", "stopped")
    return log.read_text(encoding="utf-8").strip().splitlines()[-1].strip("= ")
