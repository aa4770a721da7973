"""What was found, as a JSON file that is complete after every figure: a process that is killed
leaves what it has measured.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shards.atomic import write_atomic

DATA = (
    "CIFAR-10 as a JPEG re-encoding of quality about 75: compares with no number on the original "
    "images, the paper's among them"
)
NEEDS_GPU = "needs a GPU"


@dataclass(frozen=True)
class Figure:
    """One number, or why there is none."""

    name: str
    value: float | None
    unit: str
    mode: str = ""
    """How torch.compile prepared the networks, `off` included; empty where that is no question."""
    problem: str = ""


@dataclass
class Findings:
    """Figures and their circumstances in `path`."""

    path: Path
    circumstances: dict[str, Any]
    figures: list[Figure] = field(default_factory=list)

    def add(
        self, name: str, value: float | None, unit: str, mode: str = "", problem: str = ""
    ) -> None:
        """Keep a figure."""
        self.figures.append(Figure(name, value, unit, mode, problem))
        self.write()
        shown = problem.strip().splitlines()[-1] if problem else f"{value:,.4g} {unit}"
        print(f"{name}{f' ({mode})' if mode else ''}: {shown}", flush=True)

    def attempt(
        self, name: str, unit: str, task: Callable[[], float | None], mode: str = ""
    ) -> None:
        """Keep what `task` returns, or how it failed; None is for what needs a GPU."""
        try:
            value = task()
        except Exception:
            self.add(name, None, unit, mode, traceback.format_exc())
            return
        self.add(name, value, unit, mode, NEEDS_GPU if value is None else "")

    @property
    def has_failed(self) -> bool:
        """Whether there is a problem other than the lack of a GPU."""
        return any(figure.problem not in ("", NEEDS_GPU) for figure in self.figures)

    def write(self, **more: Any) -> None:
        """Write all of it; `more` are further circumstances."""
        self.circumstances |= more
        content = {**self.circumstances, "figures": [asdict(figure) for figure in self.figures]}
        write_atomic(self.path, json.dumps(content, indent=1) + "\n", is_durable=False)


def read_figures(folder: Path) -> list[Figure]:
    """Figures of all JSON files in `folder`."""
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return [Figure(**figure) for content in contents for figure in content.get("figures", ())]


def find_value(figures: Sequence[Figure], name: str, mode: str | None = None) -> float | None:
    """The last value of that name, in the mode if one is given; None if there is none."""
    values = [
        figure.value
        for figure in figures
        if figure.name == name and mode in (None, figure.mode) and figure.value is not None
    ]
    return values[-1] if values else None
