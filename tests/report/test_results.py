"""The table of a run's accuracies, and the sentence about them."""

from __future__ import annotations

from pipeline.report.results import list_representations, verdict
from pipeline.results.query import group
from tests.support.ledger_numbers import draws, number

BESIDE = [
    number(63.0, representation="vicreg-real"),
    number(60.0, representation="raw_pixels"),
    number(29.0, representation="untrained_student"),
]


def test_student_and_control_come_before_the_baselines() -> None:
    groups = group([*BESIDE[::-1], number(69.0, minutes=1)])
    shown = ["student", "vicreg-real", "raw_pixels", "untrained_student"]
    assert list_representations(groups) == shown


def test_verdict_names_whatever_was_probed_beside_the_student() -> None:
    assert verdict(group([number(69.0), *BESIDE])) == (
        "With all labels, a linear probe on the student scores 69.0 %, on VICReg, real images "
        "63.0 %, on raw pixels 60.0 %, on the same network untrained 29.0 %."
    )
    assert verdict(group([number(69.0)])) == (
        "With all labels, a linear probe on the student scores 69.0 %."
    )


def test_verdict_of_few_labels_has_those_of_all_labels_in_the_same_order() -> None:
    numbers = [number(97.0), *draws((90.0, 92.0))]
    control = {"representation": "vicreg-real"}
    numbers += [number(95.0, **control), *draws((93.0, 95.0), **control)]
    assert verdict(group(numbers)) == (
        "With 10 labels per class, a linear probe on the student scores 91.0 ± 1.4 %, on VICReg, "
        "real images 94.0 ± 1.4 %. With all labels, in that order: 97.0 %, 95.0 %. The student is "
        "not the best here."
    )
