"""`python -m benchmarks.speed.probe`: the linear transfer protocol beside scikit-learn's L-BFGS.

50,000 random features of 512 dimensions, made like those of a network (below), in 10 and in 100
classes; 20 % of them validate. Both sides fit all 45 values of C, score each on the validation
split, choose, and fit the chosen one again on everything. The rival is `LogisticRegression` on
float32, with its default tolerance and limit of iterations, which is what Ericsson et al.'s code
runs, each fit started from the one before, from the strongest penalty to the weakest (its quicker
direction).

The two do not stop at the same place: scikit-learn stops at a largest component of the gradient of
1e-4, in the features' units. So a second table says how far above our objective its is, and what
either chose.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from benchmarks.measure import (
    OURS,
    ResultTable,
    TableCell,
    against_rivals,
    common_parser,
    interleave,
    prepare,
    tabulate_ratios,
)
from pipeline.eval.logistic.choose_penalty import GRID, Labelled, choose_and_fit
from pipeline.eval.logistic.regression import fit_logistic
from pipeline.samples.seeding import torch_generator

RIVAL = "lbfgs"
_NUM_DIMS = 512
_SPREAD = {10: 1.0, 100: 2.3}  # of the classes' means: neither trivial nor hopeless


def draw_features(num_samples: int, num_dims: int, num_classes: int) -> Labelled:
    """Features [N, D] float32 with labels: Gaussian clouds whose variances fall like 1/i (as in
    trained networks, about: Agrawal et al. 2022), mixed, shifted and rectified, as pooled features
    are.
    """
    generator = torch_generator(0, "benchmarks/probe")
    labels = torch.randint(num_classes, (num_samples,), generator=generator)
    deviations = torch.arange(1, num_dims + 1).float() ** -0.5
    spread = 2 * _SPREAD.get(num_classes, 1.0) / num_dims**0.5
    means = spread * torch.randn(num_classes, num_dims, generator=generator)
    noise = torch.randn(num_samples, num_dims, generator=generator)
    mixing = torch.randn(num_dims, num_dims, generator=generator) / deviations.norm()
    shift = 0.3 * torch.randn(num_dims, generator=generator)
    features = ((means[labels] + noise) * deviations @ mixing + shift).relu()
    return Labelled(features, labels)


@dataclass(frozen=True)
class Found:
    """What one side made of the data."""

    C: float
    validation: Sequence[float]
    """Percent, for each C of the grid."""
    fits: Sequence[tuple[Any, Any]] = ()
    """Weights [K, D] and biases [K] on the train split, for each C; of the rival."""


def choose_by_sklearn(
    train: Labelled, validation: Labelled, grid: Sequence[float], max_iter: int
) -> Found:
    """scikit-learn's way through the protocol: fit every C, choose, fit again."""
    model = LogisticRegression(max_iter=max_iter, warm_start=True)
    features, labels = train.features.numpy(), train.labels.numpy()
    percents, fits = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for C in sorted(grid):
            model.set_params(C=C).fit(features, labels)
            score = model.score(validation.features.numpy(), validation.labels.numpy())
            percents[C], fits[C] = 100 * score, (model.coef_.copy(), model.intercept_.copy())
        best = max(grid, key=percents.__getitem__)
        model.coef_, model.intercept_ = fits[best]
        model.set_params(C=best).fit(
            torch.cat([train.features, validation.features]).numpy(),
            torch.cat([train.labels, validation.labels]).numpy(),
        )
    return Found(best, [percents[C] for C in grid], [fits[C] for C in grid])


def measure_objective(weight: Any, bias: Any, C: float, train: Labelled) -> float:
    """Mean loss + |W|² / (2 C N) in float64."""
    weight, bias = (torch.as_tensor(part).double().cpu() for part in (weight, bias))
    logits = train.features.double() @ weight.T + bias
    loss = torch.nn.functional.cross_entropy(logits, train.labels)
    return float(loss + weight.square().sum() / (2 * C * len(logits)))


def compare(
    data: Labelled,
    num_classes: int,
    max_iter: int,
    device: torch.device,
    repeats: int,
    grid: Sequence[float] = GRID,
) -> tuple[dict[str, float], ResultTable]:
    """Fits per second on both sides, and what they found."""
    labels = data.labels.numpy()
    splits = train_test_split(
        np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0
    )
    train, validation = (data.take(rows) for rows in splits)
    found: dict[str, Found] = {}

    def ours() -> None:
        choice = choose_and_fit(
            train, validation, _top1, num_classes=num_classes, device=device, grid=grid
        )
        found[OURS] = Found(choice.fit.C, choice.validation)

    def theirs() -> None:
        found[RIVAL] = choose_by_sklearn(train, validation, grid, max_iter)

    seconds = interleave({OURS: ours, RIVAL: theirs}, repeats, device, warm_up=0)
    fits = fit_logistic(train.features, train.labels, grid, num_classes=num_classes, device=device)
    above = [
        measure_objective(*fit, C, train) / measure_objective(own.weight, own.bias, C, train) - 1
        for fit, own, C in zip(found[RIVAL].fits, fits, grid, strict=True)
    ]
    rows: list[tuple[TableCell, ...]] = [
        (name, choice.C, choice.validation[grid.index(choice.C)], *bounds)
        for name, choice, bounds in (
            (OURS, found[OURS], (0.0, 0.0)),
            (RIVAL, found[RIVAL], (min(above), max(above))),
        )
    ]
    headings = ("", "C", "validation %", "objective above ours, at least", "at most")
    title = f"{num_classes} classes"
    rates = {name: (len(grid) + 1) / value for name, value in seconds.items()}
    return rates, ResultTable(title, headings, rows)


def _top1(scores: Tensor, labels: Tensor) -> float:
    """Percent."""
    return 100 * float((scores.argmax(1) == labels).double().mean())


def main() -> None:
    """Run the command line."""
    parser = common_parser("The linear transfer protocol, scikit-learn beside.")
    parser.add_argument("--num-samples", type=int, default=50_000)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--max-iter", type=int, default=100, help="scikit-learn's limit")
    parser.set_defaults(repeats=1)  # a turn is minutes
    arguments = parser.parse_args()
    _, device = prepare(arguments)
    rows: list[tuple[TableCell, ...]] = []
    tables = []
    with threadpool_limits(arguments.threads):
        for num_classes in arguments.classes:
            data = draw_features(arguments.num_samples, _NUM_DIMS, num_classes)
            rates, table = compare(data, num_classes, arguments.max_iter, device, arguments.repeats)
            rows += against_rivals(table.title, "fits/s", rates)
            tables.append(table)
    size = f"{arguments.num_samples} x {_NUM_DIMS}, {arguments.max_iter} iterations"
    for table in (tabulate_ratios(f"probe, {size}", device, rows), *tables):
        table.show()


if __name__ == "__main__":
    main()
