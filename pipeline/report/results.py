"""A run's accuracies as people read them: the table, each protocol in a sentence, and what they say
about the student.

Rows are those of `results.json`, one for each representation, probe and kind of labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

REPRESENTATIONS = {
    "student": "student",
    "raw_pixels": "raw pixels",
    "untrained_student": "student, untrained",
}
PROBES = {"linear": "linear", "knn": "kNN", "linear_sgd": "linear by SGD"}
Row = dict[str, Any]


def results_table(name: str, rows: Sequence[Row]) -> Table:
    """The results of the run `name`, for the terminal."""
    protocols = list_protocols(rows)
    table = Table(title=f"{name}: top-1 accuracy on real test images, %")
    table.add_column("representation")
    for probe, labels in protocols:
        table.add_column(f"{PROBES[probe]}\n{labels.replace('_', ' ')}", justify="right")
    for key, title in list_representations(rows).items():
        cells = [cell(rows, key, protocol) for protocol in protocols]
        table.add_row(title, *cells, style="bold" if key == "student" else None)
    return table


def list_protocols(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Probe and labels of every column of the table."""
    return list(dict.fromkeys((row["probe"], row["labels"]) for row in rows))


def list_representations(rows: Sequence[Row]) -> dict[str, str]:
    """Those that were probed, with their titles."""
    found = {row["representation"] for row in rows}
    return {key: title for key, title in REPRESENTATIONS.items() if key in found}


def cell(rows: Sequence[Row], representation: str, protocol: tuple[str, str]) -> str:
    """The accuracy, with its spread where there are several seeds; "–" where none was measured."""
    row = _find_row(rows, representation, *protocol)
    if row is None:
        return "–"
    spread = f" ± {row['top1_std']:.1f}" if len(row["seeds"]) > 1 else ""
    return f"{row['top1_mean']:.1f}{spread}"


def _find_row(rows: Sequence[Row], representation: str, probe: str, labels: str) -> Row | None:
    key = (representation, probe, labels)
    found = (r for r in rows if (r["representation"], r["probe"], r["labels"]) == key)
    return next(found, None)


def verdict(rows: Sequence[Row]) -> str:
    """What the numbers say about the student, beside the baselines where there are any."""
    probes = {row["probe"] for row in rows if row["representation"] == "student"}
    probe = next(name for name in ("linear", "linear_sgd", "knn") if name in probes)
    title = "kNN" if probe == "knn" else "a linear probe"
    with_all = {key: cell(rows, key, (probe, "all")) for key in REPRESENTATIONS}
    found = (row["labels"] for row in rows if row["labels"] != "all" and row["probe"] == probe)
    few = next(found, None)
    if few is None:
        return f"On the student {title} scores {with_all['student']} % with all labels."
    scores = {key: cell(rows, key, (probe, few)) for key in REPRESENTATIONS}
    name = few.replace("_per_", " labels per ")
    if len(list_representations(rows)) < len(REPRESENTATIONS):
        return (
            f"On the student {title} scores {with_all['student']} % with all labels and "
            f"{scores['student']} % with {name}."
        )
    peers = [row for row in rows if (row["probe"], row["labels"]) == (probe, few)]
    best = max(peers, key=lambda row: row["top1_mean"])
    warning = "" if best["representation"] == "student" else " The student is not the best here."
    return (
        f"With {name}, {title} on the student scores "
        f"{scores['student']} %, on raw pixels {scores['raw_pixels']} %, and on the same network "
        f"untrained {scores['untrained_student']} %. With all labels, in that order: "
        f"{with_all['student']}, {with_all['raw_pixels']} and "
        f"{with_all['untrained_student']} %.{warning}"
    )


def protocol_texts(rows: Sequence[Row]) -> list[str]:
    """Each protocol with its probe, and with the labels where those make a difference."""
    texts: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        texts.setdefault((row["probe"], row["protocol"]), []).append(row["labels"])
    probes = [probe for probe, _ in texts]
    found = []
    for (probe, text), labels in texts.items():
        title = "kNN" if probe == "knn" else PROBES[probe].replace("l", "L", 1)
        if probes.count(probe) > 1:
            named = ", ".join(dict.fromkeys(labels)).replace("_", " ")
            title += f", {named.replace('all', 'all labels')}"
        found.append(f"{title}: {text}")
    return found
