"""Rows of the paper's tables 1, 2 and 5: which config each is, and the paper's number for it.

Numbers are top-1 in percent, linear probe, of Yang et al. 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from shards.errors import UserError

DATASETS = ("cifar10", "cifar100", "stl10", "imagenet100", "imagenet")


@dataclass(frozen=True)
class Row:
    """One way to train. `config` is a file of `configs/methods/`, without `.yaml`."""

    label: str
    images: str
    config: str
    paper: dict[str, float] = field(default_factory=dict)
    """Data set -> the paper's number."""


@dataclass(frozen=True)
class Table:
    """A table of the paper."""

    name: str
    title: str
    rows: tuple[Row, ...]


def _numbers(*values: float | None) -> dict[str, float]:
    """By the data sets in order, None where the paper has no number."""
    pairs = zip(DATASETS, values, strict=False)
    return {name: value for name, value in pairs if value is not None}


_BOTH = "synthetic and real"
_SYNTHETIC = "synthetic"
_SQUEEZE_AND_SPAN = _numbers(92.54, 67.87, 76.83, 53.32, 47.80)
TABLES = (
    Table(
        "table1",
        "Table 1: sources of knowledge, and ways to transfer it",
        (
            Row("discriminator, single feature", _BOTH, "discriminator-single",
                _numbers(63.81, 30.11)),
            Row("discriminator, multiple features", _BOTH, "discriminator-multi",
                _numbers(77.58, 51.63)),
            Row("latent, encoding", _SYNTHETIC, "encoding-synthetic", _numbers(57.15, 32.19)),
            Row("latent, encoding", _BOTH, "encoding-both", _numbers(50.27, 28.43)),
            Row("latent, vanilla distillation with augmentation", _SYNTHETIC, "latent-vanilla",
                _numbers(84.84, 53.26)),
            Row("latent, squeeze", _SYNTHETIC, "latent-squeeze", _numbers(86.99, 58.56)),
            Row("latent, squeeze and span", _BOTH, "latent-squeeze-and-span",
                _numbers(90.95, 66.17)),
            Row("features, vanilla distillation with augmentation", _SYNTHETIC, "vanilla",
                _numbers(84.48, 52.77)),
            Row("features, squeeze", _SYNTHETIC, "squeeze", _numbers(87.67, 57.35, 73.35)),
            Row("features, squeeze and span", _BOTH, "squeeze-and-span", _SQUEEZE_AND_SPAN),
        ),
    ),
    Table(
        "table2",
        "Table 2: beside self-supervised learning on the same images",
        (
            Row("SimSiam", "real", "simsiam-real", _numbers(90.94, 62.44, 71.30)),
            Row("SimSiam", _SYNTHETIC, "simsiam-synthetic", _numbers(85.11, 47.89, 73.38)),
            Row("SimSiam", _BOTH, "simsiam-both", _numbers(90.88, 62.68, 71.70)),
            Row("VICReg", "real", "vicreg-real", _numbers(89.20, 63.31, 74.43)),
            Row("VICReg", _SYNTHETIC, "vicreg-synthetic", _numbers(84.68, 52.84, 70.80)),
            Row("VICReg", _BOTH, "vicreg-both", _numbers(90.46, 65.22, 75.05, 46.42, 47.32)),
            Row("squeeze and span", _BOTH, "squeeze-and-span", _SQUEEZE_AND_SPAN),
        ),
    ),
    Table(
        "table5",
        "Table 5: ablation",
        (
            Row("a: distillation alone", _SYNTHETIC, "vanilla-no-augmentation", _numbers(74.20)),
            Row("b: and augmentation", _SYNTHETIC, "vanilla", _numbers(84.48)),
            Row("c: and squeeze module", _SYNTHETIC, "squeeze-no-regularisers", _numbers(10.00)),
            Row("d: and variance", _SYNTHETIC, "squeeze-no-covariance", _numbers(79.10)),
            Row("e: and covariance", _SYNTHETIC, "squeeze", _numbers(87.67)),
            Row("f: and span", _BOTH, "squeeze-and-span", _numbers(92.54)),
        ),
    ),
)  # fmt: skip


def choose_configs(wanted: Literal["all"] | Sequence[str]) -> list[str]:
    """The 19 configs behind the 23 lines, each once, in the order of the tables; or some of them.

    Raises:
        UserError: naming one that is in no table.
    """
    known = list(dict.fromkeys(row.config for table in TABLES for row in table.rows))
    if wanted == "all":
        return known
    for name in wanted:
        if name not in known:
            raise UserError(f"tables.rows: no table has {name!r}; there are {', '.join(known)}")
    return [name for name in known if name in wanted]
