"""A run's accuracies as people read them: the table, and what they say about the student.

Numbers are those of one evaluation, gathered over its seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from pipeline.results.query import Group
from pipeline.results.wording import BASELINES, EMPTY, format_group, title


@dataclass(frozen=True)
class SetResults:
    """Accuracies on one labelled set."""

    name: str
    groups: Sequence[Group]

    @property
    def columns(self) -> list[tuple[str, str]]:
        """See `list_columns`."""
        return list_columns(self.groups)

    @property
    def representations(self) -> list[str]:
        """See `list_representations`."""
        return list_representations(self.groups)

    @property
    def spread(self) -> str:
        """What ± is over, where there is any."""
        most = max(found.summary.num_values for found in self.groups)
        if most == 1:
            return ""
        if any(found.first.labels == "all" and found.summary.std for found in self.groups):
            return f"; mean ± standard deviation over {most} folds, or draws of the few labels"
        return (
            f"; mean ± standard deviation over {most} draws of the few labels, nothing is drawn "
            "where all labels are used"
        )

    def cell(self, representation: str, column: tuple[str, str]) -> str:
        """See `cell`."""
        return cell(self.groups, representation, column)


def by_set(groups: Sequence[Group]) -> list[SetResults]:
    """Results of every labelled set, in the order in which they were measured."""
    names = dict.fromkeys(found.first.dataset for found in groups)
    return [SetResults(n, [found for found in groups if found.first.dataset == n]) for n in names]


def results_table(name: str, found: SetResults) -> Table:
    """The results of the run `name` on a labelled set, for the terminal."""
    groups, columns = found.groups, found.columns
    table = Table(title=f"{name}: top-1 accuracy on test images of {found.name}, %")
    table.add_column("representation")
    for probe, labels in columns:
        table.add_column(f"{title(probe)}\n{title(labels)}", justify="right")
    for key in list_representations(groups):
        cells = [cell(groups, key, column) for column in columns]
        table.add_row(title(key), *cells, style="bold" if key == "student" else None)
    return table


def list_columns(groups: Sequence[Group]) -> list[tuple[str, str]]:
    """Probe and labels of every column of the table."""
    return list(dict.fromkeys((found.first.probe, found.first.labels) for found in groups))


def list_representations(groups: Sequence[Group]) -> list[str]:
    """Those that were probed: the student, a control, baselines."""
    probed = dict.fromkeys(found.first.representation for found in groups)
    controls = [name for name in probed if name not in ("student", *BASELINES)]
    return [name for name in ("student", *controls, *BASELINES) if name in probed]


def cell(groups: Sequence[Group], representation: str, column: tuple[str, str]) -> str:
    """The accuracy, with its spread where there are several seeds."""
    found = find_group(groups, representation, column)
    return EMPTY if found is None else format_group(found)


def find_group(
    groups: Sequence[Group], representation: str, column: tuple[str, str]
) -> Group | None:
    """None where it was not measured."""
    key = (representation, *column)
    firsts = ((found, found.first) for found in groups)
    return next((g for g, n in firsts if (n.representation, n.probe, n.labels) == key), None)


NO_LABELS = (
    "The run has no labelled images, so no probe has measured the student. A few hundred labelled "
    "images are enough: name them as eval.sets.NAME.train and eval.sets.NAME.test, and run make "
    "eval."
)


def verdict(groups: Sequence[Group]) -> str:
    """What the numbers of one set say about the student, beside whatever else was probed."""
    if not groups:
        return NO_LABELS
    probes = {found.first.probe for found in groups if found.first.representation == "student"}
    probe = next(name for name in ("linear", "linear_sgd", "knn") if name in probes)
    named = "kNN" if probe == "knn" else "a linear probe"
    few = next((f for p, f in list_columns(groups) if p == probe and f != "all"), None)
    shown = list_representations(groups)
    with_all = _scores(groups, (probe, "all"))
    scores = with_all if few is None else _scores(groups, (probe, few))
    labels = "all labels" if few is None else few.replace("_per_", " labels per ")
    others = "".join(f", on {_PEERS.get(key, title(key))} {scores[key]} %" for key in shown[1:])
    text = f"With {labels}, {named} on the student scores {scores['student']} %{others}."
    if few is not None:
        in_order = ", in that order" if others else ""
        text += f" With all labels{in_order}: {', '.join(f'{with_all[key]} %' for key in shown)}."
    peers = [find_group(groups, key, (probe, few or "all")) for key in shown]
    best = max((peer for peer in peers if peer is not None), key=lambda peer: peer.summary.mean)
    return (
        text
        if best.first.representation == "student"
        else f"{text} The student is not the best here."
    )


_PEERS = {"raw_pixels": "raw pixels", "untrained_student": "the same network untrained"}


def _scores(groups: Sequence[Group], column: tuple[str, str]) -> dict[str, str]:
    return {key: cell(groups, key, column) for key in list_representations(groups)}
