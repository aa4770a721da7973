"""What is worth running on a borrowed GPU, in order.

Minutes are estimates until `results/` has measured ones: of trainings at 40,000 views/s, which is
the goal, of the teacher at 150 TFLOP/s.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["throughput", "sizes", "teacher", "pool", "student"]
METHODS = ("squeeze-and-span", "vicreg-real", "vicreg-both", "squeeze", "vanilla")
"""Those of the paper's headline, by their files in configs/methods; the order is that of need."""
CHANNELS = (128, 256, 512)
"""Widths of the teacher to choose among."""
_VIEWS = {"squeeze-and-span": 768, "vicreg-real": 1024, "vicreg-both": 1024}  # of a step, else 512
_VIEWS_PER_S = 40_000
_STEPS_PER_EPOCH = 97


@dataclass(frozen=True)
class Step:
    """One thing to run."""

    name: str
    kind: Kind
    minutes: float
    """On one H200, estimated; more than a command may take means that it is typed again."""
    text: str
    method: str = ""
    """Of a student: the file in configs/methods."""
    changes: tuple[str, ...] = ()
    """Of a student: overrides."""


def _student(
    method: str, epochs: int, text: str = "", suffix: str = "", changes: tuple[str, ...] = ()
) -> Step:
    views = _VIEWS.get(method, 512) * _STEPS_PER_EPOCH * epochs
    return Step(
        name=f"{method}-{epochs}{suffix}",
        kind="student",
        minutes=round(views / _VIEWS_PER_S / 60 + 2, 1),
        text=text or f"{method.replace('-', ' ')}, {epochs} epochs, and the paper's probe",
        method=method,
        changes=(f"train.epochs={epochs}", *changes),
    )


STEPS = (
    Step("throughput", "throughput", 6, "every part beside its roofline and its rivals"),
    Step("teacher-sizes", "sizes", 7, "teachers of several widths, two minutes each"),
    Step("teacher", "teacher", 25, "StyleGAN2-ADA on the images, with snapshots on the way"),
    Step("pool", "pool", 2, "200,000 samples with their features; made again on every machine"),
    *(_student(method, 100) for method in METHODS),
    *(_student(method, 800) for method in METHODS),
    _student(METHODS[0], 200, "longer pool", "-pool-1m", ("generate.num_samples=1000000",)),
    _student(METHODS[0], 200, "fresh samples in every step", "-online", ("train.source=online",)),
    _student(METHODS[0], 200, "a student twice as wide", "-wide", ("train.student.width=128",)),
)  # fmt: skip
"""In the order in which to type them. The last three ask what else would raise the probe."""


def find_step(name: str) -> Step | None:
    """The step of that name."""
    return next((step for step in STEPS if step.name == name), None)
