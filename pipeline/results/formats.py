"""Sheets and groups as text that other programs read: Markdown, LaTeX, CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from pipeline.results.compare import Comparison
from pipeline.results.query import Group
from pipeline.results.table import Sheet

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "‖": r"$\|$",
    "²": "$^2$",
    "³": "$^3$",
    "λ": r"$\lambda$",
    "γ": r"$\gamma$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "…": r"\dots{}",
}
_OF_ONE_VALUE = ("low", "high", "expected", "p_value")
_OF_ONE = ("seed", "train_seed", "value", *_OF_ONE_VALUE, "versions", "created_at")
"""Fields of a number that a group of several has no one value of, or that are no one's column."""


def to_markdown(sheets: Sequence[Sheet]) -> str:
    """A table for each sheet, its title above and its notes below."""
    parts = []
    for sheet in sheets:
        aligns = ["---"] * sheet.num_labels
        aligns += ["---:"] * (len(sheet.headings) - sheet.num_labels)
        rows = [_pipe(sheet.headings), _pipe(aligns), *map(_pipe, sheet.rows)]
        notes = [f"- {note}" for note in sheet.notes]
        parts.append("\n".join([f"**{sheet.title}**", "", *rows, "", *notes]))
    return "\n\n".join(parts) + "\n"


def to_latex(sheets: Sequence[Sheet]) -> str:
    """A `table` for each sheet, with the rules of booktabs and its notes under it."""
    lines = [r"% needs \usepackage{booktabs}"]
    for sheet in sheets:
        num_figures = len(sheet.headings) - sheet.num_labels
        lines += [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_escape(sheet.title)}}}",
            rf"\begin{{tabular}}{{{'l' * sheet.num_labels}{'r' * num_figures}}}",
            r"\toprule",
            _ampersand(sheet.headings),
            r"\midrule",
            *map(_ampersand, sheet.rows),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {_escape(note)}" for note in sheet.notes),
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def groups_to_csv(groups: Sequence[Group]) -> str:
    """A line for each group, in full precision: what was measured on what, mean, standard deviation
    (ddof 1), n, and the interval of the mean; `low`, `high`, `expected` and `p_value` are the one
    value's own.
    """
    return _to_csv([_group_row(found) for found in groups])


def comparisons_to_csv(comparisons: Sequence[Comparison]) -> str:
    """A line for each comparison, in full precision."""
    rows = []
    for comparison in comparisons:
        one, other = comparison.first, comparison.second
        shared = asdict(one.first)
        names = ("task", "dataset", "split_digest", "metric", "probe", "labels", "protocol")
        row: dict[str, Any] = {name: shared[name] for name in names}
        for place, found in (("first", one), ("second", other)):
            row |= {
                f"{place}_run": found.first.run,
                f"{place}_mean": found.summary.mean,
                f"{place}_std": found.summary.std,
                f"{place}_n": found.summary.num_values,
            }
        difference = comparison.difference
        row |= {
            "difference": difference.mean,
            "interval_low": difference.low,
            "interval_high": difference.high,
            "how": difference.how,
        }
        rows.append(row)
    return _to_csv(rows)


def _group_row(found: Group) -> dict[str, Any]:
    summary = found.summary
    row = {name: value for name, value in asdict(found.first).items() if name not in _OF_ONE}
    runs = dict.fromkeys(number.run for number in found.numbers)
    students = dict.fromkeys(number.student_digest or "" for number in found.numbers)
    is_single = len(found.numbers) == 1
    return row | {
        "run": " ".join(runs),
        "student_digest": " ".join(students),
        "mean": summary.mean,
        "std": summary.std,
        "n": summary.num_values,
        "over": "trainings" if found.over_trainings else "seeds",
        "seeds": " ".join(str(seed) for seed in found.values),
        "interval_low": summary.low,
        "interval_high": summary.high,
        **{name: getattr(found.first, name) if is_single else None for name in _OF_ONE_VALUE},
    }


def _to_csv(rows: Sequence[dict[str, Any]]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def _pipe(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _ampersand(cells: Sequence[str]) -> str:
    return " & ".join(map(_escape, cells)) + r" \\"


def _escape(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)
