"""`python -m benchmarks.speed.probe`: the linear transfer protocol beside scikit-learn's solvers.

50,000 random features of 512 dimensions, made like those of a network (below), in 10 and in 100
classes; 20 % of them validate. Both sides fit all 45 values of C, score each on the validation
split, choose, and fit the chosen one again on everything. The rival is `LogisticRegression` on
float32, with its default tolerance, each fit started from the one before, from the strongest
penalty to the weakest (its quicker direction); up to 1,000 iterations, and, as `lbfgs, 100
iterations`, with its default limit, which is what Ericsson et al.'s code runs.

The two do not stop at the same place: scikit-learn stops at a largest component of the gradient of
1e-4, in the features' units. So the details say how far above our objective its is, and what either
chose.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from benchmarks.measure import BenchmarkRun, Figure, common_parser, interleave, prepare, publish
from pipeline.eval.logistic.choose_penalty import GRID, Labelled, choose_and_fit
from pipeline.eval.logistic.regression import fit_logistic
from pipeline.samples.seeding import torch_generator

_SPREAD = {10: 1.0, 100: 2.3}  # of the classes' means: neither trivial nor hopeless


@dataclass(frozen=True)
class Found:
    """What one side made of the data."""

    C: float
    validation: tuple[float, ...]
    """Percent, for each C of the grid."""
    fits: tuple[tuple[Any, Any], ...]
    """Weights [K, D] and biases [K] on the train split, for each C."""


def draw_features(
    num_samples: int, num_dims: int, num_classes: int, decay: float, seed: int = 0
) -> Labelled:
    """Features [N, D] float32 with labels: Gaussian clouds whose variances fall like i^-`decay`
    (about 1 in trained networks: Agrawal et al. 2022), mixed, shifted and rectified, as pooled
    features are.
    """
    generator = torch_generator(seed, "benchmarks/probe")
    labels = torch.randint(num_classes, (num_samples,), generator=generator)
    deviations = torch.arange(1, num_dims + 1).float() ** (-decay / 2)
    spread = 2 * _SPREAD.get(num_classes, 1.0) / num_dims**0.5
    means = spread * torch.randn(num_classes, num_dims, generator=generator)
    noise = torch.randn(num_samples, num_dims, generator=generator)
    mixing = torch.randn(num_dims, num_dims, generator=generator) / deviations.norm()
    shift = 0.3 * torch.randn(num_dims, generator=generator)
    features = ((means[labels] + noise) * deviations @ mixing + shift).relu()
    return Labelled(features, labels)


@dataclass(frozen=True)
class Rival:
    """scikit-learn's way through the protocol."""

    solver: str
    max_iter: int

    def choose(self, train: Labelled, validation: Labelled, grid: tuple[float, ...]) -> Found:
        """Fit every C, choose, fit again."""
        model = LogisticRegression(solver=self.solver, max_iter=self.max_iter, warm_start=True)
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
        return Found(best, tuple(percents[C] for C in grid), tuple(fits[C] for C in grid))


def measure_objective(weight: Any, bias: Any, C: float, train: Labelled) -> float:
    """Mean loss + |W|² / (2 C N) in float64."""
    weight, bias = (torch.as_tensor(part).double().cpu() for part in (weight, bias))
    logits = train.features.double() @ weight.T + bias
    loss = torch.nn.functional.cross_entropy(logits, train.labels)
    return float(loss + weight.square().sum() / (2 * C * len(logits)))


def compare(
    data: Labelled,
    num_classes: int,
    rivals: dict[str, Rival],
    device: torch.device,
    repeats: int,
    grid: tuple[float, ...] = GRID,
) -> tuple[list[Figure], dict[str, Any]]:
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
        found["ours"] = Found(choice.C, choice.validation, ())

    def run(name: str, rival: Rival) -> Callable[[], None]:
        def task() -> None:
            found[name] = rival.choose(train, validation, grid)

        return task

    tasks = {"ours": ours, **{name: run(name, rival) for name, rival in rivals.items()}}
    seconds = interleave(tasks, repeats, device, warm_up=0)
    fits = fit_logistic(train.features, train.labels, grid, num_classes=num_classes, device=device)
    objectives = [measure_objective(fit.weight, fit.bias, fit.C, train) for fit in fits]
    title = f"{num_classes} classes"
    num_fits = len(grid) + 1
    figures = [
        Figure(title, num_fits / seconds["ours"], "fits/s", name, num_fits / seconds[name])
        for name in rivals
    ]
    details: dict[str, Any] = {f"{title}, ours": _describe(found["ours"], grid, seconds["ours"])}
    for name in rivals:
        other = found[name]
        above = [
            measure_objective(*fit, C, train) / own - 1
            for fit, C, own in zip(other.fits, grid, objectives, strict=True)
        ]
        details[f"{title}, {name}"] = {
            **_describe(other, grid, seconds[name]),
            "objective above ours, relative, at most": max(above),
            "at least": min(above),
            "validation at our C": other.validation[grid.index(found["ours"].C)],
        }
    return figures, details


def _describe(found: Found, grid: tuple[float, ...], seconds: float) -> dict[str, Any]:
    best = found.validation[grid.index(found.C)]
    return {"seconds": seconds, "C": found.C, "validation %": round(best, 2)}


def _top1(scores: Tensor, labels: Tensor) -> float:
    """Percent."""
    return 100 * float((scores.argmax(1) == labels).double().mean())


def main(argv: list[str] | None = None) -> BenchmarkRun:
    """Run the command line; `argv` defaults to the process's."""
    started = time.perf_counter()
    parser = common_parser("The linear transfer protocol, scikit-learn beside.")
    parser.add_argument("--num-samples", type=int, default=50_000)
    parser.add_argument("--num-dims", type=int, default=512)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--decay", type=float, default=1.0, help="exponent of the spectrum")
    parser.add_argument("--solver", default="lbfgs", help="scikit-learn's")
    parser.add_argument("--max-iter", type=int, nargs="+", default=[100, 1000], help="its limits")
    parser.add_argument("--num-penalties", type=int, default=len(GRID), help="values of C")
    parser.set_defaults(repeats=1)  # a turn is minutes
    arguments = parser.parse_args(argv)
    _, device = prepare(arguments)
    places = np.linspace(0, len(GRID) - 1, arguments.num_penalties).round().astype(int)
    grid = tuple(GRID[place] for place in places)
    solver = arguments.solver
    rivals = {f"{solver}, {limit} iterations": Rival(solver, limit) for limit in arguments.max_iter}
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    with threadpool_limits(arguments.threads):
        for num_classes in arguments.classes:
            data = draw_features(
                arguments.num_samples, arguments.num_dims, num_classes, arguments.decay
            )
            rows, found = compare(data, num_classes, rivals, device, arguments.repeats, grid)
            figures += rows
            details |= found
    details["size"] = f"{arguments.num_samples} x {arguments.num_dims}, decay {arguments.decay:g}"
    details["repeats"] = arguments.repeats
    run = BenchmarkRun("probe", device, figures, details)
    publish(run, arguments.json, started)
    return run


if __name__ == "__main__":
    main()
