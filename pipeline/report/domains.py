"""What an evaluation found of the two domains, in words and numbers for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.results.ledger import Number
from pipeline.results.wording import explain, title

_TESTS = ("memorisation_c_t", "memorisation_train_share")
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class DomainRow:
    """One line of the table."""

    title: str
    representation: str
    value: str
    interval: str
    note: str


def domain_row(number: Number) -> DomainRow:
    """One number about the two domains."""
    interval = ""
    if number.low is not None and number.high is not None:
        interval = f"{number.low:.3g} to {number.high:.3g}"
    note = ""
    if number.p_value is not None:
        note = f"p = {number.p_value:.2g}; the interval is that of no copying"
    elif number.expected is not None:
        note = f"equal domains: {number.expected:.3g}"
    return DomainRow(
        explain(number.metric), title(number.representation), f"{number.value:.3g}", interval, note
    )


def memorisation_verdict(numbers: Sequence[Number]) -> str | None:
    """What both tests of memorisation say together with their controls; None without them."""
    found = {number.metric: number for number in numbers}
    tests = [found[name] for name in _TESTS if name in found]
    p_values = [test.p_value for test in tests if test.p_value is not None]
    if len(p_values) < len(_TESTS):
        return None
    controls = [found[f"{name}_control"] for name in _TESTS]
    if not all(_is_within(control) for control in controls):
        return (
            "Whether the teacher copies its train images cannot be told: train and test images "
            "differ by themselves, as the controls show."
        )
    num_flagged = sum(p_value < _SIGNIFICANT for p_value in p_values)
    if not num_flagged:
        return "Neither test finds that the teacher copies its train images."
    both = num_flagged == len(_TESTS)
    return (
        f"{'Both tests flag' if both else 'One of two tests flags'} the teacher's images as too "
        "near to its train images: look at the nearest neighbours for copies."
    )


def _is_within(number: Number) -> bool:
    assert number.low is not None
    assert number.high is not None
    return number.low <= number.value <= number.high
