"""What an evaluation found of the two domains, in words and numbers for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_TITLES = {
    "squared_mmd_cubic": "domain gap, squared MMD, cubic kernel",
    "squared_mmd_rbf": "domain gap, squared MMD, RBF kernel",
    "precision": "precision: synthetic images that lie among the real ones",
    "recall": "recall: real images that lie among the synthetic ones",
    "density": "density of real images around synthetic ones",
    "coverage": "coverage: real images with a synthetic one nearby",
    "memorisation_c_t": "copying, C_T: negative if synthetic images crowd around train images",
    "memorisation_c_t_control": "its control: train images in the place of synthetic ones",
    "memorisation_train_share": "share of synthetic images nearer to train than to test images",
    "memorisation_train_share_control": "its control: train images in the place of synthetic ones",
    "frechet_distance": "Fréchet distance of the teacher's images",
    "kernel_distance": "kernel distance of the teacher's images",
}
_TESTS = ("memorisation_c_t", "memorisation_train_share")
_SIGNIFICANT = 0.05
_REPRESENTATIONS = {"raw_pixels": "raw pixels"}


@dataclass(frozen=True)
class DomainRow:
    """One line of the table."""

    title: str
    representation: str
    value: str
    interval: str
    note: str


def domain_rows(numbers: Sequence[dict[str, Any]]) -> list[DomainRow]:
    """The numbers of `eval/domains.json`, in their order."""
    return [_row(number) for number in numbers]


def _row(number: dict[str, Any]) -> DomainRow:
    interval = ""
    if number["low"] is not None:
        interval = f"{number['low']:.3g} to {number['high']:.3g}"
    notes = []
    if number["p_value"] is not None:
        notes.append(f"p = {number['p_value']:.2g}; the interval is that of no copying")
    elif number["expected"] is not None:
        notes.append(f"equal domains: {number['expected']:.3g}")
    return DomainRow(
        _TITLES.get(number["metric"], number["metric"]),
        _REPRESENTATIONS.get(number["representation"], number["representation"]),
        f"{number['value']:.3g}",
        interval,
        "; ".join(notes),
    )


def memorisation_verdict(numbers: Sequence[dict[str, Any]]) -> str | None:
    """What both tests of memorisation say together with their controls; None without them."""
    found = {number["metric"]: number for number in numbers}
    if not all(name in found for name in _TESTS):
        return None
    controls = [found[f"{name}_control"] for name in _TESTS]
    if not all(control["low"] <= control["value"] <= control["high"] for control in controls):
        return (
            "Whether the teacher copies its train images cannot be told: train and test images "
            "differ by themselves, as the controls show."
        )
    flagged = [name for name in _TESTS if found[name]["p_value"] < _SIGNIFICANT]
    if not flagged:
        return "Neither test finds that the teacher copies its train images."
    both = len(flagged) == len(_TESTS)
    return (
        f"{'Both tests flag' if both else 'One of two tests flags'} the teacher's images as too "
        "near to its train images: look at the nearest neighbours for copies."
    )


def protocols(numbers: Sequence[dict[str, Any]]) -> list[str]:
    """Each protocol once."""
    return list(dict.fromkeys(number["protocol"] for number in numbers))
