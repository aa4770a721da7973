"""What came out of a step, as a JSON file with all that it depends on, and the table of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.accelerator.stage_runs import Workplace
from benchmarks.accelerator.steps import Step
from benchmarks.accelerator.travel import JOURNAL
from pipeline.metrics import read_metrics
from pipeline.record import current_commit, installed_versions, read_record
from shards.atomic import write_atomic

RESULTS = Path(__file__).parent / "results"
DATA = (
    "CIFAR-10 as a JPEG re-encoding of quality about 75: compares with no number on the original "
    "images, the paper's among them"
)
PAPER = {
    "squeeze-and-span": 92.54,
    "squeeze": 87.67,
    "vanilla": 84.48,
    "vicreg-real": 89.20,
    "vicreg-both": 90.46,
}
"""Top-1 in percent by the paper's linear probe, best test epoch, after 800 epochs (Yang et al.
2022, Tables 1 and 2)."""
_CURVE_POINTS = 200


def teacher_result(workplace: Workplace, run: str) -> dict[str, Any]:
    """Distances to the real images over the training of the teacher of `run`."""
    metrics = read_metrics(workplace.runs / run / "teacher" / "metrics.jsonl")
    measured = [row for row in metrics if "frechet_distance" in row]
    names = ("images_seen", "frechet_distance", "kernel_distance")
    return {
        **_circumstances(workplace, run, ("teacher",)),
        "images_seen": metrics[-1]["images_seen"] if metrics else 0,
        "feature_space": "random-convnet (not FID)",
        "quality": [{name: row[name] for name in names} for row in measured],
        "curve": _thinned(metrics),
    }


def student_result(workplace: Workplace, step: Step) -> dict[str, Any]:
    """Accuracies of the student of `step`, and how it was trained."""
    folder = workplace.runs / step.name
    record = read_record(folder / "train")
    assert record is not None
    teacher = read_record(workplace.runs / workplace.base / "teacher")
    return {
        **_circumstances(workplace, step.name, ("train", "eval")),
        "method": step.method,
        "epochs": record.config["epochs"],
        "pool_size": record.outputs["pool_size"],
        "config": record.config,
        "teacher": None if teacher is None else teacher.outputs,
        "paper": PAPER.get(step.method),
        "figures": json.loads((folder / "results.json").read_text(encoding="utf-8")),
        "curve": _thinned(read_metrics(folder / "train" / "metrics.jsonl")),
    }


def write_result(out: Path, name: str, result: dict[str, Any]) -> None:
    """Write `out`/`name`.json."""
    write_atomic(out / f"{name}.json", json.dumps(result, indent=1) + "\n")


def _circumstances(workplace: Workplace, run: str, stages: Sequence[str]) -> dict[str, Any]:
    path = workplace.runs / run / JOURNAL
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    journal = [json.loads(line) for line in lines]
    return {
        "data": DATA,
        "is_toy": workplace.is_toy,
        "minutes": {
            stage: round(sum(e["minutes"] for e in journal if e["event"] == stage), 2)
            for stage in stages
        },
        "times_travelled": sum(entry["event"] == "travelled" for entry in journal),
        "device": sorted({entry["device"] for entry in journal if "device" in entry}),
        "command": workplace.command,
        "commit": current_commit(),
        "versions": installed_versions(),
    }


def _thinned(metrics: list[dict[str, float]]) -> list[dict[str, float]]:
    """Some lines of many, the last one among them."""
    every = max(1, len(metrics) // _CURVE_POINTS)
    return metrics[::-1][::every][::-1]


def read_results(folder: Path) -> dict[str, dict[str, Any]]:
    """All results in `folder` by name."""
    found = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }
    return {name: result for name, result in found.items() if "data" in result}


def students_table(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """Rows of text under `STUDENT_COLUMNS`: one for each student, the best of each length first."""
    rows = []
    for name, result in results.items():
        if "figures" not in result:
            continue
        top1 = {row["probe"]: row for row in result["figures"] if row["labels"] == "all"}
        sgd = top1.get("linear_sgd", {})
        paper = result["paper"]
        rows.append(
            [
                name,
                str(result["epochs"]),
                f"{result['pool_size']:,}",
                _percent(sgd.get("top1_mean")),
                _percent(sgd.get("top1_best")),
                _percent(top1.get("knn", {}).get("top1_mean")),
                f"{result['minutes']['train']:.1f}",
                ", ".join(result["device"]) + (" (toy)" if result["is_toy"] else ""),
                _percent(paper) if not result["is_toy"] else "–",
            ]
        )
    return sorted(rows, key=lambda row: (int(row[1]), -float(row[3].replace("–", "0"))))


STUDENT_COLUMNS = (
    "run",
    "epochs",
    "pool",
    "linear probe, last",
    "best",
    "kNN",
    "minutes",
    "on",
    "paper (800 epochs, best)",
)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"
