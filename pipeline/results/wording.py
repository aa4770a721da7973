"""How numbers read to people: names, units, spreads, and how each was measured.

Neighbours: whatever shows numbers of the ledger takes its words from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pipeline.results.ledger import Measurement, Number
from pipeline.results.query import Group
from pipeline.results.spread import Difference

Spread = Literal["std", "interval"]
BASELINES = ("raw_pixels", "untrained_student")
"""What is probed beside the student, in the order in which they are shown."""
EMPTY = "–"
_UNITS = {"top1": "top-1, %", "top5": "top-5, %", "mean_per_class": "mean per class, %",
          "mAP": "mAP, %"}  # fmt: skip
_NAMES = {
    "knn": "kNN",
    "linear_sgd": "linear by SGD",
    "all": "all labels",
    "untrained_student": "student, untrained",
    "squeeze-and-span": "squeeze and span",
    "vicreg-real": "VICReg, real images",
    "vicreg-both": "VICReg, both domains",
    "domain_gap": "domain gap",
    "squared_mmd": "squared MMD",
    "squared_mmd_cubic": "squared MMD, cubic kernel",
    "squared_mmd_rbf": "squared MMD, RBF kernel",
    "memorisation_c_t": "copying, C_T",
    "memorisation_c_t_control": "copying, C_T, control",
    "memorisation_train_share": "copying, share nearer to train",
    "memorisation_train_share_control": "copying, share nearer to train, control",
    "frechet_distance": "Fréchet distance",
}
_CONTROL = "train images in the place of synthetic ones"
_MEANINGS = {
    "squared_mmd_cubic": "gap between the domains",
    "squared_mmd_rbf": "gap between the domains",
    "precision": "synthetic images that lie among the real ones",
    "recall": "real images that lie among the synthetic ones",
    "density": "real images around a synthetic one",
    "coverage": "real images with a synthetic one nearby",
    "memorisation_c_t": "negative if synthetic images crowd around train images",
    "memorisation_c_t_control": _CONTROL,
    "memorisation_train_share": "synthetic images nearer to train than to test images",
    "memorisation_train_share_control": _CONTROL,
    "frechet_distance": "of the teacher's images to real ones",
    "kernel_distance": "of the teacher's images to real ones",
}


def title(name: object) -> str:
    """A field's value."""
    return _NAMES.get(str(name), str(name).replace("_", " "))


def unit(metric: str) -> str:
    """A metric and its unit."""
    return _UNITS.get(metric, title(metric))


def explain(metric: str) -> str:
    """A metric and, where its name does not say so, what it is."""
    meaning = _MEANINGS.get(metric)
    return unit(metric) if meaning is None else f"{unit(metric)}: {meaning}"


def probe_title(probe: str, labels: str) -> str:
    """A probe and the labels that it was given, as far as there are any."""
    return ", ".join(title(name) for name in (probe, labels) if name)


def format_value(value: float, metric: str, sign: str = "-") -> str:
    """One decimal of a percentage, three significant digits of anything else."""
    return f"{value:{sign}.1f}" if metric in _UNITS else f"{value:{sign}.3g}"


def format_group(found: Group, spread: Spread = "std") -> str:
    """Mean and, after ±, standard deviation or half of the interval of the mean; of a single value
    with an interval of its own, that.
    """
    first, summary = found.first, found.summary
    mean = format_value(summary.mean, first.metric)
    half = None if summary.low is None else summary.mean - summary.low
    deviation = summary.std if spread == "std" else half
    if deviation is not None:
        return f"{mean} ± {format_value(deviation, first.metric)}"
    if len(found.numbers) == 1 and first.low is not None and first.high is not None:
        return f"{mean} {format_interval(first.low, first.high, first.metric)}"
    return mean


def format_interval(low: float, high: float, metric: str, sign: str = "-") -> str:
    """Its ends in brackets."""
    return f"[{format_value(low, metric, sign)}, {format_value(high, metric, sign)}]"


def format_difference(found: Difference, metric: str = "top1") -> str:
    """In points, with its sign and, in brackets, its interval where it has one."""
    mean = format_value(found.mean, metric, "+")
    if found.low is None or found.high is None:
        return mean
    return f"{mean} {format_interval(found.low, found.high, metric, '+')}"


def spread_over(found: Group) -> str:
    """What the seeds of a group are of."""
    return "trainings" if found.over_trainings else "seeds of the evaluation, one training each"


def protocol_notes(numbers: Sequence[Measurement]) -> list[str]:
    """Every protocol once, after the probes or metrics that are by it, and their labels where a
    probe has several protocols.
    """
    by_probe: dict[str, set[str]] = {}
    for number in numbers:
        by_probe.setdefault(number.probe or number.metric, set()).add(number.protocol)
    protocols: dict[str, dict[str, None]] = {}
    for number in numbers:
        probe = number.probe or number.metric
        labels = number.labels if len(by_probe[probe]) > 1 else ""
        protocols.setdefault(number.protocol, {})[probe_title(probe, labels)] = None
    return [f"{'; '.join(probes)}: {protocol}" for protocol, probes in protocols.items()]


def split_note(numbers: Sequence[Number]) -> str:
    """On what was measured."""
    splits = dict.fromkeys(f"{number.dataset} {number.split_digest[:8]}" for number in numbers)
    return f"measured on: {', '.join(splits)}"
