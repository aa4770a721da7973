"""Sheets of the ledger: what stands in a column, what is refused, and the formats."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import pytest

from pipeline.results.compare import compare_groups, compare_runs, comparison_sheet
from pipeline.results.formats import comparisons_to_csv, groups_to_csv, to_latex, to_markdown
from pipeline.results.ledger import Number
from pipeline.results.query import group
from pipeline.results.table import Sheet, make_sheets
from shards.errors import UserError
from tests.support.ledger_numbers import draws, number, trainings

WIDE = {"run": "wide", "student_digest": "b" * 64, "epochs": 6}


def sheet(numbers: list[Number], over_trainings: bool = False) -> Sheet:
    (found,) = make_sheets(group(numbers, over_trainings))
    return found


def test_sheet_has_a_row_for_each_run_and_a_column_for_each_measurement() -> None:
    found = sheet([number(83.25), *draws([66.0, 64.0, 71.0]), number(90.0, **WIDE)])
    assert found.title == "classification, digits, top-1, %, linear"
    assert found.headings == ("run", "representation", "all labels", "10 per class")
    assert found.rows == (
        ("digits", "student", "83.2", "67.0 ± 3.6"),
        ("wide", "student", "90.0", "–"),
    )
    notes = "\n".join(found.notes)
    assert "standard deviation (ddof 1)" in notes
    assert "n = 3" in notes
    assert "logistic regression" in notes


def test_sheet_names_n_in_each_cell_where_it_differs() -> None:
    found = sheet([*draws([66.0, 64.0, 71.0]), *draws([80.0, 82.0], **WIDE)])
    assert [row[-1] for row in found.rows] == ["67.0 ± 3.6 (n = 3)", "81.0 ± 1.4 (n = 2)"]


def test_sheet_can_show_half_of_the_interval() -> None:
    (found,) = make_sheets(group(draws([80.0, 82.0])), "interval")
    assert found.rows[0][-1] == "81.0 ± 12.7"
    assert "95 %" in found.notes[0]


def test_sheet_shows_an_interval_of_the_value_itself() -> None:
    found = sheet([number(0.01234, low=0.0101, high=0.0149, metric="squared_mmd", labels="none")])
    assert found.rows[0][-1] == "0.0123 [0.0101, 0.0149]"


def test_sheet_tells_two_students_of_one_run_apart() -> None:
    found = sheet([number(50.0), number(60.0, student_digest="b" * 64)])
    assert [row[0] for row in found.rows] == ["digits@aaaaaaaa", "digits@bbbbbbbb"]


def test_sheet_over_trainings_has_one_row_for_all() -> None:
    found = sheet(trainings("squeeze", [50.0, 52.0]), over_trainings=True)
    assert found.rows == (("squeeze-seed*", "student", "51.0 ± 1.4"),)
    assert "over trainings, n = 2" in found.notes[0]


def test_tasks_have_sheets_of_their_own() -> None:
    both = [number(), number(0.5, task="domain_gap", metric="squared_mmd", probe="", labels="")]
    assert [found.title for found in make_sheets(group(both))] == [
        "classification, digits, top-1, %, linear, all labels",
        "domain gap, digits, squared MMD",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"protocol": "logistic regression, SGD"}, "protocol (L-BFGS; SGD)"),
        ({"split_digest": "9" * 64}, "split_digest (11111111; 99999999)"),
    ],
)
def test_column_and_comparison_of_other_protocol_or_split_are_refused(
    changes: dict[str, str], words: str
) -> None:
    both = [number(50.0), number(60.0, **WIDE, **changes)]
    with pytest.raises(UserError) as of_column:
        make_sheets(group(both))
    with pytest.raises(UserError) as of_comparison:
        compare_runs(both, "digits", "wide")
    for raised in (of_column, of_comparison):
        message = str(raised.value)
        assert words in message
        assert "digits" in message
        assert "wide" in message
        assert "\n" not in message


def test_notes_name_the_labels_of_a_probe_with_several_protocols() -> None:
    few = number(40.0, labels="5_per_class", protocol="q")
    (found,) = make_sheets(group([number(50.0, labels="all", protocol="p"), few]))
    assert "linear, all labels: p" in found.notes
    assert "linear, 5 per class: q" in found.notes
    (found,) = make_sheets(group([few]))
    assert "linear: q" in found.notes


def test_column_of_other_protocols_is_left_out_with_a_note_and_the_others_stay() -> None:
    other = {**WIDE, "protocol": "logistic regression, SGD"}
    knn = {"probe": "knn", "protocol": "k = 10"}
    numbers = [number(50.0), number(60.0, **other), number(40.0, **knn)]
    (found,) = make_sheets(group([*numbers, number(45.0, **{**WIDE, **knn})]))
    assert [row[-1] for row in found.rows] == ["40.0", "45.0"]
    assert "50.0" not in str(found.rows)
    (note,) = [note for note in found.notes if note.startswith("left out: ")]
    assert "protocol (L-BFGS; SGD)" in note


@pytest.mark.parametrize("field", ["metric", "dataset", "task", "labels", "probe"])
def test_comparison_of_another_measurement_is_refused(field: str) -> None:
    both = [number(50.0), number(60.0, **WIDE, **{field: "another"})]
    first, second = group(both)
    with pytest.raises(UserError, match=field):
        compare_groups(first, second)
    with pytest.raises(UserError, match=rf"nothing was measured alike.*{field}"):
        compare_runs(both, "digits", "wide")


def test_comparison_is_second_less_first_paired_by_seed() -> None:
    numbers = [*draws([66.0, 64.0, 71.0]), *draws([67.0, 66.0, 74.0], **WIDE)]
    (found,) = compare_runs(numbers, "digits", "wide")
    assert found.difference.mean == 2.0
    shown = comparison_sheet([found], ("digits", "wide"))
    # mean 2, deviation 1, t of two degrees of freedom 4.303: 2 ± 4.303 / sqrt(3)
    assert shown.rows[0][1:5] == ("67.0 ± 3.6", "69.0 ± 4.4", "+2.0", "[-0.5, +4.5]")
    assert "they differ in: epochs (3; 6)" in shown.notes


def test_comparison_over_trainings_takes_all_repetitions_of_the_named_ones() -> None:
    numbers = [*trainings("a", [50.0, 52.0]), *trainings("b", [70.0, 73.0], training_digest="8")]
    (found,) = compare_runs(numbers, "a-seed0", "b-seed1", over_trainings=True)
    assert found.difference.mean == 20.5
    assert found.difference.how == "paired by seed, n = 2"


def test_comparison_over_the_same_trainings_is_refused() -> None:
    numbers = trainings("a", [50.0, 52.0])
    with pytest.raises(UserError, match=r"same trainings.*--over-trainings"):
        compare_runs(numbers, "a-seed0", "a-seed1", over_trainings=True)
    (found,) = compare_runs(numbers, "a-seed0", "a-seed1")
    assert found.difference.mean == 2.0


def test_comparison_skips_what_was_not_measured_alike() -> None:
    other = {**WIDE, "protocol": "logistic regression, SGD"}
    knn = {"probe": "knn", "protocol": "k = 10"}
    numbers = [number(50.0), number(60.0, **other), number(40.0, **knn)]
    (found,) = compare_runs([*numbers, number(45.0, **{**WIDE, **knn})], "digits", "wide")
    assert found.difference.mean == 5.0


def test_comparison_takes_what_was_measured_alike_of_several_protocols() -> None:
    other = {"protocol": "logistic regression, SGD"}
    numbers = [number(50.0), number(55.0, **other), number(60.0, **WIDE, **other)]
    (found,) = compare_runs(numbers, "digits", "wide")
    assert found.difference.mean == 5.0


def test_comparison_of_a_run_with_two_students_asks_which() -> None:
    numbers = [number(50.0), number(60.0, student_digest="c" * 64), number(70.0, **WIDE)]
    with pytest.raises(UserError, match=r"name digits@aaaaaaaa, digits@cccccccc"):
        compare_runs(numbers, "digits", "wide")
    (found,) = compare_runs(numbers, "digits@c", "wide")
    assert found.difference.mean == 10.0
    with pytest.raises(UserError, match="did you mean wide"):
        compare_runs(numbers, "wyde", "digits@c")


SHEET = Sheet("50 % of_it", ("run", "a & b"), (("x_y", "1.0 ± 0.2"), ("p|q", "–")), ("n = 2",), 1)


def test_markdown_is_a_table_with_title_and_notes() -> None:
    assert to_markdown([SHEET]).splitlines() == [
        "**50 % of_it**",
        "",
        "| run | a & b |",
        "| --- | ---: |",
        "| x_y | 1.0 ± 0.2 |",
        "| p\\|q | – |",
        "",
        "- n = 2",
    ]


def test_latex_has_the_rules_of_booktabs_and_no_bare_signs() -> None:
    lines = to_latex([SHEET]).splitlines()
    assert r"\begin{tabular}{lr}" in lines
    top, middle, bottom = (lines.index(rf"\{name}rule") for name in ("top", "mid", "bottom"))
    assert lines[top + 1] == r"run & a \& b \\"
    assert lines[middle + 1 : bottom] == [r"x\_y & 1.0 $\pm$ 0.2 \\", r"p|q & -- \\"]
    assert r"\caption{50 \% of\_it}" in lines


def test_latex_has_no_sign_that_pdflatex_does_not_know() -> None:
    protocols = "C = 1/λ, k(x, y) = exp(-γ‖x - y‖²), (x·y / D + 1)³ – ± × …"
    sheet = replace(SHEET, notes=(protocols,))
    assert to_latex([sheet]).isascii()


def test_csv_has_full_precision_and_keeps_protocols_apart() -> None:
    numbers = [*draws([1 / 3, 2 / 3]), number(5.0, protocol="another, with a comma")]
    rows = list(csv.DictReader(io.StringIO(groups_to_csv(group(numbers)))))
    assert [float(row["mean"]) for row in rows] == [0.5, 5.0]
    assert float(rows[0]["std"]) == pytest.approx((1 / 18) ** 0.5, abs=1e-15)
    assert rows[0]["n"] == "2"
    assert (rows[0]["over"], rows[0]["seeds"]) == ("seeds", "0 1")
    assert rows[1]["protocol"] == "another, with a comma"
    assert rows[1]["std"] == ""


def test_csv_of_comparisons_has_the_interval() -> None:
    numbers = [*draws([66.0, 64.0, 71.0]), *draws([67.0, 66.0, 74.0], **WIDE)]
    text = comparisons_to_csv(compare_runs(numbers, "digits", "wide"))
    (row,) = csv.DictReader(io.StringIO(text))
    assert (row["first_run"], row["second_run"], float(row["difference"])) == ("digits", "wide", 2)
    assert float(row["interval_low"]) < 0 < float(row["interval_high"])
